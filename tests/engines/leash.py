"""Runs a command whose whole process group ends when this program's standard input closes.

The starter holds the other end of that pipe, so nothing outlives it, however it ends:  python leash.py COMMAND ...
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_S = 15.0
TRACKER_GRACE_S = 5.0
TRACKER = b"multiprocessing.resource_tracker"
"""Python's own process that removes shared memory which its users left; it ends by itself once they all have."""


def main() -> int:
    """Start the command, end it with the pipe, and leave nothing of its group behind."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=end_with_input, args=(child,), daemon=True).start()
    status = child.wait()
    kill_group(child.pid)
    return status


def end_with_input(child: "subprocess.Popen[bytes]") -> None:
    """Ask the group to end as soon as nobody holds the pipe; insist after a while."""
    while os.read(0, 4096):  # not `sys.stdin`, whose lock this thread would hold when the program ends
        pass
    signal_group(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    kill_group(child.pid)


def kill_group(group: int) -> None:
    """Kill every process of the group; its trackers only when they do not get done."""
    deadline = time.monotonic() + TRACKER_GRACE_S
    while (commands := dict(members(group))) and time.monotonic() < deadline:
        for process, command in commands.items():
            if TRACKER not in command:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    signal_group(group, signal.SIGKILL)


def members(group: int) -> Iterator[tuple[int, bytes]]:
    """Yield the pid and the command line of each process of the group that has not ended; none without /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, _, of_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state not in {"Z", "X"}:
                yield int(folder.name), (folder / "cmdline").read_bytes()


def signal_group(group: int, number: int) -> None:
    """Signal every process of the group; a group that has ended is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
