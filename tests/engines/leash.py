"""Runs a command whose whole process group ends when this program's standard input closes.

The starter holds the other end of that pipe, so nothing outlives it, however it ends:  python leash.py COMMAND ...
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_S = 15.0


def main() -> int:
    """Start the command, end it with the pipe, and leave nothing of its group behind."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=end_with_input, args=(child,), daemon=True).start()
    status = child.wait()
    signal_group(child.pid, signal.SIGKILL)
    return status


def end_with_input(child: "subprocess.Popen[bytes]") -> None:
    """Ask the group to end as soon as nobody holds the pipe; insist after a while."""
    while os.read(0, 4096):  # not `sys.stdin`, whose lock this thread would hold when the program ends
        pass
    signal_group(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    signal_group(child.pid, signal.SIGKILL)


def signal_group(group: int, number: int) -> None:
    """Signal every process of the group; a group that has ended is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
