"""How many hits a second come out of Redis once askonce has been started anew, and out of Postgres once Redis has
forgotten everything; beside a bare server.

The questions are asked as clients ask them, three times: of a model, and then of each tier.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import asyncpg
import msgspec

from gateway.bench import comparing, direct, filling, peers, processes, served
from gateway.bench.load import Job, Result
from gateway.bench.processes import BenchError, LoadGenerator
from gateway.bench.rivals import Rival
from gateway.bench.served import Place

AT_ONCE: Final = 16
_MOST_S: Final = 300.0
_KEPT_S: Final = 60.0


class Lower(msgspec.Struct, frozen=True):
    """One round: the same number of connections to each."""

    bare: Result
    tier: Result

    @property
    def ratio(self) -> float:
        """Hits a second, against a bare server's."""
        return self.tier.per_second / self.bare.per_second


class Tiers(msgspec.Struct, frozen=True):
    """All rounds."""

    redis: list[Lower]
    postgres: list[Lower]


def measured(place: Place, generator: LoadGenerator, rounds: int, asked: int, progress: Callable[[str], None]) -> Tiers:
    """Several rounds for each tier, each with `asked` questions that nobody has asked the process before.

    Raises `BenchError` when an answer comes from elsewhere.
    """
    body = filling.question(peers.MODEL)
    with comparing.askonce(place, place.instant) as ours:
        progress(f"{rounds * asked} questions are asked for the first time")
        _Run(ours, generator, body).all(range(rounds * asked), "x-askonce-cache: miss")
        asyncio.run(_kept(ours, rounds * asked))
    found: dict[str, list[Lower]] = {}
    for tier in ("redis", "postgres"):
        with comparing.askonce(place, place.instant, ours) as again:
            if tier == "postgres" and again.data_dir is not None:
                served.flush_redis(again.data_dir)
            found[tier] = _rounds(_Run(again, generator, body), place, tier, rounds, asked, progress)
    return Tiers(found["redis"], found["postgres"])


def _rounds(
    run: "_Run", place: Place, tier: str, rounds: int, asked: int, progress: Callable[[str], None]
) -> list[Lower]:
    replies = msgspec.json.encode(comparing.replies(run.ours))
    found: list[Lower] = []
    with processes.peer(replies, place.cores.servers) as bare:
        for count in range(rounds):
            progress(f"hits out of {tier}, round {count + 1} of {rounds}")
            numbers = range(count * asked, (count + 1) * asked)
            found.append(Lower(run.bare(bare), run.all(numbers, f"x-askonce-tier: {tier}")))
    return found


class _Run:
    """The same questions for all."""

    def __init__(self, ours: Rival, generator: LoadGenerator, body: str) -> None:
        self.ours = ours
        self._generator = generator
        self._body = body

    def bare(self, address: str) -> Result:
        """What can be had at most."""
        return self._measure(Job(address=address, path=self.ours.path, body=self._body, seconds=1.0))

    def all(self, numbers: range, expect: str) -> Result:
        """Questions of these numbers, each once; every reply has this line."""
        job = Job(
            address=self.ours.address,
            path=self.ours.path,
            body=self._body,
            seconds=_MOST_S,
            most=len(numbers) - AT_ONCE,  # some more are under way by then
            first_number=numbers.start,
            expect=expect,
            headers=self.ours.headers,
        )
        return self._measure(job)

    def _measure(self, job: Job) -> Result:
        return self._generator.measure(msgspec.structs.replace(job, concurrency=AT_ONCE))


async def _kept(ours: Rival, count: int) -> None:
    """Wait until so many answers are in the record."""
    if ours.data_dir is None:
        raise BenchError("Nobody knows where askonce keeps its answers.")
    connection = await asyncpg.connect(direct.address(ours.data_dir))
    try:
        end = time.monotonic() + _KEPT_S
        while (rows := await connection.fetchval("select count(*) from askonce.completions")) < count - AT_ONCE:
            if time.monotonic() > end:
                message = f"Of {count} answers {rows} are kept."
                raise BenchError(message)
            await asyncio.sleep(0.1)
    finally:
        await connection.close()
