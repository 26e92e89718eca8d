"""Options in, figures out: every cell measured in turn, several rounds in one run, medians told."""

import contextlib
import itertools
import secrets
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway.bench import figures, following, load, peers, processes, routing, served
from gateway.bench.figures import Figure, Maker
from gateway.bench.load import Job, Result
from gateway.bench.processes import LoadGenerator
from gateway.bench.served import CHAT, Place, Served

Progress = Callable[[str], None]

START_MAX_S = 3.0
WORKER_MAX_MB = 150.0
MISS_ADDS_MAX_MS = 3.0
FOLLOWER_MAX_MS = 10.0
ROUTER_MAX_US = 50.0
BUNDLED = "gemma-3-askonce"
KEPT_ASKED = 300
"""How many kept questions are asked of a lower tier."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how often."""

    command: str
    seconds: float = 2.0
    rounds: int = 5
    concurrency: tuple[int, ...] = (1, 16, 64)
    cold_starts: int = 3
    warm_starts: int = 5
    followers: int = 40


def quick(command: str) -> Options:
    """As little as still runs every cell once."""
    return Options(
        command=command, seconds=0.1, rounds=1, concurrency=(1, 4), cold_starts=1, warm_starts=1, followers=3
    )


class Cell(msgspec.Struct, frozen=True):
    """One kind of request to one server."""

    name: str
    address: str
    body: str
    expect: str = ""


class _Suite:
    """One run's state: who measures, where, and the next number no request has used."""

    def __init__(self, options: Options, place: Place, generator: LoadGenerator, progress: Progress) -> None:
        self.options = options
        self.place = place
        self.generator = generator
        self.progress = progress
        self.next_number = 0
        self.salt = secrets.token_hex(4)

    def measure(self, cell: Cell, seconds: float, *, concurrency: int = 1) -> Result:
        """One cell, once."""
        job = Job(
            address=cell.address,
            path=CHAT,
            body=cell.body,
            expect=cell.expect,
            seconds=seconds,
            concurrency=concurrency,
            first_number=self.next_number,
        )
        result = self.generator.measure(job)
        self.next_number += result.requests + concurrency
        return result

    def question(self, model: str, *, stream: bool = False, new: bool = True) -> dict[str, Any]:
        """A request of ordinary length; a new one has a number nobody has used."""
        number = load.NUMBER if new else "once"
        words = f"Question {self.salt}-{number}: what does a gateway do that keeps the answers it has been given?"
        messages = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": words}]
        asked: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": 16, "temperature": 0}
        return {**asked, "stream": True} if stream else asked

    def new(self, model: str) -> dict[str, Any]:
        """A request with its own number filled in."""
        self.next_number += 1
        text = _json(self.question(model)).replace(load.NUMBER, f"{self.next_number:010}")
        return msgspec.json.decode(text)


def run(options: Options, progress: Progress) -> list[Figure]:
    """Measure everything. Raises `BenchError`."""
    made, cores = figures.maker(options.command), processes.cores()
    made = msgspec.structs.replace(made, machine=f"{made.machine}; {cores.said}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="askonce-bench-")))
        generator = stack.enter_context(processes.generator(cores.generator))
        instant = stack.enter_context(processes.peer(b"instant", cores.servers))
        suite = _Suite(options, Place(folder, instant, cores), generator, progress)
        measured = (
            _router(suite, made),
            _starts(suite, made),
            _loads(suite, made),
            _tiers(suite, made),
            _followers(suite, made),
        )
        return list(itertools.chain.from_iterable(measured))


def _router(suite: _Suite, made: Maker) -> Iterator[Figure]:
    suite.progress("the router alone")
    cost = routing.measured(suite.options.rounds)
    suite.progress(f"where the router's time goes, with the profiler's own:\n{cost.profile}")
    note = f"in one process, {routing.REPLICAS} replicas that answer at once, minus the same backend asked directly"
    yield made.figure("the router adds", cost.adds_us, "µs", note=note, bar=ROUTER_MAX_US)
    yield made.figure("the router adds, finding who answers", cost.finding_us, "µs", note=note)


def _starts(suite: _Suite, made: Maker) -> Iterator[Figure]:
    cold, warm, kept = [], [], []
    for count in range(suite.options.cold_starts):
        suite.progress(f"start-up, cold data folder, {count + 1} of {suite.options.cold_starts}")
        with suite.place.served(f"data-{count}", suite.new(BUNDLED)) as askonce:
            cold.append(askonce.first_answer_s)
    again = suite.new(BUNDLED)
    for count in range(suite.options.warm_starts):
        suite.progress(f"start-up, warm data folder, {count + 1} of {suite.options.warm_starts}")
        with suite.place.served("data-0", suite.new(BUNDLED)) as askonce:
            warm.append(askonce.first_answer_s)
            served.post(askonce.address, again)
        with suite.place.served("data-0", again) as askonce:
            kept.append(askonce.first_answer_s)
    new = "from starting the program to a 200 for a new question, answered by the bundled model"
    yield made.figure("start-up, cold data folder", statistics.median(cold), "s", note=new)
    yield made.figure("start-up, warm data folder", statistics.median(warm), "s", note=new, bar=START_MAX_S)
    yield made.figure("start-up, warm data folder, slowest", max(warm), "s", note=new)
    note = "from starting the program to a 200 for a question asked before the restart"
    yield made.figure("start-up, warm data folder, kept answer", statistics.median(kept), "s", note=note)


def _loads(suite: _Suite, made: Maker) -> Iterator[Figure]:
    with suite.place.served("data-0", suite.new(BUNDLED)) as askonce:
        yield made.figure(
            "worker memory, idle",
            processes.resident_bytes(askonce.worker()) / 1e6,
            "MB",
            note="resident set of the one worker after start-up and one answer",
            bar=WORKER_MAX_MB,
        )
        yield from _cells(suite, made, askonce)
        yield made.figure(
            "worker memory, after the load",
            processes.resident_bytes(askonce.worker()) / 1e6,
            "MB",
            note="the same worker once the cells above have run, with its memory tier filled by their misses",
        )
        yield from _model(suite, made, askonce)


def _cells(suite: _Suite, made: Maker, askonce: Served) -> Iterator[Figure]:
    whole, stream = suite.question(peers.MODEL, new=False), suite.question(peers.MODEL, new=False, stream=True)
    served.post(askonce.address, whole)
    replies = tuple(served.post(askonce.address, asked)[2] for asked in (whole, stream))
    with processes.peer(msgspec.json.encode(replies), suite.place.cores.servers) as bare:
        cells = _grid(suite, askonce.address, bare)
        found = _rounds(suite, cells)
    for name, concurrency in found:
        yield from _told(made, f"{name}, {concurrency} at once", found[name, concurrency])
    for kind, bar in (("JSON", MISS_ADDS_MAX_MS), ("SSE", MISS_ADDS_MAX_MS)):
        yield _added(made, kind, found[f"miss {kind}", 1], found[f"backend {kind}", 1], bar)
    first = [
        a.first_p50_ms - b.first_p50_ms for a, b in zip(found["miss SSE", 1], found["backend SSE", 1], strict=True)
    ]
    note = "p50 to the first byte of the stream, minus that of the backend asked directly; 1 at once"
    yield made.figure("miss adds to the first byte, SSE", statistics.median(first), "ms", note=note)


def _grid(suite: _Suite, askonce: str, bare: str) -> list[Cell]:
    cells: list[Cell] = []
    for kind, stream in (("JSON", False), ("SSE", True)):
        old = _json(suite.question(peers.MODEL, new=False, stream=stream))
        new = _json(suite.question(peers.MODEL, stream=stream))
        cells += [
            Cell(f"bare ASGI {kind}", bare, old),
            Cell(f"hit {kind}", askonce, old, "x-askonce-tier: memory"),
            Cell(f"backend {kind}", suite.place.instant, new),
            Cell(f"miss {kind}", askonce, new, "x-askonce-cache: miss"),
        ]
    return cells


def _rounds(suite: _Suite, cells: list[Cell]) -> dict[tuple[str, int], list[Result]]:
    """Every cell in every round, so that a busy minute of the machine's touches all of them alike."""
    found: defaultdict[tuple[str, int], list[Result]] = defaultdict(list)
    for cell in cells:
        suite.measure(cell, min(0.5, suite.options.seconds), concurrency=4)
    for count in range(suite.options.rounds):
        suite.progress(f"hits and misses, round {count + 1} of {suite.options.rounds}")
        for concurrency in suite.options.concurrency:
            for cell in cells:
                result = suite.measure(cell, suite.options.seconds, concurrency=concurrency)
                found[cell.name, concurrency].append(result)
    return found


def _model(suite: _Suite, made: Maker, askonce: Served) -> Iterator[Figure]:
    new = _json(suite.question(BUNDLED))
    cells = [
        Cell("llama.cpp JSON", askonce.llamacpp_socket(), new),
        Cell("llama.cpp via askonce JSON", askonce.address, new, "x-askonce-cache: miss"),
    ]
    found: defaultdict[str, list[Result]] = defaultdict(list)
    for count in range(suite.options.rounds):
        suite.progress(f"the bundled model, round {count + 1} of {suite.options.rounds}")
        for cell in cells:
            found[cell.name].append(suite.measure(cell, suite.options.seconds))
    for name, results in found.items():
        yield from _told(made, f"{name}, 1 at once", results)


def _tiers(suite: _Suite, made: Maker) -> Iterator[Figure]:
    """Hits in the lower tiers: a fresh gateway has none of them in its memory."""
    new, count = _json(suite.question(peers.MODEL)), KEPT_ASKED
    first_number = suite.next_number + 1
    suite.next_number = first_number + count
    with suite.place.served("data-0", suite.new(BUNDLED)) as askonce:
        suite.progress("answers to find again")
        _ask_kept(suite, askonce, new, first_number, "x-askonce-cache: miss")
    for tier in ("redis", "postgres"):
        suite.progress(f"hits in {tier}")
        with suite.place.served("data-0", suite.new(BUNDLED)) as askonce:
            if tier == "postgres":
                served.flush_redis(askonce.data_dir)
            result = _ask_kept(suite, askonce, new, first_number, f"x-askonce-tier: {tier}")
        note = f"{count} questions, each asked once, of a gateway started since they were answered; JSON, 1 at once"
        yield made.figure(f"hit in {tier} p50", result.p50_ms, "ms", note=note)
        yield made.figure(f"hit in {tier} p99", result.p99_ms, "ms", note=note)


def _ask_kept(suite: _Suite, askonce: Served, body: str, first_number: int, expect: str) -> Result:
    job = Job(
        address=askonce.address,
        path=CHAT,
        body=body,
        seconds=served.START_TIMEOUT_S,
        most=KEPT_ASKED,
        first_number=first_number,
        expect=expect,
    )
    return suite.generator.measure(job)


def _followers(suite: _Suite, made: Maker) -> Iterator[Figure]:
    suite.progress(f"followers of a stream, {suite.options.followers} rounds")
    found = following.measured(suite.place, "data-0", suite.options.followers)
    note = f"from sending the request to the first word, while somebody hears the same answer; {following.HOW}"
    for who, times in found.items():
        bar = None if who == following.BARE else FOLLOWER_MAX_MS
        name = f"{who}, first word" if who == following.BARE else f"follower on {who}, first word"
        yield made.figure(f"{name}, median", statistics.median(times), "ms", note=note)
        yield made.figure(f"{name}, 95 of 100", load.quantile(times, 0.95), "ms", note=note, bar=bar)


def _told(made: Maker, what: str, results: list[Result]) -> Iterator[Figure]:
    note = f"median of {len(results)} rounds"
    yield made.figure(f"{what}: throughput", statistics.median(r.per_second for r in results), "1/s", note=note)
    yield made.figure(f"{what}: p50", statistics.median(r.p50_ms for r in results), "ms", note=note)
    yield made.figure(f"{what}: p99", statistics.median(r.p99_ms for r in results), "ms", note=note)


def _added(made: Maker, kind: str, miss: list[Result], direct: list[Result], bar: float) -> Figure:
    added = [ours.p50_ms - theirs.p50_ms for ours, theirs in zip(miss, direct, strict=True)]
    note = f"p50 of a miss minus p50 of the same request to the backend itself, {peers.STEPS} steps at once; 1 at once"
    return made.figure(f"miss adds, {kind}", statistics.median(added), "ms", note=note, bar=bar)


def _json(asked: dict[str, Any]) -> str:
    return msgspec.json.encode(asked).decode()
