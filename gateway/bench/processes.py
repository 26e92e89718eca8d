"""The processes of a run: started with a clean environment, kept on their cores, weighed and ended."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, cast

import msgspec

import gateway
from gateway import config as settings
from gateway.bench.load import Job, Result
from storage.errors import AskonceError

STOP_S = 60.0
_ROOT = Path(gateway.__file__).parents[1]
_INHERITED = os.environ  # noqa: TID251 -- handed on to children, not read
_ENVIRONMENT = {name: value for name, value in _INHERITED.items() if not name.startswith(settings.PREFIX)}
"""What children get: no setting of this shell's, which would make figures that nobody else can get."""
_NEEDED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


class BenchError(AskonceError):
    """The measurement cannot be made."""


class Cores(msgspec.Struct, frozen=True):
    """Who runs where while requests are measured. At start-up nothing is pinned."""

    servers: frozenset[int]
    """The gateway's worker, the backend and the bare application."""
    generator: frozenset[int]
    tiers: frozenset[int]
    """Redis and Postgres."""

    @property
    def said(self) -> str:
        """In words."""
        if self.servers == self.generator:
            return "nothing pinned, for there is one core"
        servers, generator, tiers = map(_listed, (self.servers, self.generator, self.tiers))
        return (
            f"worker, backend and bare application on core {servers}, tiers on {tiers}, load generator on {generator}"
        )


def cores() -> Cores:
    """The cores this process may use, shared out: one serves, one generates load, the tiers get what is left."""
    usable = sorted(os.sched_getaffinity(0))
    first, last = frozenset(usable[:1]), frozenset(usable[-1:])
    return Cores(first, last, frozenset(usable) - first - last or last)


def pin(pid: int, on: frozenset[int]) -> None:
    """Keep all threads of `pid`, and what it starts from now on, on the cores `on`."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), on)


def inherited() -> dict[str, str]:
    """The environment of installers: how this machine reaches its registries is said there. Nothing of our Python's."""
    return {name: value for name, value in _ENVIRONMENT.items() if not name.startswith("PYTHON")}


def sparse(home: Path, **more: str) -> dict[str, str]:
    """The environment of a program that is not ours: no key, address or habit of this shell's, a home of its own."""
    return {**{name: _ENVIRONMENT[name] for name in _NEEDED if name in _ENVIRONMENT}, "HOME": str(home), **more}


@contextlib.contextmanager
def running(
    arguments: Sequence[str],
    *,
    on: frozenset[int] | None = None,
    cwd: Path | None = None,
    log: IO[bytes] | None = None,
    fds: Sequence[int] = (),
) -> Generator[subprocess.Popen[bytes]]:
    """A Python process of ours for the length of the block."""
    process = subprocess.Popen(  # noqa: S603 -- this interpreter, our modules
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if log is None else log,
        stderr=log,
        env={**_ENVIRONMENT, "PYTHONPATH": str(_ROOT)},
        cwd=cwd,
        pass_fds=fds,
    )
    try:
        if on is not None:
            pin(process.pid, on)
        yield process
    finally:
        end(process)


@contextlib.contextmanager
def program(
    words: Sequence[str | Path], environment: dict[str, str], *, cwd: Path, log: IO[bytes]
) -> Generator[subprocess.Popen[bytes]]:
    """A program that is not ours, and all it starts, for the length of the block. Raises `BenchError`."""
    try:
        process = subprocess.Popen(  # noqa: S603 -- a program that the bench installed
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        message = f"{words[0]} cannot be started: {error.strerror}"
        raise BenchError(message) from error
    try:
        yield process
    finally:
        go_on(process.pid)
        end(process)
        with contextlib.suppress(ProcessLookupError):  # what it has left behind
            os.killpg(process.pid, signal.SIGKILL)


def pause(pid: int) -> None:
    """Have a `program` and all it started use no processor at all until `go_on`."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGSTOP)


def go_on(pid: int) -> None:
    """Undo `pause`."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGCONT)


def said(arguments: Sequence[str], *, cwd: Path) -> str:
    """What a Python process of ours prints until it ends. Raises `BenchError` when it fails."""
    done = subprocess.run(  # noqa: S603 -- this interpreter, our modules
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**_ENVIRONMENT, "PYTHONPATH": str(_ROOT)},
        cwd=cwd,
    )
    if done.returncode:
        raise BenchError(f"{' '.join(arguments)} failed: {done.stderr}")
    return done.stdout


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask `process` to stop, and wait until it has."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def told(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Say one line to `process`."""
    stdin = cast("IO[bytes]", process.stdin)
    stdin.write(line + b"\n")
    stdin.flush()


class LoadGenerator:
    """The load generator's process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def measure(self, job: Job) -> Result:
        """Do one job. Raises `BenchError` when replies were not what they should be."""
        told(self._process, msgspec.json.encode(job))
        line = cast("IO[bytes]", self._process.stdout).readline()
        if not line:
            raise BenchError("The load generator has ended.")
        result = msgspec.json.decode(line, type=Result)
        if result.failed or not result.requests:
            message = f"{result.failed} of {result.requests} replies were not as expected: {result.last_failure}"
            raise BenchError(message)
        return result


@contextlib.contextmanager
def generator(on: frozenset[int]) -> Generator[LoadGenerator]:
    """A load generator on the cores `on`."""
    with running(("-m", "gateway.bench.load"), on=on) as process:
        yield LoadGenerator(process)


@contextlib.contextmanager
def peer(said: bytes, on: frozenset[int]) -> Generator[str]:
    """The address of a server of `gateway/bench/peers.py` that was told `said`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        with running(("-m", "gateway.bench.peers", str(fd)), on=on, fds=(fd,)) as process:
            told(process, said)
            yield f"127.0.0.1:{listening.getsockname()[1]}"


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def descendants(pid: int) -> list[int]:
    """The children of `pid`, their children, and so on."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


def pin_tree(pid: int, on: frozenset[int]) -> None:
    """Keep `pid` and all its descendants on the cores `on`."""
    for member in (pid, *descendants(pid)):
        with contextlib.suppress(FileNotFoundError):
            pin(member, on)


def tree_bytes(pid: int) -> int:
    """The memory of `pid` and all its descendants that is in RAM, those pages in full that several of them share."""
    return sum(map(resident_bytes, (pid, *descendants(pid))))


def command_of(pid: int) -> list[str]:
    """The words that `pid` was started with; none once it has ended."""
    try:
        return [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except OSError:
        return []


def resident_bytes(pid: int) -> int:
    """The memory of `pid` that is in RAM, shared pages counted in full."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"The memory of process {pid} cannot be read.")


def _listed(numbers: frozenset[int]) -> str:
    return ",".join(map(str, sorted(numbers)))
