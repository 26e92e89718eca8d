"""A log that is being written comes in; what it says of how far a start is goes out, to whoever shows the user."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.engines.engine import Tell
from storage.embedded.child import Child

_POLL_S: Final = 0.25
_LINE_ENDS: Final = re.compile(rb"[\r\n]+")  # progress bars write over themselves


class Said(msgspec.Struct, frozen=True):
    """How far it is, in words, and as a share from 0 to 1 where that is known."""

    words: str
    share: float | None = None


Starting = Callable[[Child], AbstractAsyncContextManager[object]]


def reading(tell: Tell, name: str, understood: Callable[[str], Said | None]) -> Starting:
    """For `Care.starting`: shows what `understood` makes of the log's lines, for the length of a start."""

    @asynccontextmanager
    async def shown(child: Child) -> AsyncGenerator[None]:
        async with _repeating(_Reader(child, tell, name, understood).look):
            yield
        tell.settled(name)

    return shown


def measuring(tell: Tell, name: str, size_bytes: int) -> Starting:
    """For `Care.starting`: shows how much of `size_bytes` is in the memory of a process that says nothing."""

    @asynccontextmanager
    async def shown(child: Child) -> AsyncGenerator[None]:
        def look() -> None:
            share = min(1.0, _resident_bytes(child.pid) / max(1, size_bytes))
            tell.moving(name, f"loading {size_bytes / 2**20:.0f} MiB", share)

        async with _repeating(look):
            yield
        tell.settled(name)

    return shown


@asynccontextmanager
async def _repeating(look: Callable[[], None]) -> AsyncGenerator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            look()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class _Reader:
    """Reads what is new in a child's log."""

    def __init__(self, child: Child, tell: Tell, name: str, understood: Callable[[str], Said | None]) -> None:
        self._child = child
        self._tell = tell
        self._name = name
        self._understood = understood
        self._read_bytes = 0

    def look(self) -> None:
        """Show the last thing that was said."""
        news = self._child.logged(self._read_bytes)
        lines = _LINE_ENDS.split(news)
        self._read_bytes += len(news) - len(lines[-1])  # an unfinished line is read again
        for line in lines:
            if (said := self._understood(line.decode(errors="replace"))) is not None:
                self._tell.moving(self._name, said.words, said.share)


def _resident_bytes(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0
