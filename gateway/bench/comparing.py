"""askonce's peers in, what each of them makes of the same requests out: side by side, in the same rounds.

`python -m gateway.bench.comparing` measures them alone, prints a table and writes a file.
"""

import contextlib
import http
import secrets
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console

from gateway.bench import counting, installed, load, peers, processes, report, rivals, standing
from gateway.bench.load import Job, Result
from gateway.bench.processes import BenchError, LoadGenerator
from gateway.bench.rivals import Rival
from gateway.bench.served import Place, Served
from gateway.bench.standing import IDENTICAL, WAYS, Cell, Peer, Way

Progress = Callable[[str], None]
Start = Callable[[Place, str], AbstractContextManager[Rival]]
"""Starts a peer before the backend at an address."""

BARE: Final = "a bare ASGI application"
BACKEND: Final = "the backend, asked directly"
ASKONCE: Final = "askonce"
_ASK_AGAIN_S: Final = 0.1
_WARM_S: Final = 0.5
_VLLM_PYTHON: Final = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
_BACKENDS: Final = """
[[backends]]
kind = "openai"
model = "{model}"
url = "http://{address}"
"""

_FIRST: Final = {"model": peers.MODEL, "messages": [{"role": "user", "content": "Are you there?"}], "temperature": 0}


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """How long, how often and by whom is measured."""

    generator: LoadGenerator
    seconds: float = 2.0
    rounds: int = 3
    kept_within_s: float = 5.0
    """A peer that has not stored an answer by then does not store it."""
    progress: Progress


class _Contestant:
    """One of them, and what has come of it so far."""

    def __init__(self, rival: Rival, contest: Contest) -> None:
        self.rival = rival
        self._contest = contest
        self._salt = secrets.token_hex(4)
        self._next_number = 0
        self._results: defaultdict[str, list[Result]] = defaultdict(list)
        self._reached: defaultdict[str, list[float]] = defaultdict(list)
        self._failed: dict[str, str] = {}
        self._identical: list[int] = []

    def warm(self) -> None:
        """Have it answer a little of everything, and keep what it keeps."""
        for way in WAYS:
            if not way.new and way.at_once == 1:
                self._keep(way)
            self._tried(way, min(_WARM_S, self._contest.seconds))

    def measure(self, way: Way) -> None:
        """One kind of request, once."""
        if way.new and self.rival.gives_one_reply:
            return
        before = self._count()
        result = self._tried(way, self._contest.seconds)
        if result is not None:
            self._results[way.said].append(result)
            if self.rival.backend:
                self._reached[way.said].append(min(1.0, (self._count() - before) / result.requests))

    def measure_identical(self) -> None:
        """Many ask one new question at the same time."""
        if not self.rival.backend:
            return
        self._next_number += 1
        body = self._body(Way("identical", new=True, stream=False, at_once=IDENTICAL), counting.SLOW)
        body = body.replace(load.NUMBER, f"{self._next_number:010}")
        before = self._count()
        try:
            self._contest.generator.measure(self._job(body, IDENTICAL, 60.0, most=IDENTICAL))
        except BenchError as error:
            self._failed["identical"] = str(error)
        else:
            self._identical.append(self._count() - before)

    def peer(self) -> Peer:
        """All that came of it."""
        rival = self.rival
        cells = {way.said: self._cell(way.said) for way in WAYS if not (way.new and rival.gives_one_reply)}
        return Peer(
            name=rival.name,
            version=rival.version,
            cold_start_s=rival.cold_start_s,
            rss_mb=processes.tree_bytes(rival.pid) / 1e6 if rival.pid else 0.0,
            cells=cells,
            identical=statistics.median(self._identical) if self._identical else None,
            note="; ".join(filter(None, (rival.note, self._failed.get("identical", "")[:100]))),
        )

    def _cell(self, said: str) -> Cell:
        reached = self._reached[said]
        return Cell(
            tuple(self._results[said]), statistics.median(reached) if reached else None, self._failed.get(said, "")
        )

    def _keep(self, way: Way) -> None:
        """Ask the question until it is not asked further, at most for a while."""
        body = msgspec.json.decode(self._body(way))
        end = time.perf_counter() + self._contest.kept_within_s
        while time.perf_counter() < end:
            before = self._count()
            with contextlib.suppress(OSError):
                rivals.asked(self.rival, body)
            if self._count() == before:
                return
            time.sleep(_ASK_AGAIN_S)

    def _tried(self, way: Way, seconds: float) -> Result | None:
        if way.said in self._failed:
            return None
        try:
            result = self._contest.generator.measure(self._job(self._body(way), way.at_once, seconds))
        except BenchError as error:
            self._failed[way.said] = str(error)
            return None
        self._next_number += result.requests + way.at_once
        return result

    def _job(self, body: str, at_once: int, seconds: float, most: int = 1_000_000_000) -> Job:
        return Job(
            address=self.rival.address,
            path=self.rival.path,
            headers=self.rival.headers,
            body=body,
            concurrency=at_once,
            seconds=seconds,
            most=most,
            first_number=self._next_number,
        )

    def _body(self, way: Way, model: str = "") -> str:
        number = load.NUMBER if way.new else f"once {way.name}"
        return _question(model or self.rival.model, f"{self._salt}-{number}", stream=way.stream)

    def _count(self) -> int:
        return counting.asked(self.rival.backend) if self.rival.backend else 0


def _question(model: str, number: str, *, stream: bool = False) -> str:
    words = f"Question {number}: what does a gateway do that keeps the answers it has been given?"
    messages = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": words}]
    asked: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": 16, "temperature": 0}
    return msgspec.json.encode({**asked, "stream": True} if stream else asked).decode()


def measured(contest: Contest, contestants: Sequence[Rival]) -> list[Peer]:
    """What each of `contestants` makes of the same requests, asked in turn; the others are paused where they can be."""
    everyone = [_Contestant(rival, contest) for rival in contestants]
    for each in everyone:
        _pause(each.rival)
    for each in everyone:
        contest.progress(f"{each.rival.name} is warmed up")
        with _awake(each.rival):
            each.warm()
    for count in range(contest.rounds):
        for way in WAYS:
            contest.progress(f"peers, round {count + 1} of {contest.rounds}: {way.said}")
            for each in everyone:
                with _awake(each.rival):
                    each.measure(way)
        for each in everyone:
            with _awake(each.rival):
                each.measure_identical()
    return [each.peer() for each in everyone]


@contextlib.contextmanager
def _awake(rival: Rival) -> Generator[None]:
    if rival.pausable:
        processes.go_on(rival.pid)
    try:
        yield
    finally:
        _pause(rival)


def _pause(rival: Rival) -> None:
    if rival.pausable:
        processes.pause(rival.pid)


def startable(cache: Path, vllm_python: Path, progress: Progress) -> tuple[list[Start], list[Peer]]:
    """How the peers that run here are started, installed now unless they were; and those that do not run, with reasons.

    Raises `BenchError` when one could not be installed.
    """
    found: list[Start] = []
    left_out: list[Peer] = []
    finders: dict[str, Callable[[], list[Start]]] = {
        "LiteLLM": lambda: _litellm(installed.litellm(cache, progress)),
        "Portkey gateway": lambda: [partial(rivals.portkey, program=installed.portkey(cache, progress))],
        "vLLM": lambda: [partial(rivals.vllm, python=installed.vllm(vllm_python))],
    }
    for name, find in finders.items():
        try:
            found += find()
        except installed.LeftOut as error:
            left_out.append(Peer(name=name, note=f"left out: {error}"))
    return found, left_out


def _litellm(python: Path) -> list[Start]:
    return [partial(rivals.litellm, python=python, redis=redis) for redis in (False, True)]


@contextlib.contextmanager
def contestants(place: Place, backend: str, starts: Sequence[Start], progress: Progress) -> Generator[list[Rival]]:
    """A bare server, the backend itself, askonce, and the peers that `starts` start; all of them running.

    Raises `BenchError`.
    """
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(askonce(place, backend))
        bare = stack.enter_context(processes.peer(msgspec.json.encode(replies(ours)), place.cores.servers))
        found = [
            Rival(name=BARE, version="", address=bare, gives_one_reply=True),
            Rival(name=BACKEND, version="", address=backend),
            ours,
        ]
        for start in starts:
            found.append(stack.enter_context(start(place, backend)))
            progress(f"{found[-1].name} answers after {found[-1].cold_start_s:.1f} s")
        yield found


def replies(ours: Rival) -> tuple[bytes, bytes]:
    """What askonce gives when it has an answer: whole, and streamed."""
    asked = msgspec.json.decode(_question(peers.MODEL, "bare"))
    for body in (asked, {**asked, "stream": True}):
        rivals.asked(ours, body)
    whole, stream = (rivals.asked(ours, body)[1] for body in (asked, {**asked, "stream": True}))
    return whole, stream


def compared(folder: Path, contest: Contest, cache: Path, vllm_python: Path) -> list[Peer]:
    """askonce, the backend itself and every peer that runs here, measured. Raises `BenchError`."""
    starts, left_out = startable(cache, vllm_python, contest.progress)
    cores = processes.cores()
    with counting.backend(cores.servers) as backend:
        place = Place(folder, backend, cores)
        with contestants(place, backend, starts, contest.progress) as found:
            return [*measured(contest, found), *left_out]


def plain(place: Place) -> AbstractContextManager[Served]:
    """askonce with one worker, started with the same question each time. Entering it raises `BenchError`."""
    return place.served("data-plain", _FIRST, _settings(place.instant))


def _settings(backend: str) -> str:
    return "".join(_BACKENDS.format(model=model, address=backend) for model in (peers.MODEL, counting.SLOW))


@contextlib.contextmanager
def askonce(place: Place, backend: str, before: Rival | None = None) -> Generator[Rival]:
    """askonce before the same backend, with one worker, and a key that every request needs; with what was kept by the
    one `before`, which has ended. Raises `BenchError`.
    """
    if before is not None and before.data_dir is not None:
        with place.served(before.data_dir.name, _FIRST, _settings(backend), before.headers) as served:
            yield msgspec.structs.replace(before, address=served.address, pid=served.worker())
        return
    with place.served(f"data-{secrets.token_hex(4)}", _FIRST, _settings(backend)) as served:
        rival = Rival(
            name=ASKONCE,
            version="this one",
            address=served.address,
            pid=served.worker(),
            cold_start_s=served.first_answer_s,
            backend=backend,
            note="its worker alone is weighed",
            headers={"authorization": f"Bearer {served.key()}"},
            data_dir=served.data_dir,
        )
        while rivals.asked(msgspec.structs.replace(rival, headers={}), _FIRST)[0] == http.HTTPStatus.OK:
            time.sleep(_ASK_AGAIN_S)  # until it has heard of the key
        yield rival


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="Length of a cell.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often each is run.")
@click.option("--cache", type=click.Path(path_type=Path), default=None, help="Where the peers are installed.")
@click.option("--vllm-python", type=click.Path(path_type=Path), default=_VLLM_PYTHON, help="The Python that has vLLM.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("peers.json"), show_default=True)
def main(*, seconds: float, rounds: int, cache: Path | None, vllm_python: Path, output: Path) -> None:
    """Measure askonce beside its peers; print a table and write what was measured."""
    with (
        tempfile.TemporaryDirectory(prefix="askonce-peers-") as folder,
        processes.generator(processes.cores().generator) as generator,
    ):
        contest = Contest(generator=generator, seconds=seconds, rounds=rounds, progress=report.progress)
        found = compared(Path(folder), contest, cache or installed.cache_folder(), vllm_python)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    Console().print(standing.table(found))


if __name__ == "__main__":
    main()
