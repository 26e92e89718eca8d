"""A command comes in, a process that is kept running goes out: started again when it dies or no longer answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress

import msgspec

from storage.embedded import leftover, signs
from storage.embedded.child import Child, Command
from storage.errors import EmbeddedError

_POLL_S = 0.01
_FIRST_PAUSE_S = 0.2
_STEADY_AFTER_S = 30.0

Answers = Callable[[], Awaitable[bool]]
Notify = Callable[[str], None]


class Care(msgspec.Struct, frozen=True, kw_only=True):
    """What is done for a process besides starting it again when it has ended."""

    healthy: Answers | None = None
    """Asked while it serves; a process that does not answer for `patience_s` is ended, and so started again."""
    patience_s: float = 60.0
    check_s: float = 2.0
    renewed: Callable[[Command], Awaitable[Command]] | None = None
    """The command for each start after the first, made of the last. Raises `EmbeddedError` while it may not start."""
    starting: Callable[[Child], AbstractAsyncContextManager[object]] | None = None
    """Entered for as long as a start takes, to show how far it is."""
    stuck_s: float = 120.0
    """A process that does no work for so long while it starts is given up; one that works may take its time."""
    longest_pause_s: float = 10.0
    cause: Callable[[str], str] | None = None
    """What a log says of why its process ended; the last line, where this says nothing."""
    log_check_s: float = 10.0
    """How often its log is kept from growing too large."""
    last_lines: int = 0
    """How many lines of the log are shown when a start fails."""


@asynccontextmanager
async def running(
    command: Command,
    *,
    ready: Answers,
    start_timeout_s: float = 60.0,
    notify: Notify | None = None,
    care: Care | None = None,
) -> AsyncGenerator[Child]:
    """Run `command` for the length of the block, entered once `ready()` is true; a process that dies is started again.

    `notify` is told, in one sentence, whenever that happens. A process that an earlier parent left is stopped first.

    Raises:
        EmbeddedError: it ended, did no work for long, or was not ready within `start_timeout_s`; the message says why,
            as its log does.
    """
    await leftover.ended(command.record_path, command.stop_signal, grace_s=command.grace_s)
    keeper = _Keeper(Child(command), ready, start_timeout_s, notify or (lambda _: None), care or Care())
    child = keeper.child
    try:
        await keeper.start(command)
        revival = asyncio.create_task(keeper.keep())
        try:
            yield child
        finally:
            revival.cancel()
            await asyncio.wait([revival])
    finally:
        await child.stop()


class _Keeper:
    """One process, and its successors."""

    def __init__(self, child: Child, ready: Answers, start_timeout_s: float, notify: Notify, care: Care) -> None:
        self.child = child
        self._ready = ready
        self._start_timeout_s = start_timeout_s
        self._notify = notify
        self._care = care

    async def start(self, command: Command) -> None:
        """Start it, and wait until it is ready. Raises `EmbeddedError`."""
        await self.child.start(command)
        async with self._care.starting(self.child) if self._care.starting else nullcontext():
            await self._until_ready()

    async def keep(self) -> None:
        """Start it again whenever it is lost; only returns by cancellation."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            since_s = loop.time()
            why = await self._lost()
            if loop.time() - since_s > _STEADY_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            said = f"{self.child.command.name} {why}; starting it again in"
            while True:
                self._notify(f"{said} {pause_s:.1f} s.")
                await self.child.stop()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._care.longest_pause_s)
                try:
                    await self._start_again()
                    break
                except EmbeddedError as failed:
                    said = f"{failed} Trying again in"

    async def _start_again(self) -> None:
        started_s = asyncio.get_running_loop().time()
        # It has been ready: what the advice says of was right.
        command = msgspec.structs.replace(self.child.command, advice="")
        if self._care.renewed is not None:
            command = await self._care.renewed(command)
        await self.start(command)
        took_s = asyncio.get_running_loop().time() - started_s
        self._notify(f"{command.name} is back after {took_s:.1f} s.")

    async def _lost(self) -> str:
        """Wait until it has ended, or has not answered for too long; what happened."""
        ended = asyncio.create_task(self.child.wait())
        silent = asyncio.create_task(self._silent())
        bounding = asyncio.create_task(self._bounding())
        try:
            await asyncio.wait({ended, silent}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return f"ended with status {ended.result()}"
            return f"has not answered for {self._care.patience_s:.0f} s"
        finally:
            ended.cancel()
            silent.cancel()
            bounding.cancel()

    async def _bounding(self) -> None:
        """Keep its log small; only returns by cancellation."""
        while True:
            await asyncio.sleep(self._care.log_check_s)
            with suppress(OSError):  # Somebody took it away, or the disk is full.
                self.child.bound_log()

    async def _silent(self) -> None:
        """Return once it has not answered for `patience_s`; never, where nobody can ask it."""
        loop = asyncio.get_running_loop()
        if self._care.healthy is None:
            await asyncio.Event().wait()
            return
        heard_s = loop.time()
        while loop.time() - heard_s < self._care.patience_s:
            await asyncio.sleep(self._care.check_s)
            if await self._care.healthy():
                heard_s = loop.time()

    async def _until_ready(self) -> None:
        stuck = asyncio.create_task(self._stuck())
        try:
            async with asyncio.timeout(self._start_timeout_s):
                while not await self._ready():
                    if self.child.exit_status is not None:
                        what = f"ended with status {self.child.exit_status} while starting"
                        raise EmbeddedError(self._failure(what))
                    if stuck.done():
                        what = f"did nothing for {self._care.stuck_s:.0f} s while starting"
                        raise EmbeddedError(self._failure(what))
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            what = f"was not ready within {self._start_timeout_s:.0f} s"
            raise EmbeddedError(self._failure(what)) from None
        finally:
            stuck.cancel()

    async def _stuck(self) -> None:
        """Return once it has done no work for `stuck_s`."""
        child, every_s = self.child, self._care.check_s
        before, still_s = await asyncio.to_thread(signs.work, child.pid, child.command.log_path), 0.0
        while still_s < self._care.stuck_s:
            await asyncio.sleep(every_s)
            now = await asyncio.to_thread(signs.work, child.pid, child.command.log_path)
            if now.since(before):
                before, still_s = now, 0.0
            else:  # Looks are counted and not time: we may have been stopped ourselves.
                still_s += every_s

    def _failure(self, what: str) -> str:
        cause = self._care.cause(self.child.logged().decode(errors="replace")) if self._care.cause else ""
        last_line = cause or self.child.tail(lines=1).strip()
        said = f": {last_line}" if last_line else ""
        command = self.child.command
        if self._care.last_lines and (lines := self.child.tail(self._care.last_lines)):
            self._notify(f"the last lines of {command.log_path}:\n{lines}")
        return f"{command.name} {what}{said} (its log: {command.log_path}). {command.advice}".strip()
