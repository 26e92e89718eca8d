"""A command comes in, one process goes out: logged, recorded, and ended with its parent and all that it started."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from storage.embedded import leftover
from storage.embedded.privileges import Identity, before_exec
from storage.errors import EmbeddedError

_LOG_MAX_BYTES = 8 * 2**20
_TAIL_MAX_BYTES = 16 * 2**10
_GROUP_GRACE_S = 5.0


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
    memory_max_bytes: int = 0
    """Address space of each of its processes; 0 is no bound."""


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

    async def start(self, command: Command | None = None) -> None:
        """Start the process; `command` takes the place of the last one.

        Raises:
            EmbeddedError: the program is missing, or may not be run as the wanted user.
        """
        command = self.command = command or self.command
        _rotate(command.log_path)
        record, change = leftover.recorder(command.record_path), before_exec(command.stop_signal, command.identity)

        def in_child() -> None:
            record()
            if command.memory_max_bytes:
                resource.setrlimit(resource.RLIMIT_AS, (command.memory_max_bytes, command.memory_max_bytes))
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
        await self.end_group()
        self.command.record_path.unlink(missing_ok=True)

    async def end_group(self) -> None:
        """Wait for what a process that has ended leaves of its group: it may hold memory, a device or a port."""
        if self._process is not None and self._process.returncode is not None:
            await leftover.group_ended(self._process.pid, grace_s=_GROUP_GRACE_S)

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

    def logged(self, after_bytes: int = 0) -> bytes:
        """What this process has logged, but for its first `after_bytes`."""
        with self.command.log_path.open("rb") as log:
            log.seek(self._log_start_bytes + after_bytes)
            return log.read()

    def bound_log(self) -> None:
        """Move what a running process has logged to the older log when it is too much; it writes on in an empty one."""
        path = self.command.log_path
        if path.stat().st_size <= _LOG_MAX_BYTES:
            return
        with path.open("r+b") as log:  # the process has it open: it cannot be renamed
            log.seek(-_LOG_MAX_BYTES, os.SEEK_END)
            older = path.with_suffix(".old.log")
            older.write_bytes(log.read())
            log.truncate(0)
        self._log_start_bytes = 0


def _rotate(log_path: Path) -> None:
    """Keep one older log, so that a data folder does not fill up with them."""
    if log_path.exists() and log_path.stat().st_size > _LOG_MAX_BYTES:
        log_path.replace(log_path.with_suffix(".old.log"))
