"""One child process: its log, its start, its end."""

import asyncio
import os
import re
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from storage.embedded import leftover, signs
from storage.embedded.child import Child, Command
from storage.embedded.running import Care, running
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


async def test_who_is_stuck_while_starting_is_given_up(tmp_path: Path) -> None:
    """Long before the time that one that works may take."""
    care = Care(stuck_s=0.3, check_s=0.05)
    with pytest.raises(EmbeddedError, match="did nothing for 0 s while starting"):
        async with running(shell(tmp_path, "exec sleep 60"), ready=never, start_timeout_s=60, care=care):
            pass
    assert not (tmp_path / "example.pid").exists()


async def test_who_works_may_take_its_time(tmp_path: Path) -> None:
    """Each sign of life counts anew."""
    care = Care(stuck_s=0.3, check_s=0.1)
    asked = 0

    async def at_last() -> bool:
        nonlocal asked
        asked += 1
        with (tmp_path / "example.log").open("a") as log:
            log.write("line\n")
        return asked > 150  # of one every 0.01 s

    async with running(shell(tmp_path, "exec sleep 60"), ready=at_last, start_timeout_s=60, care=care) as child:
        assert child.exit_status is None


@pytest.mark.parametrize(
    "working",
    [
        "while :; do echo line; sleep 0.02; done",
        "ulimit -t 60; while :; do :; done",
        "timeout 60 sh -c 'while :; do :; done'",
    ],
    ids=["logs", "computes", "has another compute"],
)
async def test_work_is_seen(tmp_path: Path, working: str) -> None:
    """A line of its log, or time on a processor, of it or of what it started."""
    command = shell(tmp_path, working)
    child = Child(command)
    await child.start()
    try:
        before = signs.work(child.pid, command.log_path)
        async with asyncio.timeout(30):
            while not signs.work(child.pid, command.log_path).since(before):  # noqa: ASYNC110 -- see above
                await asyncio.sleep(0.02)
    finally:
        await child.stop()


async def test_advice_is_for_the_first_start(tmp_path: Path) -> None:
    """What could be started once is not started with another model because it was killed."""
    notices: list[str] = []
    first = tmp_path / "first"

    script = f"[ -e {first} ] && exit 7; touch {first}; exec sleep 60"

    async def only_the_first() -> bool:
        return first.exists() and not notices

    async with running(shell(tmp_path, script), ready=only_the_first, notify=notices.append) as child:
        os.kill(child.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while len(notices) < 2:  # noqa: ASYNC110 -- there is nothing to wait on from outside
                await asyncio.sleep(0.02)
    assert "ended with status 7 while starting" in notices[1]
    assert "Try another" not in notices[1]


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
        async with asyncio.timeout(10):
            while len(notices) < 2:  # noqa: ASYNC110 -- see above
                await asyncio.sleep(0.02)
    assert notices[0] == "Example ended with status -9; starting it again in 0.2 s."
    assert re.fullmatch(r"Example is back after [\d.]+ s\.", notices[1])
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def test_who_does_not_answer_is_started_again(tmp_path: Path) -> None:
    """A process that lives but hangs is no better than one that has ended."""
    notices: list[str] = []
    hung = False

    async def answers() -> bool:
        return not hung

    care = Care(healthy=answers, patience_s=0.2, check_s=0.02)
    command = shell(tmp_path, "exec sleep 60")
    async with running(command, ready=at_once, notify=notices.append, care=care) as child:
        first = child.pid
        hung = True
        async with asyncio.timeout(10):
            while child.pid == first:  # noqa: ASYNC110 -- there is nothing to wait on from outside
                await asyncio.sleep(0.02)
        hung = False
    assert notices[0] == "Example has not answered for 0 s; starting it again in 0.2 s."


async def test_what_should_not_be_started_again_is_not(tmp_path: Path) -> None:
    """As long as the command for it cannot be given; why is said, and it is tried again."""
    notices: list[str] = []
    command = shell(tmp_path, "exec sleep 60")

    async def renewed(last: Command) -> Command:
        if len(notices) < 2:
            raise EmbeddedError("Not now.")
        return last

    care = Care(renewed=renewed)
    async with running(command, ready=at_once, notify=notices.append, care=care) as child:
        os.kill(child.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while len(notices) < 3:  # noqa: ASYNC110 -- there is nothing to wait on from outside
                await asyncio.sleep(0.02)
    assert notices[1] == "Not now. Trying again in 0.4 s."
    assert "is back" in notices[2]


async def test_nothing_of_its_group_outlives_it(tmp_path: Path) -> None:
    """What it started is ended before it is started again: it could hold a device or a port."""
    command = shell(tmp_path, "sleep 61 & echo $! >> children; exec sleep 60")
    command = msgspec.structs.replace(command, argv=("/bin/sh", "-c", f"cd {tmp_path}; {command.argv[2]}"))
    children = tmp_path / "children"

    async def started() -> bool:
        return children.exists() and children.read_text().endswith("\n")

    async with running(command, ready=started) as child:
        first = child.pid
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(10):
            while child.pid == first or len(children.read_text().splitlines()) < 2:  # noqa: ASYNC110 -- see above
                await asyncio.sleep(0.02)
        assert not lives(int(children.read_text().splitlines()[0]))
    assert not any(lives(int(pid)) for pid in children.read_text().splitlines())


async def test_a_group_that_lost_its_leader_and_parent_is_ended(tmp_path: Path) -> None:
    """The record of the leader leads to what it started, too."""
    command = shell(tmp_path, f"sleep 61 & echo $! > {tmp_path}/child; exec sleep 60")
    orphan = Child(command)
    await orphan.start()
    async with asyncio.timeout(10):
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():  # noqa: ASYNC110 -- see above
            await asyncio.sleep(0.02)
    left = int((tmp_path / "child").read_text())
    os.kill(orphan.pid, signal.SIGKILL)
    await orphan.wait()
    assert lives(left)
    await leftover.ended(command.record_path, signal.SIGTERM, grace_s=5)
    assert not lives(left)


async def test_a_zombie_hides_nothing_of_its_group(tmp_path: Path) -> None:
    """Where nobody waits for processes that lost their parent, the leader is still there, dead."""
    script = f"sleep 61 & echo $! > {tmp_path}/child; exec sleep 60"
    leader = subprocess.Popen(["/bin/sh", "-c", script], process_group=0)  # noqa: ASYNC220 -- one that nobody waits for
    try:
        async with asyncio.timeout(10):
            child = tmp_path / "child"
            while not child.exists() or not child.read_text().strip():  # noqa: ASYNC110 -- see above
                await asyncio.sleep(0.02)
        left = int((tmp_path / "child").read_text())
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()  # noqa: ASYNC240 -- the kernel's memory
        record = leftover.ProcessRecord(leader.pid, leftover._started_ticks(leader.pid), boot_id)
        (tmp_path / "record").write_bytes(msgspec.json.encode(record))
        leader.kill()
        async with asyncio.timeout(10):
            while lives(leader.pid):  # noqa: ASYNC110 -- see above
                await asyncio.sleep(0.02)
        await leftover.ended(tmp_path / "record", signal.SIGTERM, grace_s=5)
        assert not lives(left)
    finally:
        leader.wait()


def lives(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return leftover._started_ticks(pid) > 0
    except (FileNotFoundError, ProcessLookupError):
        return False


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


async def test_a_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    """What a process writes while it runs is moved to the older log, and it writes on in an empty one."""
    go = tmp_path / "go"
    script = f"yes first | head -c 9500000; while [ ! -e {go} ]; do sleep 0.02; done; echo second; exec sleep 60"
    log, older = tmp_path / "example.log", tmp_path / "example.old.log"
    care = Care(log_check_s=0.02)
    async with running(shell(tmp_path, script), ready=at_once, care=care) as child, asyncio.timeout(20):
        while not older.exists() or log.stat().st_size > 2 * 2**20:  # noqa: ASYNC110 -- there is nothing to wait on from outside
            await asyncio.sleep(0.02)
        go.touch()
        while not child.logged().endswith(b"second\n"):  # noqa: ASYNC110 -- see above
            await asyncio.sleep(0.02)
        assert child.tail(lines=1) == "second"
    assert b"first" in older.read_bytes()
    assert older.stat().st_size <= 9 * 2**20
