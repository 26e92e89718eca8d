"""A worker's end of the pipes to its parent: lines come in on stdin, and what it has to say goes out on stdout.

What is said is told in `gateway/supervisor/__init__.py`.
"""

import asyncio
import itertools
import os
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from gateway import config as settings
from gateway.config import Config, ConfigError
from gateway.errors import StorageUnavailable
from storage.errors import AskonceError

_PIECE: Final = 2**16
_RELOAD_S: Final = 30.0
_STANDBY_S: Final = 30.0
_ORPHAN_S: Final = 2.0
"""How long a worker has for its requests and last answers when its parent was killed; a next start gives no more."""


class Told(msgspec.Struct, omit_defaults=True):
    """One line from the parent, after the first."""

    serial: int = 0
    """Of `config`, for the worker to say that it has it."""
    config: msgspec.Raw = msgspec.Raw(b"")
    asked: int = 0
    """The number of the worker's own question that this answers."""
    changed: tuple[str, ...] = ()
    address: str = ""
    refused: str = ""


class NoParent(AskonceError):
    """Nobody can be asked to read the settings again."""


class Parent:
    """The process that started this one."""

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._rest = b""
        self._use: Callable[[Config], None] | None = None
        self._numbers = itertools.count(1)
        self._asking: dict[int, asyncio.Future[Told]] = {}

    def first(self) -> bytes:
        """The first line; empty when there is none. Blocks."""
        while b"\n" not in self._rest:
            if not (said := os.read(self._fd, _PIECE)):
                return b""
            self._rest += said
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def heed(self, use: Callable[[Config], None]) -> None:
        """From now on, call `use` with other settings when there are some."""
        self._use = use
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        self._heard()

    async def reload(self) -> tuple[str, ...]:
        """Have the settings read again and used by all workers; what has changed. Raises `ConfigError`."""
        told = await self._told("reload", _RELOAD_S)
        if told.refused:
            raise ConfigError(told.refused)
        return told.changed

    async def standby(self) -> str:
        """The URL of a copy of the embedded Postgres that statements of tenants may hurt; it is made when it is not
        there. Raises `StorageUnavailable`: a copy of much takes its time.
        """
        try:
            told = await self._told("standby", _STANDBY_S)
        except StorageUnavailable as error:
            message = "the copy of it that statements run on is still being made; try again soon."
            raise StorageUnavailable(message) from error
        if told.refused:
            raise StorageUnavailable(told.refused)
        return told.address

    async def _told(self, wish: str, patience_s: float) -> Told:
        number = next(self._numbers)
        self._asking[number] = asyncio.get_running_loop().create_future()
        _say(f"{wish} {number}")
        try:
            async with asyncio.timeout(patience_s):
                return await self._asking[number]
        except TimeoutError as error:
            message = "The process that started this gateway does not answer yet; its log may say why."
            raise StorageUnavailable(message) from error
        finally:
            del self._asking[number]

    def _read(self) -> None:
        said = os.read(self._fd, _PIECE)
        if not said:  # it has gone, and the kernel has told this process, and the servers that it started, to end
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fd)
            loop.call_later(_ORPHAN_S, os._exit, 1)
        self._rest += said
        self._heard()

    def _heard(self) -> None:
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            told = msgspec.json.decode(line, type=Told)
            if told.serial and self._use is not None:
                self._apply(told, self._use)
            elif (asking := self._asking.get(told.asked)) is not None and not asking.done():
                asking.set_result(told)

    def _apply(self, told: Told, use: Callable[[Config], None]) -> None:
        try:
            use(settings.decoded(bytes(told.config)))
        except (AskonceError, msgspec.DecodeError) as error:
            print(f"New settings could not be used: {error}", file=sys.stderr)  # noqa: T201 -- the log is stderr
        _say(f"using {told.serial}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
