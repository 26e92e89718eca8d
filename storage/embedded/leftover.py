"""The record of a child that an earlier, killed parent left running comes in; it returns once that process is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

_POLL_S = 0.02


class ProcessRecord(msgspec.Struct, frozen=True):
    """One process, not just one pid: pids are used again, after a reboot with the same start time too."""

    pid: int
    started_ticks: int
    boot_id: str


def recorder(path: Path) -> Callable[[], None]:
    """What a child runs between fork and exec to leave its record at `path`: no moment of its life goes unrecorded."""
    boot_id = _boot_id()

    def record() -> None:
        pid = os.getpid()
        current = ProcessRecord(pid=pid, started_ticks=_started_ticks(pid), boot_id=boot_id)
        path.write_bytes(msgspec.json.encode(current))

    return record


async def ended(path: Path, stop_signal: signal.Signals, *, grace_s: float) -> None:
    """Wait until the process recorded at `path` is gone; it is asked to stop, and killed after `grace_s` seconds.

    So is what it started, as far as that stayed in its process group. Only for whoever holds the data folder: then a
    recorded process that still lives has lost its parent. A missing, damaged or outdated record means that there is
    nothing to wait for.
    """
    record = _read(path)
    if record is None or record.boot_id != _boot_id():
        return
    for request in (stop_signal, signal.SIGKILL):
        if not _lives(record):
            break
        try:
            os.kill(record.pid, request)
        except (ProcessLookupError, PermissionError):
            break
        await _gone(record, grace_s)
    if not _taken(record):  # Else it is the number of somebody else, and perhaps of a group of theirs.
        await group_ended(record.pid, grace_s=grace_s, since_ticks=record.started_ticks)


async def group_ended(group: int, *, grace_s: float, since_ticks: int = 0) -> None:
    """Kill what is left of a process group whose first process has ended, and wait for at most `grace_s` seconds.

    Processes that were started before `since_ticks` belong to another group that had the same number.
    """
    for _ in range(int(grace_s / _POLL_S)):
        left = [pid for pid, ticks in _members(group) if ticks >= since_ticks]
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_POLL_S)


def _taken(record: ProcessRecord) -> bool:
    """Whether another process has the number now. Our own may still be there, as a zombie that nobody waits for."""
    try:
        return _stat(record.pid)[1] != record.started_ticks
    except (FileNotFoundError, ProcessLookupError):
        return False


def _members(group: int) -> Iterator[tuple[int, int]]:
    """The process ids and start times of a process group; zombies have ended."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, of_group, *others = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(of_group) == group and state not in {"Z", "X"}:
                yield int(folder.name), int(others[16])


async def _gone(record: ProcessRecord, timeout_s: float) -> None:
    for _ in range(int(timeout_s / _POLL_S)):
        if not _lives(record):
            return
        await asyncio.sleep(_POLL_S)


def _read(path: Path) -> ProcessRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ProcessRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _lives(record: ProcessRecord) -> bool:
    if record.boot_id != _boot_id():
        return False
    try:
        return _started_ticks(record.pid) == record.started_ticks
    except (FileNotFoundError, ProcessLookupError):
        return False


def _started_ticks(pid: int) -> int:
    """The start time in clock ticks since boot; a zombie has ended and counts as not found."""
    state, ticks = _stat(pid)
    if state in {"Z", "X"}:
        raise ProcessLookupError(pid)
    return ticks


def _stat(pid: int) -> tuple[str, int]:
    """A process' state, and its start time in clock ticks since boot."""
    # The name, in brackets, may itself hold spaces and brackets.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
