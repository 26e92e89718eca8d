"""A record that grows a hundredfold in; how fast it is looked up, written, swept and started at each size, out."""

import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import click

from gateway.bench import direct, figures, filling, peers, processes, report, served
from gateway.bench.figures import Figure, Maker
from gateway.bench.filling import Part
from gateway.bench.load import Job, Result
from gateway.bench.processes import BenchError, LoadGenerator
from gateway.bench.served import CHAT, Place
from storage.writer import BATCH

Progress = Callable[[str], None]

MOST: Final = 1_000_000
GROWTH_MAX: Final = 1.5
HIT_P50_MAX_MS: Final = 3.0
_DATA: Final = "data-growth"
_SETTINGS: Final = """\
model = "none"
database_deadline_s = 30

[[backends]]
kind = "openai"
model = "{model}"
url = "http://{address}"
"""
_ASKED: Final = 2000
"""Questions in a cell."""
_WHILE: Final = 200
"""Questions in a row while something else goes on."""
_WRITTEN: Final = 20
"""Batches in a cell."""
_STARTS: Final = 3
_NEW: Final = 5_000_000_000
"""The first number of answers that are written one batch after the other."""
_EXPECT: Final = "x-askonce-tier: postgres"


def sizes(most: int) -> tuple[int, ...]:
    """How many answers there are when it is measured. With `most` below ten thousand there is too little to ask."""
    return most // 100, most // 10, most


def measured(
    place: Place, generator: LoadGenerator, made: Maker, progress: Progress, most: int = MOST
) -> Iterator[Figure]:
    """All figures of a record that grows to `most` answers, in a data folder of its own. Raises `BenchError`."""
    run = _Run(place, generator, made, progress)
    found: dict[int, float] = {}
    kept = 0
    for size in sizes(most):
        found[size] = yield from run.grown(Part(kept, size))
        kept = size
    small, *_, large = found
    note = (
        f"p50 of look-ups at {large} answers / that at {small}; each question asked once, found in Postgres, 1 at once"
    )
    yield made.figure(
        f"growth_{_short(small)}_to_{_short(large)}", found[large] / found[small], "", note=note, bar=GROWTH_MAX
    )
    note = f"at {large} answers, over HTTP, 1 at once"
    yield made.figure("postgres_hit_p50_ms", found[large], "ms", note=note, bar=HIT_P50_MAX_MS)


class _Run:
    """One record, and the questions that were not asked yet."""

    def __init__(self, place: Place, generator: LoadGenerator, made: Maker, progress: Progress) -> None:
        self._place = place
        self._generator = generator
        self._made = made
        self._progress = progress
        self._settings = _SETTINGS.format(model=peers.MODEL, address=place.instant)
        self._body = filling.question(peers.MODEL)
        self._new = _NEW
        self._dsn = ""

    def grown(self, part: Part) -> Generator[Figure, None, float]:
        """The figures at the size at which `part` ends; the p50 of look-ups, in milliseconds."""
        self._filled(part)
        at = f"at {part.end} answers"
        started = self._starts(at)
        with self._served() as askonce:
            ask = _Asking(self._generator, askonce.address, self._body, part)
            yield from self._weighed(part, at)
            alone = ask.cell(1)
            yield from self._told(f"look-up {at}, 1 at once", alone)
            yield from self._told(f"look-up {at}, 16 at once", ask.cell(16))
            yield self._figure(
                f"written {at}", self._written(), "1/s", f"batches of {BATCH}, one after the other, as writers do"
            )
            yield from self._swept(ask, part.end // 20, at)
        yield self._figure(
            f"start-up {at}", started, "s", "from starting the program to a 200 for a kept question; warm data folder"
        )
        return alone.p50_ms

    def _filled(self, part: Part) -> None:
        with self._served() as askonce:
            self._dsn = direct.address(askonce.data_dir)
            asyncio.run(self._fill(part))

    async def _fill(self, part: Part) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            mould = await filling.mould(connection, self._body)
            started = time.perf_counter()
            await filling.fill(self._dsn, mould, part, self._progress)
            took_s = time.perf_counter() - started
            self._progress(f"{(part.end - part.first) / took_s:.0f} answers/s were copied; tidying up")
            await connection.execute("vacuum analyze askonce.completions")  # what autovacuum would soon do
            await connection.execute("checkpoint")
        finally:
            await connection.close()

    def _starts(self, at: str) -> float:
        took_s: list[float] = []
        for count in range(_STARTS):
            self._progress(f"start-up {at}, {count + 1} of {_STARTS}")
            with self._served() as askonce:
                if askonce.first_status == "miss":
                    raise BenchError("What was kept is not found after a restart.")
                took_s.append(askonce.first_answer_s)
        return statistics.median(took_s)

    def _weighed(self, part: Part, at: str) -> Iterator[Figure]:
        found = asyncio.run(direct.weighed(self._dsn))
        if found.rows < part.end - part.first:
            message = f"There are {found.rows} answers, not {part.end}."
            raise BenchError(message)
        note = "the table with its indexes and what is stored apart, by pg_total_relation_size"
        yield self._figure(f"on disk {at}", found.disk / found.rows, "bytes", note)
        note = "prompt, parameters, text and steps of an answer, as it is asked for and replayed"
        yield self._figure(f"payload {at}", found.payload / found.rows, "bytes", note)
        yield self._figure(f"on disk / payload {at}", found.disk / found.payload, "", "compressed by Postgres")
        note = "what `record_max_bytes` is compared with"
        yield self._figure(f"size as estimated / on disk {at}", found.estimate / found.disk, "", note)

    def _written(self) -> float:
        self._progress("writing batches")
        begin, self._new = self._new, self._new + BATCH * _WRITTEN
        return asyncio.run(direct.written(self._dsn, self._body, range(begin, self._new)))

    def _swept(self, ask: "_Asking", rows: int, at: str) -> Iterator[Figure]:
        for what, sweep in (("expiry", direct.expired), ("eviction", direct.evicted)):
            before = ask.chunks(5)
            self._progress(f"{what} {at}")
            sweeping = _Beside(partial(sweep, self._dsn, rows))
            during = ask.chunks_while(sweeping.goes_on)
            gone, took_s = sweeping.result()
            note = f"{gone} rows, a few at a time with rests between"
            yield self._figure(f"{what} {at} took", took_s, "s", note)
            for name, results in (("before", before), ("during", during)):
                p99 = statistics.median(result.p99_ms for result in results)
                note = f"of look-ups, 1 at once; median of {len(results)} times {results[0].requests} questions"
                yield self._figure(f"p99 {name} {what} {at}", p99, "ms", note)

    def _served(self) -> Any:
        return self._place.served(_DATA, filling.first(self._body), self._settings)

    def _told(self, what: str, result: Result) -> Iterator[Figure]:
        note = f"{result.requests} questions, each asked once, found in Postgres, over HTTP"
        yield self._figure(f"{what}: throughput", result.per_second, "1/s", note)
        yield self._figure(f"{what}: p50", result.p50_ms, "ms", note)
        yield self._figure(f"{what}: p99", result.p99_ms, "ms", note)

    def _figure(self, name: str, value: float, unit: str, note: str) -> Figure:
        return self._made.figure(name, value, unit, note=note)


class _Asking:
    """Questions of a part's younger half, each once."""

    def __init__(self, generator: LoadGenerator, address: str, body: str, part: Part) -> None:
        self._generator = generator
        self._address = address
        self._body = body
        self._next = part.middle
        self._end = part.end
        self._all = part.end - part.middle

    def cell(self, concurrency: int) -> Result:
        """Ask many, that many at once. Raises `BenchError` when one is not found in Postgres."""
        return self._questions(min(_ASKED, self._all // 4), concurrency)

    def chunks(self, most: int) -> list[Result]:
        """Ask some, as often as that."""
        return [self._chunk() for _ in range(most)]

    def chunks_while(self, goes_on: Callable[[], bool]) -> list[Result]:
        """Ask some at a time, as long as that is so, or half of what is left is asked; once at least."""
        found, enough = [self._chunk()], (self._next + self._end) // 2
        while goes_on() and self._next < enough:
            found.append(self._chunk())
        return found

    def _chunk(self) -> Result:
        """Ask a small part of what is left: however long others take, there are some left to ask."""
        return self._questions(max(1, min(_WHILE, (self._end - self._next) // 12)), 1)

    def _questions(self, most: int, concurrency: int) -> Result:
        job = Job(
            address=self._address,
            path=CHAT,
            body=self._body,
            seconds=served.START_TIMEOUT_S,
            most=most,
            concurrency=concurrency,
            first_number=self._next,
            expect=_EXPECT,
        )
        self._next += most
        return self._generator.measure(job)


class _Beside:
    """Something that a thread does while this one measures."""

    def __init__(self, doing: Callable[[], Any]) -> None:
        self._found: list[Any] = []
        self._started = time.perf_counter()
        self._took_s = 0.0
        self._doing = doing
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def goes_on(self) -> bool:
        """Whether it is not done yet."""
        return self._thread.is_alive()

    def result(self) -> tuple[Any, float]:
        """What it gives, and how long that took."""
        self._thread.join()
        if not self._found:
            raise BenchError("A sweep failed.")
        return self._found[0], self._took_s

    def _run(self) -> None:
        self._found.append(asyncio.run(self._doing()))
        self._took_s = time.perf_counter() - self._started


def _short(size: int) -> str:
    """1000000 as 1e6."""
    digits = str(size)
    return f"{digits[0]}e{len(digits) - 1}" if not digits[1:].strip("0") else digits


@click.command()
@click.option(
    "--most", type=click.IntRange(min=10_000), default=MOST, show_default=True, help="How many answers, at last."
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the figures.")
def command(most: int, output: Path | None) -> None:
    """Measure how the record of answers grows, in a folder of its own that is gone afterwards."""
    made, cores = figures.maker(f"python -m gateway.bench.growth --most {most}"), processes.cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="askonce-bench-")))
        generator = stack.enter_context(processes.generator(cores.generator))
        instant = stack.enter_context(processes.peer(b"instant", cores.servers))
        found = list(measured(Place(folder, instant, cores), generator, made, report.progress, most))
    for figure in found:
        click.echo(f"{figure.name:60} {figure.value:>10g} {figure.unit:6} {figure.note}")
    click.echo(figures.verdict(found))
    if output is not None:
        figures.write(found, output)


if __name__ == "__main__":
    command()
