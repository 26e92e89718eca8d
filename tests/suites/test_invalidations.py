"""Invalidations on a real Postgres: what was taken back stays away, from every tier and every gateway."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import msgspec
import pytest

from storage import postgres as postgres_tier
from storage import redis as redis_tier
from storage import rows as rows_of
from storage.changes import Changes
from storage.closed import Kind
from storage.entry import Encoded
from storage.errors import StorageError, UnsureError
from storage.guard import GuardedTier
from storage.invalidations import Invalidations, Selector
from storage.memory import MemoryTier
from storage.sql import query
from storage.tiers import Tiers
from tests.suites.entries import made


class Gateway:
    """One process's tiers on shared servers."""

    def __init__(self, tiers: Tiers, marks: Invalidations, memory: MemoryTier) -> None:
        self.tiers = tiers
        self.marks = marks
        self.memory = memory

    async def has(self, name: str) -> str | None:
        """The tier that still has this entry."""
        found = (await self.tiers.get(made(name).query.key)).found
        return found.tier if found else None

    async def flushed(self) -> None:
        """Everything is written."""
        for writer in self.tiers._writers:
            assert await writer.flush(5)


@contextlib.asynccontextmanager
async def opened(database_url: str, redis_url: str) -> AsyncIterator[Gateway]:
    """A gateway that listens for what others invalidate."""
    pool = await postgres_tier.connect(database_url, 4)
    marks, memory = Invalidations(pool), MemoryTier(2**20)
    lower = [
        GuardedTier(redis_tier.connect(redis_url, 60), 1, lambda *_: None),
        GuardedTier(postgres_tier.PostgresTier(pool), 2, lambda *_: None),
    ]
    tiers = Tiers(memory, lower, marks, lambda _: None)

    async def heard(_: str) -> None:
        await marks.refresh()

    changes = Changes(database_url, heard)
    try:
        await until(lambda: marks.known)
        yield Gateway(tiers, marks, memory)
    finally:
        await changes.aclose()
        await tiers.aclose()


async def until(happened: Callable[[], bool]) -> None:
    """Wait for a notification to arrive."""
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110 -- the database tells it to another task
            await asyncio.sleep(0.005)


@pytest.fixture
async def gateways(database_url: str, redis_url: str) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two of them."""
    async with opened(database_url, redis_url) as one, opened(database_url, redis_url) as other:
        yield one, other


SELECTORS: list[tuple[Kind, Callable[[str], str]]] = [
    ("key", lambda name: made(name).query.key.hex()),
    ("prompt", lambda name: made(name).query.prompt_hash.hex()),
    ("model", lambda name: f"model of {name}"),
    ("tag", lambda name: f"tag-{name}"),
    ("all", lambda _: ""),
]


@pytest.mark.parametrize(("kind", "value"), SELECTORS, ids=[kind for kind, _ in SELECTORS])
async def test_what_is_taken_back_is_gone_everywhere_and_the_rest_stays(
    gateways: tuple[Gateway, Gateway], kind: Kind, value: Callable[[str], str]
) -> None:
    """From memory, Redis and Postgres, on the gateway that was told and on the other."""
    one, other = gateways
    for name in ("a", "b"):
        item = made(name, "text", tags=(f"tag-{name}",))
        asked = msgspec.structs.replace(item.query, model=f"model of {name}")
        one.tiers.put(msgspec.structs.replace(item, query=asked))
    await one.flushed()
    assert await other.has("a") == "redis"
    assert await other.has("a") == "memory"
    assert await one.marks.add("another", Selector(kind, value("a")))
    assert await one.has("a") == "memory"
    done = await one.marks.add("default", Selector(kind, value("a")))
    assert done.rows == (2 if kind == "all" else 1)
    assert await one.has("a") is None
    await until(lambda: other.marks.epoch == done.id)
    assert await other.has("a") is None
    assert (await other.has("b") is None) == (kind == "all")


async def test_a_new_answer_takes_the_place_of_the_old_one(
    gateways: tuple[Gateway, Gateway], database_url: str, redis_url: str
) -> None:
    """In every tier, and for a gateway that is started later."""
    one, other = gateways
    one.tiers.put(made("a", "old"))
    await one.flushed()
    assert await other.has("a")
    done = await one.marks.add("default", Selector("all"))
    late = made("a", "written late", epoch=0)  # asked before the invalidation, kept after it
    one.tiers.put(msgspec.structs.replace(late, created_at=late.created_at + 1, replaces=True))
    assert await one.has("a") is None
    looked = await one.tiers.get(late.query.key)
    assert looked.stale
    one.tiers.put(
        msgspec.structs.replace(made("a", "new", epoch=done.id), created_at=late.created_at + 2, replaces=True)
    )
    await one.flushed()
    await until(lambda: other.marks.epoch == done.id)
    async with opened(database_url, redis_url) as third:
        for gateway in (one, other, third):
            found = (await gateway.tiers.get(late.query.key)).found
            assert found is not None
            assert found.entry.text() == "new"


async def test_an_answer_that_counts_is_not_lost_to_one_that_does_not(gateways: tuple[Gateway, Gateway]) -> None:
    """Whichever of them was asked for later by the clock, and whichever is written first."""
    one, other = gateways
    done = await one.marks.add("default", Selector("all"))
    for name in ("a", "b"):
        counts = made(name, "counts", epoch=done.id, replaces=True, created_at=1.7e9)
        late = made(name, "asked before, but slowly", replaces=True, created_at=1.7e9 + 1)
        for gateway, item in ((one, counts), (other, late)) if name == "a" else ((other, late), (one, counts)):
            gateway.tiers.put(item)
            await gateway.flushed()
    await until(lambda: other.marks.epoch == done.id)
    for gateway in (one, other):
        gateway.memory.clear()
        for name in ("a", "b"):
            found = (await gateway.tiers.get(made(name).query.key)).found
            assert found is not None, name
            assert found.entry.text() == "counts"


@pytest.mark.parametrize("selector", [Selector("all"), Selector("model", "m"), Selector("tag", "q")], ids=str)
async def test_what_is_asked_after_a_deletion_outlives_what_was_asked_before(
    gateways: tuple[Gateway, Gateway], selector: Selector
) -> None:
    """Though the older answer comes first, where it was asked or where nobody has heard of the deletion, and though the
    new one was not told to replace anything, for there was nothing; and whatever tags the two have.
    """
    one, other = gateways
    done = await one.marks.add("default", selector)
    before = {name: made(name, "before", tags=("q",)) for name in ("here", "there")}
    after = {name: made(name, "after", epoch=done.id, created_at=1.6e9) for name in before}
    assert one.tiers.put(before["here"]) is False
    other.marks._closed.clear()  # as if it had not heard yet
    assert other.tiers.put(before["there"]) is True
    for gateway in (one, other):
        await gateway.flushed()
    for item in after.values():
        assert one.tiers.put(item) is True
    await one.flushed()
    other.marks.epoch = 0
    await other.marks.refresh()
    for gateway in (one, other, one):
        for item in after.values():
            found = (await gateway.tiers.get(item.query.key)).found
            assert found is not None
            assert found.entry.text() == "after"
        await gateway.flushed()
        one.memory.clear()


async def test_many_answers_are_superseded_in_one_statement(gateways: tuple[Gateway, Gateway]) -> None:
    """Within the deadline; others stay, and what is new counts everywhere."""
    one, other = gateways
    names = [f"text {number}" for number in range(256)]
    for name in (*names[:3], "another"):
        one.tiers.put(made(name, "old"))
    await one.flushed()
    epoch = await one.tiers.supersede([made(name).query.key for name in names], "default")
    assert epoch is not None
    await until(lambda: other.marks.epoch == epoch)
    for gateway in (one, other):
        assert [await gateway.has(name) is None for name in (*names[:3], "another")] == [True, True, True, False]
    one.tiers.put(msgspec.structs.replace(made("text 0", "new", epoch=epoch), replaces=True))
    assert await one.has("text 0")


async def test_a_restart_forgets_no_invalidation(database_url: str, redis_url: str) -> None:
    """Redis still has the bytes; nobody gives them."""
    async with opened(database_url, redis_url) as gateway:
        gateway.tiers.put(made("a", "text"))
        await gateway.flushed()
        await gateway.marks.add("default", Selector("model", "m"))
    async with opened(database_url, redis_url) as gateway:
        assert await gateway.has("a") is None


async def test_until_the_list_is_read_no_lower_tier_is_trusted(database_url: str, redis_url: str) -> None:
    """What this process was answered itself may be given again."""
    async with opened(database_url, redis_url) as gateway:
        gateway.tiers.put(made("a", "text"))
        await gateway.flushed()
        gateway.marks.known = False
        assert await gateway.has("a") == "memory"
        gateway.memory.clear()
        assert await gateway.has("a") is None


async def test_ids_are_seen_in_order(database_url: str) -> None:
    """A gateway that knows one invalidation knows every earlier one, however many are made at once."""
    pool = await asyncpg.create_pool(database_url, min_size=0, max_size=8)
    reader, writers = Invalidations(pool), [Invalidations(pool) for _ in range(8)]
    seen = 0

    async def read() -> None:
        nonlocal seen
        while seen < 80:
            await reader.refresh()
            assert len(reader._closed.get("s", ())) == reader.epoch
            seen = reader.epoch

    async def write(marks: Invalidations, name: int) -> None:
        for count in range(10):
            await marks.add("s", Selector("tag", f"{name}-{count}"))

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(read())
        for name, marks in enumerate(writers):
            group.create_task(write(marks, name))
    await pool.close()


async def test_old_marks_are_taken_away_and_the_number_goes_on(database_url: str) -> None:
    """The last one stays, or a gateway started later would count from zero."""
    pool = await asyncpg.create_pool(database_url, min_size=0, max_size=1)
    marks = Invalidations(pool)
    for count in range(3):
        await marks.add("s", Selector("tag", str(count)))
    await marks.prune(3600)
    assert await pool.fetchval("select count(*) from askonce.invalidations") == 3
    await marks.prune(0)
    assert await pool.fetchval("select count(*) from askonce.invalidations") == 1
    fresh = Invalidations(pool)
    await fresh.refresh()
    assert fresh.epoch == marks.epoch == 3
    await pool.close()


@pytest.mark.parametrize("fault", [TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError])
async def test_what_could_not_be_read_is_read_again(database_url: str, fault: type[Exception]) -> None:
    """A gateway that was told of a change, and then could not ask which, does not stay ignorant of it."""
    told: list[str] = []

    async def heard(said: str) -> None:
        told.append(said)
        if len(told) == 1:
            raise fault("the database is busy")

    changes = Changes(database_url, heard)
    await until(lambda: len(told) == 2)
    await changes.aclose()
    assert told == ["*", "*"]


async def rows(database_url: str) -> dict[bytes, str]:
    """What the record has: keys and texts."""
    connection = await asyncpg.connect(database_url)
    try:
        return {row["key"]: row["text"] for row in await connection.fetch("select key, text from askonce.completions")}
    finally:
        await connection.close()


@pytest.mark.parametrize(("kind", "value"), SELECTORS, ids=[kind for kind, _ in SELECTORS])
async def test_what_was_taken_back_while_it_was_under_way_is_not_in_the_record(
    gateways: tuple[Gateway, Gateway], database_url: str, kind: Kind, value: Callable[[str], str]
) -> None:
    """Whichever gateway writes it, knowing or not: no list and no look-alike of it can be read there."""
    one, _ = gateways
    item = made("late", "text", tags=("tag-late",))
    item = msgspec.structs.replace(item, query=msgspec.structs.replace(item.query, model="model of late"))
    pool = await postgres_tier.connect(database_url, 1)
    record = postgres_tier.PostgresTier(pool)
    await one.marks.add("another", Selector(kind, value("late")))
    done = await one.marks.add("default", Selector(kind, value("late")))
    await record.put([Encoded.of(item), Encoded.of(made("other", "text", epoch=done.id))])
    assert (await rows(database_url)).keys() == {made("other").query.key}
    await record.put([Encoded.of(msgspec.structs.replace(item, epoch=done.id))])
    assert (await rows(database_url)).keys() == {item.query.key, made("other").query.key}
    await record.aclose()


async def test_what_is_written_while_it_is_being_deleted_goes_too(
    gateways: tuple[Gateway, Gateway], database_url: str
) -> None:
    """A deletion waits for what is being written, and what comes to be written waits for the deletion."""
    one, _ = gateways
    writer, deleter = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    pool = await postgres_tier.connect(database_url, 2)
    record = postgres_tier.PostgresTier(pool)

    async def waiting(count: int) -> None:
        async with asyncio.timeout(20):
            while await writer.fetchval(sql_waiting) < count:  # noqa: ASYNC110 -- the database has no event for it
                await asyncio.sleep(0.01)

    sql_waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    transaction = deleter.transaction()
    await transaction.start()
    await deleter.execute("select askonce.invalidate('default', 'all', '')")  # its number is not visible yet
    putting = asyncio.create_task(record.put([Encoded.of(made("a", "came during it"))]))
    await waiting(1)
    await transaction.commit()
    await putting
    assert await rows(database_url) == {}
    await writer.execute("begin")
    await writer.execute(query("completion_lock"))
    deleting = asyncio.create_task(one.marks.add("default", Selector("all")))
    await waiting(1)
    epoch = await writer.fetchval("select max(id) from askonce.invalidations")
    written = rows_of.row(Encoded.of(made("b", "was being written", epoch=epoch)))
    await writer.execute(query("completion_put"), *([value] for value in written))
    await writer.execute("commit")
    assert (await deleting).rows == 1
    assert await rows(database_url) == {}
    for connection in (writer, deleter):
        await connection.close()
    await record.aclose()


class Pinged:
    """A pool, and how often it was asked whether it is still there."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.pings = 0
        self.answers = True
        self.fetch = pool.fetch
        self.fetchrow = pool.fetchrow

    async def execute(self, query: str, *args: Any) -> str:
        """Count."""
        self.pings += 1
        if not self.answers:
            raise ConnectionResetError
        return await self._pool.execute(query, *args)


@pytest.mark.parametrize("answers", [True, False])
async def test_deleting_many_rows_may_take_long_while_the_database_answers(database_url: str, answers: bool) -> None:
    """Else it is not known how that ends; what was deleted is given no more in either case."""
    pool, locking = await postgres_tier.connect(database_url, 3), await asyncpg.connect(database_url)
    record, database = postgres_tier.PostgresTier(pool), Pinged(pool)
    marks = Invalidations(database, deadline_s=0.05)
    await marks.refresh()
    await record.put([Encoded.of(made("a", "text"))])
    async with locking.transaction():
        await locking.execute("select from askonce.completions for update")
        deleting = asyncio.create_task(marks.add("default", Selector("all")))
        await until(lambda: database.pings >= 2)
        assert not deleting.done()
        assert not marks.allows(made("a"))
        database.answers = answers
        if not answers:
            with pytest.raises(UnsureError):
                await deleting
    if answers:
        assert (await deleting).rows == 1
    await locking.close()
    await record.aclose()


async def test_a_database_that_is_not_there_was_told_nothing(database_url: str) -> None:
    """And so nothing was deleted."""
    pool = await postgres_tier.connect(database_url.replace("/run", "/nowhere"), 1)
    with pytest.raises(StorageError) as refused:
        await Invalidations(pool).add("default", Selector("all"))
    assert not isinstance(refused.value, UnsureError)
    pool.terminate()


async def test_a_row_that_outlived_its_deletion_goes_with_the_mark(
    gateways: tuple[Gateway, Gateway], database_url: str
) -> None:
    """A gateway that died between saying so and deleting leaves rows; they never come back, nor stay for ever."""
    one, other = gateways
    names = [f"late {number}" for number in range(len(SELECTORS))]
    for name in names:
        asked = msgspec.structs.replace(made(name).query, model=f"model of {name}")
        one.tiers.put(msgspec.structs.replace(made(name, "text", tags=(f"tag-{name}",)), query=asked))
    await one.flushed()
    connection = await asyncpg.connect(database_url)
    try:
        for name, (kind, value) in zip(names, SELECTORS, strict=True):
            await connection.execute("select askonce.invalidate('default', $1, $2)", kind, value(name))
        await until(lambda: one.marks.epoch == len(SELECTORS))
        one.tiers.put(msgspec.structs.replace(made("new", "text"), epoch=one.marks.epoch))
        await one.flushed()
        assert len(await rows(database_url)) == len(names) + 1
        await one.marks.add("another", Selector("all"))
        await one.marks.prune(0)
        assert await connection.fetchval("select count(*) from askonce.invalidations") == 1
    finally:
        await connection.close()
    assert (await rows(database_url)).keys() == {made("new").query.key}
    assert one.marks._closed.keys() == {"another"}
    assert await other.has("new") is not None


async def test_what_another_database_numbered_does_not_count(gateways: tuple[Gateway, Gateway]) -> None:
    """A Redis that outlives its database has answers of numbers that were never given here."""
    one, other = gateways
    one.tiers.put(msgspec.structs.replace(made("a", "text"), epoch=2000))
    await one.flushed()
    assert await other.has("a") is None


async def test_many_answers_are_superseded_in_one_step(gateways: tuple[Gateway, Gateway]) -> None:
    """And none while others cannot be told."""
    one, other = gateways
    keys = [made(name).query.key for name in ("a", "b", "c")]
    for name in ("a", "b", "c"):
        one.tiers.put(made(name, "text"))
    epoch = await one.tiers.supersede(keys[:2], "default")
    assert epoch is not None
    await until(lambda: other.marks.epoch >= epoch)
    assert [await other.has(name) is None for name in ("a", "b")] == [True, True]
    assert await one.has("c") == "memory"
