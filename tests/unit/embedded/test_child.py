"""One child process: its log, its start, its end."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from storage.embedded import leftover
from storage.embedded.child import Child, Command, running
from storage.errors import EmbeddedError


def shell(tmp_path: Path, script: str, *, grace_s: float = 5.0) -> Command:
    """A command that runs a line of shell."""
    return Command(
        name="Example",
        argv=("/bin/sh", "-c", script),
        log_path=tmp_path / "example.log",
        record_path=tmp_path / "example.pid",
        grace_s=grace_s,
        advice="Try another.",
    )


async def at_once() -> bool:
    """Ready without a question."""
    return True


async def never() -> bool:
    """Not ready, ever."""
    return False


async def test_an_early_end_is_explained(tmp_path: Path) -> None:
    """The message has the status, the last line of this run's log, and the advice."""
    (tmp_path / "example.log").write_text("from an earlier run\n")
    with pytest.raises(EmbeddedError) as failed:
        async with running(shell(tmp_path, "echo first; echo it broke; exit 7"), ready=never):
            pass
    assert str(failed.value) == (
        f"Example ended with status 7 while starting: it broke (its log: {tmp_path}/example.log). Try another."
    )


async def test_silence_is_limited(tmp_path: Path) -> None:
    """A program that never gets ready is stopped."""
    with pytest.raises(EmbeddedError, match="was not ready within 0 s"):
        async with running(shell(tmp_path, "exec sleep 60"), ready=never, start_timeout_s=0.2):
            pass
    assert not (tmp_path / "example.pid").exists()


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    """As the system says it."""
    command = Command(name="Example", argv=("/no/such",), log_path=tmp_path / "log", record_path=tmp_path / "pid")
    with pytest.raises(EmbeddedError, match=r"Example could not be started: .*No such file"):
        await Child(command).start()


async def test_who_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    """After the grace time, with its whole process group."""
    async with running(shell(tmp_path, "trap '' TERM; sleep 60 & wait; wait", grace_s=0.3), ready=at_once) as child:
        await asyncio.sleep(0.1)
    assert child.exit_status == -signal.SIGKILL


async def test_it_has_its_own_process_group(tmp_path: Path) -> None:
    """A Ctrl-C in the terminal is not for it."""
    async with running(shell(tmp_path, "exec sleep 60"), ready=at_once) as child:
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


async def test_it_is_started_again(tmp_path: Path) -> None:
    """Until the block ends."""
    notices: list[str] = []
    async with running(shell(tmp_path, "exec sleep 60"), ready=at_once, notify=notices.append) as child:
        first = child.pid
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(10):
            while child.pid == first:  # noqa: ASYNC110 -- there is nothing to wait on from outside
                await asyncio.sleep(0.02)
        second = child.pid
    assert notices == ["Example ended with status -9; starting it again in 0.2 s."]
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def test_a_leftover_is_ended_first(tmp_path: Path) -> None:
    """The record of a living process that lost its parent leads to its end."""
    command = shell(tmp_path, "exec sleep 60")
    orphan = Child(command)
    await orphan.start()
    async with running(command, ready=at_once) as child:
        assert await orphan.wait() == -signal.SIGTERM
        assert child.pid != orphan.pid


async def test_a_record_of_another_process_is_harmless(tmp_path: Path) -> None:
    """The same pid with another start time, or from before a reboot, is somebody else."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()  # noqa: ASYNC240 -- the kernel's memory
    ticks = leftover._started_ticks(os.getpid())
    for started_ticks, boot in ((ticks + 1, boot_id), (ticks, "another")):
        record = leftover.ProcessRecord(pid=os.getpid(), started_ticks=started_ticks, boot_id=boot)
        leftover_path = tmp_path / "example.pid"
        leftover_path.write_bytes(leftover.msgspec.json.encode(record))
        await leftover.ended(leftover_path, signal.SIGTERM, grace_s=0.1)


async def test_an_old_log_is_put_aside(tmp_path: Path) -> None:
    """One older log is kept, so the folder does not fill up."""
    (tmp_path / "example.log").write_bytes(b"x" * (9 * 2**20))
    async with running(shell(tmp_path, "exec sleep 60"), ready=at_once):
        pass
    assert (tmp_path / "example.old.log").stat().st_size == 9 * 2**20
    assert (tmp_path / "example.log").stat().st_size == 0
