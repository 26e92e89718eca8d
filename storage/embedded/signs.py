"""A process comes in, a mark goes out that changes while it or anything it started does some work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

_PARENT, _GROUP, _USER_TICKS, _SYSTEM_TICKS = 1, 2, 11, 12
_ENOUGH_TICKS = 10
"""A process that only waits for others wakes up now and then, for less than this in a minute."""


class Work(msgspec.Struct, frozen=True):
    """What a process and all that it started have done so far."""

    ticks: int
    """Of time on a processor, in hundredths of a second."""
    read_bytes: int
    """From a disk."""
    logged_bytes: int

    def since(self, before: Work) -> bool:
        """Whether something was done."""
        if (self.read_bytes, self.logged_bytes) != (before.read_bytes, before.logged_bytes):
            return True
        # Less than before: one of them has ended.
        return self.ticks < before.ticks or self.ticks - before.ticks >= _ENOUGH_TICKS


def work(pid: int, log_path: Path) -> Work:
    """What the process `pid`, its group and its descendants have done. Nothing, where all have ended."""
    ticks = read_bytes = 0
    for one, fields in _family(pid):
        ticks += int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
        read_bytes += _read_bytes(one)
    logged_bytes = 0
    with suppress(OSError):
        logged_bytes = log_path.stat().st_size
    return Work(ticks, read_bytes, logged_bytes)


def _family(pid: int) -> Iterator[tuple[int, list[str]]]:
    """The numbers and fields of the processes that belong to `pid`: some have a group of their own."""
    fields = dict(_processes())
    for one, its in fields.items():
        above, seen = one, set[int]()
        while above in fields and above != pid and above not in seen:
            seen.add(above)
            above = int(fields[above][_PARENT])
        if above == pid or int(its[_GROUP]) == pid:
            yield one, its


def _processes() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has ended.
            yield int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()


def _read_bytes(pid: int) -> int:
    with suppress(OSError, ValueError):  # It has ended, or we may not look.
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("read_bytes:"):
                return int(line.split()[1])
    return 0
