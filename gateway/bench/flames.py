"""A running askonce in; where its worker spends its time on a hit and on a miss, as flame pictures, out.

They are made by py-spy, which looks at the worker from outside a thousand times a second.
"""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gateway.bench import comparing, counting, filling, installed, peers, processes
from gateway.bench.load import Job
from gateway.bench.processes import BenchError, LoadGenerator
from gateway.bench.rivals import Rival
from gateway.bench.served import Place

_TITLE: Final = re.compile('(<text id="title"[^>]*>)[^<]*')
_KINDS: Final = {"hit": False, "miss": True}
"""What is asked for, and whether each question is a new one."""
_RATE: Final = 1000
_AT_ONCE: Final = 16
_WARM_S: Final = 0.5
_BEGIN_S: Final = 2.0
"""What py-spy takes until it looks."""
_WITHIN_S: Final = 60.0


def run(seconds: float, output: Path, progress: Callable[[str], None]) -> list[Path]:
    """Start all that is needed, and draw. The same files, and errors."""
    cores = processes.cores()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="askonce-flames-")))
        generator = stack.enter_context(processes.generator(cores.generator))
        backend = stack.enter_context(counting.backend(cores.servers))
        return pictures(Place(folder, backend, cores), generator, seconds, output, progress)


def pictures(
    place: Place, generator: LoadGenerator, seconds: float, output: Path, progress: Callable[[str], None]
) -> list[Path]:
    """The files that were written. Raises `BenchError`, also where this machine lets nobody look at a process."""
    program = installed.py_spy(installed.cache_folder(), progress)
    output.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with comparing.askonce(place, place.instant) as ours:
        for kind, new in _KINDS.items():
            progress(f"flame picture of a {kind}")
            job = _job(ours, seconds + _BEGIN_S, new=new)
            generator.measure(msgspec.structs.replace(job, seconds=_WARM_S))
            made.append(output / f"flame-{kind}.svg")
            _draw(program, ours, generator, job, made[-1])
            _entitle(made[-1], f"A {kind}, {_AT_ONCE} at once: the worker's time by function")
    return made


def _draw(program: Path, ours: Rival, generator: LoadGenerator, job: Job, file: Path) -> None:
    seconds = max(1, round(job.seconds - _BEGIN_S))
    words = [program, "record", "--pid", str(ours.pid), "--rate", str(_RATE), "--duration", str(seconds)]
    with subprocess.Popen(  # noqa: S603 -- a pinned program, on our own worker
        [*words, "--function", "--format", "flamegraph", "--output", file],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            generator.measure(job)
            said, _ = process.communicate(timeout=_WITHIN_S)
        except subprocess.TimeoutExpired:
            said = b"it does not come to an end"
        finally:
            process.kill()
    if process.returncode:
        message = f"py-spy made no picture: {said.decode(errors='replace').strip()[-300:]}"
        raise BenchError(message)


def _entitle(file: Path, title: str) -> None:
    """The words that py-spy was called with, and where, are nobody's business."""
    file.write_text(_TITLE.sub(rf"\g<1>{title}", file.read_text("utf-8"), count=1), "utf-8")


def _job(ours: Rival, seconds: float, *, new: bool) -> Job:
    body = filling.question(peers.MODEL)
    return Job(
        address=ours.address,
        path=ours.path,
        headers=ours.headers,
        body=body if new else filling.numbered(body, 0),
        seconds=seconds,
        concurrency=_AT_ONCE,
    )
