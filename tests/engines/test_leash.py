"""What the leash ends leaves nothing behind, on the machine's disks and in its shared memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.child import ROOT, stop

SHARED = Path("/dev/shm")
IMPATIENT = "import sys; from tests.engines import leash; leash.GRACE_S = 0.5; sys.exit(leash.main())"
SHARING = """
import multiprocessing, signal, sys
from multiprocessing import shared_memory
signal.signal(signal.SIGTERM, signal.SIG_DFL if sys.argv[1] == "ends" else signal.SIG_IGN)
memory = [shared_memory.SharedMemory(create=True, size=1000) for _ in range(20)]
lock = multiprocessing.get_context("spawn").Lock()
print(*(each.name for each in memory), "sem" + lock._semlock.name.replace("/", "."), flush=True)
signal.pause()
"""


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared memory is no folder here")
@pytest.mark.parametrize("when_asked", ["ends", "stays"])
def test_shared_memory_is_removed(when_asked: str) -> None:
    """Also that of a program that has to be killed: Python's resource tracker, in its group, may finish first."""
    command = [sys.executable, "-c", IMPATIENT, sys.executable, "-c", SHARING, when_asked]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    assert process.stdout is not None
    with process.stdout:
        shared = [SHARED / name for name in process.stdout.readline().decode().split()]
    assert len(shared) == 21
    assert all(file.exists() for file in shared)
    stop(process)
    assert [file for file in shared if file.exists()] == []
