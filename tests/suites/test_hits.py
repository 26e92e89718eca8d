"""How often answers were given: counted once each, in the database soon, bounded meanwhile, and told when lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from storage import hits as counting
from storage import postgres
from storage.breaker import Breaker
from storage.entry import Encoded, Usage
from storage.guard import Guard
from storage.hits import Hits
from storage.ledger import Ledger
from storage.record import Record
from tests.suites.entries import made

KEYS = [made(str(number)).query.key for number in range(5)]


class Database:
    """A pool that can be away, or never say what it did."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.away = self.silent = False
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        self.may.set()

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement, or not."""
        if self.away:
            raise OSError("away")
        if self.silent:
            await asyncio.Event().wait()
        self.asked.set()
        await self.may.wait()
        return await self.pool.execute(query, *args)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """One that works."""
    pool = await postgres.connect(database_url, 4)
    yield Database(pool)
    pool.terminate()


def guard() -> Guard:
    """One that tries again at once."""
    return Guard("postgres", lambda *_: None, Breaker(0, 0))


def counter(database: Database, lost: list[int], deadline_s: float = 5.0) -> Hits:
    """A process's."""
    return Hits(database, guard(), deadline_s, lost.append)


async def counted(database: Database) -> dict[bytes, int]:
    """What the database has."""
    return {row["key"]: row["hits"] for row in await database.pool.fetch("select key, hits from askonce.hits")}


async def test_processes_add_up_and_write_when_they_end(database: Database) -> None:
    """Each hit once, the last ones too, and when the last was."""
    lost: list[int] = []
    one, other = counter(database, lost), counter(database, lost)
    one.note(KEYS[0])
    one.note(KEYS[0], 2)
    assert await one.flush()
    one.note(KEYS[1])
    other.note(KEYS[0])
    await asyncio.gather(one.aclose(), other.aclose())
    assert await counted(database) == {KEYS[0]: 4, KEYS[1]: 1}
    assert not lost
    recent = "select bool_and(last_at > clock_timestamp() - interval '1 minute') from askonce.hits"
    assert await database.pool.fetchval(recent)


async def test_hits_wait_for_a_database_that_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of later batches; nothing is counted twice."""
    monkeypatch.setattr(counting, "_BATCH", 2)
    lost: list[int] = []
    hits = counter(database, lost)
    database.away = True
    for number, key in enumerate(KEYS):
        hits.note(key, number + 1)
    assert not await hits.flush()
    database.away = False
    assert await hits.flush()
    assert await counted(database) == {key: number + 1 for number, key in enumerate(KEYS)}
    await hits.aclose()
    assert not lost


async def test_what_is_not_counted_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many keys, an unknown outcome, and an end without a database."""
    monkeypatch.setattr(counting, "_MOST", 2)
    lost: list[int] = []
    hits = counter(database, lost, deadline_s=0.01)
    for key in KEYS:
        hits.note(key, 10)
    hits.note(KEYS[0])
    assert lost == [10, 10, 10]
    database.silent = True
    assert not await hits.flush()
    assert lost == [10, 10, 10, 21]
    hits.note(KEYS[0])
    database.away = True
    await hits.aclose()
    assert sum(lost) == 52


async def test_usage_that_is_not_counted_is_told(database: Database) -> None:
    """Whether it was never written, or may not have been."""
    lost: list[int] = []
    ledger = Ledger(database, guard(), 0.01, lost.append)
    ledger.note("default", "m", "chat", "hit", Usage(1, 2))
    ledger.note("default", "m", "embedding", "hit", Usage(1), requests=3)
    database.silent = True
    assert not await ledger.flush()
    assert lost == [4]
    ledger.note("default", "m", "chat", "hit", Usage(1, 2))
    database.away = True
    await ledger.aclose()
    assert lost == [4, 1]


@pytest.mark.parametrize("kind", [Hits, Ledger])
async def test_what_is_being_written_at_the_end_is_written(
    database: Database, monkeypatch: pytest.MonkeyPatch, kind: type[Hits | Ledger]
) -> None:
    """And what comes meanwhile, too."""
    monkeypatch.setattr(f"{kind.__module__}._EVERY_S", 0.01)
    lost: list[int] = []
    counts = kind(database, guard(), 5.0, lost.append)

    def note() -> None:
        if isinstance(counts, Hits):
            counts.note(KEYS[0])
        else:
            counts.note("default", "m", "chat", "hit", Usage(1, 2))

    database.may.clear()
    note()
    await asyncio.wait_for(database.asked.wait(), 5)
    ending = asyncio.create_task(counts.aclose())
    note()
    await asyncio.sleep(0.05)
    database.may.set()
    await ending
    count = "select sum(hits) from askonce.hits" if kind is Hits else "select sum(requests) from askonce.usage"
    assert await database.pool.fetchval(count) == 2
    assert not lost


async def test_hits_of_answers_that_are_gone_are_forgotten(database: Database) -> None:
    """Not those of young answers, which may still be being written, nor of kept ones."""
    await postgres.PostgresTier(database.pool).put([Encoded.of(made("0"))])
    hits = counter(database, [])
    for key in KEYS:
        hits.note(key)
    await hits.aclose()
    for age in ("1 hour", "2 days"):
        change = f"update askonce.hits set last_at = clock_timestamp() - interval '{age}' where key <> $1"
        await database.pool.execute(change, KEYS[4])
        assert await Record(database.pool).forget_hits(b"") == b""
        assert len(await counted(database)) == (5 if age == "1 hour" else 2)
    assert set(await counted(database)) == {KEYS[0], KEYS[4]}
