"""A command comes in, one running process goes out: logged, restarted when it dies, ended with its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from storage.embedded import leftover
from storage.embedded.privileges import Identity, before_exec
from storage.errors import EmbeddedError

_POLL_S = 0.01
_LOG_MAX_BYTES = 8 * 2**20
_TAIL_MAX_BYTES = 16 * 2**10
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_STEADY_AFTER_S = 30.0

Notify = Callable[[str], None]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one program.

    `record_path` keeps its pid for a successor of this process; `advice` ends every message about its not starting.
    """

    name: str
    argv: tuple[str, ...]
    log_path: Path
    record_path: Path
    env: Mapping[str, str] | None = None
    identity: Identity | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0
    advice: str = ""


class Child:
    """One process of `command`, started with `start`; it must be started from the main thread.

    The kernel sends a child its stop signal when the *thread* that forked it ends, so a pool's thread will not do.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self._process: asyncio.subprocess.Process | None = None
        self._log_start_bytes = 0

    @property
    def pid(self) -> int:
        """The process id; only valid once started."""
        return self._started().pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative numbers are signals."""
        return self._process.returncode if self._process else None

    async def start(self) -> None:
        """Start the process.

        Raises:
            EmbeddedError: the program is missing, or may not be run as the wanted user.
        """
        command = self.command
        _rotate(command.log_path)
        record, change = leftover.recorder(command.record_path), before_exec(command.stop_signal, command.identity)

        def in_child() -> None:
            record()
            change()

        with command.log_path.open("ab") as log:
            self._log_start_bytes = log.tell()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=command.env,
                    process_group=0,  # Ctrl-C reaches the parent only; it decides the order of stopping.
                    preexec_fn=in_child,
                )
            except OSError as refused:
                raise EmbeddedError(f"{command.name} could not be started: {refused}. {command.advice}") from refused
            except subprocess.SubprocessError as refused:  # All it says is that `in_child` failed.
                message = f"{command.name} could not be started: the system does not let us change to its user."
                raise EmbeddedError(f"{message} {command.advice}") from refused

    async def wait(self) -> int:
        """The exit status, once it has ended."""
        return await self._started().wait()

    async def stop(self) -> None:
        """Ask it to stop, then kill its process group when `grace_s` seconds were not enough."""
        if self._process is None:
            return
        if self._process.returncode is None:
            await self._end(self._process)
        self.command.record_path.unlink(missing_ok=True)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(self.command.stop_signal)
        try:
            async with asyncio.timeout(self.command.grace_s):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise EmbeddedError(f"{self.command.name} was not started.")
        return self._process

    def tail(self, lines: int = 5) -> str:
        """The last lines that this process logged, for an error message."""
        with self.command.log_path.open("rb") as log:
            end_bytes = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start_bytes, end_bytes - _TAIL_MAX_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


@asynccontextmanager
async def running(
    command: Command,
    *,
    ready: Callable[[], Awaitable[bool]],
    start_timeout_s: float = 60.0,
    notify: Notify | None = None,
) -> AsyncGenerator[Child]:
    """Run `command` for the length of the block, entered once `ready()` is true; a process that dies is started again.

    `notify` is told, in one sentence, whenever that happens. A process that an earlier parent left is stopped first.

    Raises:
        EmbeddedError: it ended, or was not ready within `start_timeout_s`; the message has the last line of its log.
    """
    await leftover.ended(command.record_path, command.stop_signal, grace_s=command.grace_s)
    child = Child(command)
    try:
        await child.start()
        await _until_ready(child, ready, start_timeout_s)
        revival = asyncio.create_task(_revive(child, notify or (lambda _: None)))
        try:
            yield child
        finally:
            revival.cancel()
            await asyncio.wait([revival])
    finally:
        await child.stop()


async def _until_ready(child: Child, ready: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not await ready():
                if child.exit_status is not None:
                    raise EmbeddedError(_failure(child, f"ended with status {child.exit_status} while starting"))
                await asyncio.sleep(_POLL_S)
            return
    raise EmbeddedError(_failure(child, f"was not ready within {timeout_s:.0f} s"))


def _failure(child: Child, what: str) -> str:
    last_line = child.tail(lines=1).strip()
    said = f": {last_line}" if last_line else ""
    command = child.command
    return f"{command.name} {what}{said} (its log: {command.log_path}). {command.advice}".strip()


async def _revive(child: Child, notify: Notify) -> None:
    loop = asyncio.get_running_loop()
    pause_s = _FIRST_PAUSE_S
    while True:
        started_s = loop.time()
        status = await child.wait()
        if loop.time() - started_s > _STEADY_AFTER_S:
            pause_s = _FIRST_PAUSE_S
        notify(f"{child.command.name} ended with status {status}; starting it again in {pause_s:.1f} s.")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        try:
            await child.start()
        except EmbeddedError as refused:
            notify(str(refused))


def _rotate(log_path: Path) -> None:
    """Keep one older log, so that a data folder does not fill up with them."""
    if log_path.exists() and log_path.stat().st_size > _LOG_MAX_BYTES:
        log_path.replace(log_path.with_suffix(".old.log"))
