"""askonce beside a bare server, its backend and its peers: the figures that say how fast it is, all of one run."""

import contextlib
import statistics
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.bench import comparing, counting, figures, growth, installed, lower, processes, soak
from gateway.bench.comparing import ASKONCE, BACKEND, BARE, Contest
from gateway.bench.figures import Figure, Maker
from gateway.bench.load import Result
from gateway.bench.lower import Tiers
from gateway.bench.processes import LoadGenerator
from gateway.bench.served import Place
from gateway.bench.standing import HIT, MISS, SSE_HIT, SSE_MISS, Peer

Progress = Callable[[str], None]

LITELLM: Final = "LiteLLM, local cache"
_AT_ONCE: Final = 16
_VLLM_PYTHON: Final = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
_STARTS: Final = 5
_IDLE_MAX_MB: Final = 120.0
_START_MAX_S: Final = 2.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How long, how often, and beside whom."""

    command: str
    seconds: float = 2.0
    rounds: int = 5
    peers: bool = True
    cache: Path | None = None
    """Where the peers are installed; None is this user's cache folder."""
    grown: int = growth.MOST
    """How many answers a record grows to; 0 leaves that out."""
    soak_s: float = 0.0
    """How long everything goes on at once; 0 leaves that out."""
    kept: int = 4000
    """How many questions a round asks of a lower tier."""
    starts: int = _STARTS


class Found(msgspec.Struct, frozen=True):
    """What came of a run."""

    peers: list[Peer]
    figures: list[Figure]


def quick(command: str) -> Options:
    """As little as still measures everything but the peers."""
    return Options(command=command, seconds=0.1, rounds=1, peers=False, grown=10_000, soak_s=2, kept=100, starts=1)


def run(options: Options, progress: Progress) -> Found:
    """Measure. Raises `BenchError`."""
    with _stage(figures.maker(options.command)) as (place, generator, made):
        found = [*_started(place, made, options.starts, progress)]
        peers, compared = _compared(place, generator, options, made, progress)
        found += compared
        if options.grown:
            found += growth.measured(place, generator, made, progress, options.grown)
        if options.soak_s:
            found += _soaked(place, generator, made, options.soak_s, progress)
    return Found(peers, found)


def soaked(command: str, seconds: float, progress: Progress) -> Found:
    """Whether memory stays what it was, and nothing else. Raises `BenchError`."""
    with _stage(figures.maker(command)) as (place, generator, made):
        return Found([], _soaked(place, generator, made, seconds, progress))


@contextlib.contextmanager
def _stage(made: Maker) -> Generator[tuple[Place, LoadGenerator, Maker]]:
    """A folder, a backend, a load generator, and the cores of each."""
    cores = processes.cores()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="askonce-bench-")))
        generator = stack.enter_context(processes.generator(cores.generator))
        backend = stack.enter_context(counting.backend(cores.servers))
        machine = f"{made.machine}; {cores.said}"
        yield Place(folder, backend, cores), generator, msgspec.structs.replace(made, machine=machine)


def _soaked(place: Place, generator: LoadGenerator, made: Maker, seconds: float, progress: Progress) -> list[Figure]:
    with comparing.askonce(place, place.instant) as ours:
        return [*soak.measured(ours, generator, made, seconds, progress)]


def _compared(
    place: Place, generator: LoadGenerator, options: Options, made: Maker, progress: Progress
) -> tuple[list[Peer], list[Figure]]:
    starts, left_out = [], list[Peer]()
    tiers = lower.measured(place, generator, options.rounds, options.kept, progress)
    if options.peers:
        starts, left_out = comparing.startable(options.cache or installed.cache_folder(), _VLLM_PYTHON, progress)
    contest = Contest(generator=generator, seconds=options.seconds, rounds=options.rounds, progress=progress)
    with comparing.contestants(place, place.instant, starts, progress) as found:
        peers = comparing.measured(contest, found)
    return [*peers, *left_out], [*_ratios({peer.name: peer for peer in peers}, made), *_tiers(tiers, made)]


def _ratios(peers: dict[str, Peer], made: Maker) -> Iterator[Figure]:
    ours, bare, backend, litellm = (peers.get(name) for name in (ASKONCE, BARE, BACKEND, LITELLM))
    note = "16 connections, one worker, keys on; median of the rounds' ratios"
    for name, kind, bar in (("hit_vs_bare", HIT, 0.65), ("sse_hit_vs_bare", SSE_HIT, 0.5)):
        value = _median(_pairs(ours, bare, kind), lambda a, b: a.per_second / b.per_second)
        yield made.figure(name, value, "", note=f"requests a second against {BARE}'s; {note}", bar=bar, at_least=True)
    value = _median(_pairs(ours, bare, HIT), lambda a, b: a.p99_ms / b.p99_ms)
    yield made.figure("hit_p99_vs_bare", value, "", note=f"p99 against {BARE}'s; {note}", bar=2.0)
    if litellm is not None:
        for name, kind, bar in (("hit_vs_litellm", HIT, 100.0), ("miss_vs_litellm", MISS, 5.0)):
            value = _median(_pairs(ours, litellm, kind), lambda a, b: a.per_second / b.per_second)
            about = f"requests a second against {LITELLM} {litellm.version}; {note}"
            yield made.figure(name, value, "", note=about, bar=bar, at_least=True)
    note = "minus the same of the backend asked directly, 100 steps at once; 1 connection; median of the rounds"
    value = _median(_pairs(ours, backend, MISS, 1), lambda a, b: a.p50_ms - b.p50_ms)
    yield made.figure("miss_added_p50_ms", value, "ms", note=f"p50 of a miss, {note}", bar=1.5)
    value = _median(_pairs(ours, backend, SSE_MISS, 1), lambda a, b: a.first_p50_ms - b.first_p50_ms)
    yield made.figure("ttft_added_ms", value, "ms", note=f"p50 to the first byte of a stream, {note}", bar=2.0)


def _tiers(tiers: Tiers, made: Maker) -> Iterator[Figure]:
    note = "requests a second against a bare ASGI application's; each question asked once; 16 connections, keys on"
    for name, bar, rounds in (
        ("redis_hit_vs_bare", 0.4, tiers.redis),
        ("postgres_hit_vs_bare", 0.2, tiers.postgres),
    ):
        value = statistics.median(each.ratio for each in rounds)
        yield made.figure(name, value, "", note=note, bar=bar, at_least=True)


def _started(place: Place, made: Maker, starts: int, progress: Progress) -> Iterator[Figure]:
    """Start-up with a kept answer, and what a worker weighs then."""
    took_s, weights = list[float](), list[float]()
    for count in range(starts + 1):
        progress(f"start-up, {count} of {starts}")
        with comparing.plain(place) as served:
            if count:
                took_s.append(served.first_answer_s)
                weights.append(processes.resident_bytes(served.worker()) / 1e6)
    note = "from starting the program to a 200 for a question that was kept before; embedded Redis and Postgres"
    yield made.figure("cold_start_s", statistics.median(took_s), "s", note=note, bar=_START_MAX_S)
    note = "resident set of the worker after start-up and one answer"
    yield made.figure("idle_rss_mb", statistics.median(weights), "MB", note=note, bar=_IDLE_MAX_MB)


def _pairs(one: Peer | None, other: Peer | None, kind: str, at_once: int = _AT_ONCE) -> list[tuple[Result, Result]]:
    """The rounds of both."""
    said = f"{kind}, {at_once} at once"
    if one is None or other is None or said not in one.cells or said not in other.cells:
        return []
    return list(zip(one.cells[said].rounds, other.cells[said].rounds, strict=True))


def _median(pairs: list[tuple[Result, Result]], value: Callable[[Result, Result], float]) -> float:
    return statistics.median(value(*pair) for pair in pairs)
