"""One suite for every tier, over the real servers: what goes in comes out, unchanged, or not at all."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import msgspec
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings

from storage import postgres as postgres_tier
from storage import redis as redis_tier
from storage.entry import Chunk, Encoded, Entry, Held, Usage
from storage.errors import RefusedError
from storage.guard import Tier
from storage.memory import MemoryTier
from tests.suites.entries import ENTRIES, SPECIAL, got, made

TTL_S = 1000


def encoded(*items: Entry) -> list[Encoded]:
    """What tiers are given."""
    return [Encoded.of(item) for item in items]


class Memory:
    """The memory tier with the interface of the others."""

    name = "memory"

    def __init__(self) -> None:
        self._tier = MemoryTier(2**26)

    async def get(self, keys: Sequence[bytes]) -> list[Held | None]:
        """Get."""
        found = [(self._tier.get(key), self._tier.data(key)) for key in keys]
        return [Held(entry, Encoded(entry.query.key, data)) if entry and data else None for entry, data in found]

    async def put(self, items: list[Encoded]) -> None:
        """Put."""
        for item in items:
            self._tier.put(item)

    async def ping(self) -> None:
        """Nothing can be wrong."""

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.fixture(params=["memory", "redis", "postgres"])
async def tier(request: pytest.FixtureRequest, redis_url: str, database_url: str) -> AsyncIterator[Tier]:
    """Each tier in turn, empty."""
    if request.param == "memory":
        made_tier: Any = Memory()
    elif request.param == "redis":
        made_tier = redis_tier.connect(redis_url, TTL_S)
    else:
        made_tier = postgres_tier.PostgresTier(await postgres_tier.connect(database_url, 4))
    yield made_tier
    await made_tier.aclose()


async def test_what_was_never_put_is_not_there(tier: Tier) -> None:
    """Nothing comes of nothing."""
    assert await got(tier, made("x").query.key) is None
    await tier.ping()


@pytest.mark.parametrize("item", SPECIAL.values(), ids=SPECIAL)
async def test_a_special_entry_comes_back_as_it_was(tier: Tier, item: Entry) -> None:
    """NUL, which Postgres cannot hold as text, huge texts, odd characters: the answer is the same."""
    await tier.put(encoded(item))
    assert await got(tier, item.query.key) == item


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(ENTRIES)
async def test_any_entry_comes_back_as_it_was(tier: Tier, item: Entry) -> None:
    """Whatever a backend may have said."""
    await tier.put(encoded(item))
    found = await got(tier, item.query.key)
    assert found is not None
    if found != item:  # hypothesis came by here with the same key: the first one stays
        assert found.query.key == item.query.key


async def test_what_is_kept_never_changes(tier: Tier) -> None:
    """A second answer to the same question is not kept, alone or in a batch."""
    await tier.put(encoded(made("a", "first"), made("a", "in the same batch")))
    await tier.put(encoded(made("a", "second"), made("b", "other")))
    found, other = await got(tier, made("a").query.key), await got(tier, made("b").query.key)
    assert found is not None
    assert other is not None
    assert (found.text(), other.text()) == ("first", "other")


@pytest.mark.parametrize("replaces", [False, True])
async def test_an_answer_asked_for_after_a_later_invalidation_wins(tier: Tier, replaces: bool) -> None:
    """Whichever comes first, and whatever the clocks say."""
    older = made("a", "older", epoch=7, created_at=1.7e9 + 5, replaces=replaces)
    newer = made("a", "newer", epoch=8, created_at=1.7e9)
    for name, order in (("a", (older, newer)), ("b", (newer, older))):
        key = made(name).query.key
        for item in order:
            query = msgspec.structs.replace(item.query, key=key)
            await tier.put(encoded(msgspec.structs.replace(item, query=query)))
        found = await got(tier, key)
        assert found is not None
        assert found.text() == "newer", name


async def test_what_replaces_wins_only_when_it_is_newer(tier: Tier) -> None:
    """Among answers that know of the same invalidations, asked for because one that is kept is too old."""
    await tier.put(encoded(made("a", "kept", created_at=1.7e9)))
    for text, moment, replaces, wins in (
        ("older", 1.6e9, True, "kept"),
        ("does not replace", 1.8e9, False, "kept"),
        ("newer", 1.8e9, True, "newer"),
    ):
        await tier.put(encoded(made("a", text, created_at=moment, replaces=replaces)))
        found = await got(tier, made("a").query.key)
        assert found is not None
        assert found.text() == wins


async def test_a_batch_is_decided_as_one_after_the_other(tier: Tier) -> None:
    """However often a key is in it, in whatever order."""
    answers = (
        made("a", "first"),
        made("a", "later, and not wanted", created_at=1.8e9),
        made("a", "instead", created_at=1.9e9, replaces=True),
        made("a", "after a deletion", epoch=1),
    )
    together: list[Entry] = []
    for number, order in enumerate(itertools.permutations(answers)):
        for name in (f"alone {number}", f"together {number}"):
            query = msgspec.structs.replace(answers[0].query, key=made(name).query.key)
            items = [msgspec.structs.replace(answer, query=query) for answer in order]
            if name.startswith("together"):
                together += items
                continue
            for item in items:
                await tier.put(encoded(item))
    await tier.put(encoded(*together))
    for number in range(24):
        alone, one = [await got(tier, made(f"{how} {number}").query.key) for how in ("alone", "together")]
        assert alone is not None
        assert one is not None
        assert alone.text() == one.text()


async def test_many_write_at_the_same_time(tier: Tier) -> None:
    """Everything arrives, and of equal keys one wins."""
    await asyncio.gather(*(tier.put(encoded(made(str(n % 10), f"{n}"), made(f"own {n}"))) for n in range(40)))
    for number in range(10):
        found = await got(tier, made(str(number)).query.key)
        assert found is not None
        assert int(found.text()) % 10 == number
    for number in range(40):
        assert await got(tier, made(f"own {number}").query.key) is not None


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xc1", b"{}", b"\x90", b"\x81\xa5query\x80"], ids=repr)
async def test_other_bytes_in_redis_are_no_answer(redis_url: str, data: bytes) -> None:
    """Nor a fault."""
    key = made("a").query.key
    tier = redis_tier.connect(redis_url, TTL_S)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.set(redis_tier.PREFIX + key, data)
    assert await got(tier, key) is None
    await tier.aclose()


async def test_another_keys_entry_in_redis_is_no_answer(redis_url: str) -> None:
    """Even if a reply were mixed up, nobody gets the answer to another question."""
    item, key = made("a", "secret"), made("b").query.key
    tier = redis_tier.connect(redis_url, TTL_S)
    await tier.put(encoded(item))
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.copy(redis_tier.PREFIX + item.query.key, redis_tier.PREFIX + key)
    assert await got(tier, key) is None
    await tier.aclose()


async def test_cancelled_reads_never_mix_up_replies(redis_url: str) -> None:
    """A client who leaves mid-read must not leave its reply to the next reader."""
    tier = redis_tier.connect(redis_url, TTL_S)
    items = [made(str(number), "x" * 20_000) for number in range(50)]
    await tier.put(encoded(*items))
    for round_ in range(20):
        tasks = [asyncio.ensure_future(got(tier, item.query.key)) for item in items]
        for _ in range(round_):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [await got(tier, item.query.key) for item in items] == items
    await tier.aclose()


async def test_a_hit_does_not_extend_the_time_to_live(redis_url: str) -> None:
    """Nor does a second answer."""
    tier = redis_tier.connect(redis_url, TTL_S)
    item = made("a", "x")
    await tier.put(encoded(item))
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.expire(redis_tier.PREFIX + item.query.key, 50)
        assert await got(tier, item.query.key) == item
        await tier.put(encoded(made("a", "y")))
        assert 0 < await client.ttl(redis_tier.PREFIX + item.query.key) <= 50
        await tier.put(encoded(made("b")))
        assert 50 < await client.ttl(redis_tier.PREFIX + made("b").query.key) <= TTL_S
    await tier.aclose()


async def test_a_row_that_cannot_be_read_is_no_answer(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its tier works on."""
    tier = postgres_tier.PostgresTier(await postgres_tier.connect(database_url, 2))
    await tier.put(encoded(made("a"), made("b")))
    connection = await asyncpg.connect(database_url)
    await connection.execute("update askonce.completions set steps = 'oops' where prompt_text = 'a'")
    await connection.close()
    assert await got(tier, made("a").query.key) is None
    assert await got(tier, made("b").query.key) == made("b")
    assert "cannot be read" in caplog.text
    await tier.aclose()


def asked(name: str, **fields: Any) -> Entry:
    """A small entry with another query."""
    item = made(name)
    return msgspec.structs.replace(item, query=msgspec.structs.replace(item.query, **fields))


NO_COLUMN = {
    "a NUL": made("NUL", origin_id="a\x00 secret"),
    "a large number": made("number", usage=Usage(2**40)),
    "a large token": made("token", chunks=(Chunk(content="x", token_ids=(2**40,)),)),
    "no seed": asked("seed", params='{"known":{"seed":"secret"}}'),
    "no key": asked("key", key=b"secret"),
}


@pytest.mark.parametrize("bad", NO_COLUMN.values(), ids=NO_COLUMN)
async def test_what_no_column_can_hold_is_refused(database_url: str, bad: Entry) -> None:
    """With its batch, of which nothing is kept; the refusal does not quote it, and the others are taken without it."""
    tier = postgres_tier.PostgresTier(await postgres_tier.connect(database_url, 2))
    good = [made("one"), made("other")]
    with pytest.raises(RefusedError) as refusal:
        await tier.put(encoded(good[0], bad, good[1]))
    assert "secret" not in str(refusal.value)
    assert [await got(tier, item.query.key) for item in good] == [None, None]
    await tier.put(encoded(*good))
    assert [await got(tier, item.query.key) for item in good] == good
    await tier.aclose()


async def test_a_row_can_be_queried(database_url: str) -> None:
    """The view shows plain text, with U+2400 where a NUL was, and the places where the stream was cut."""
    tier = postgres_tier.PostgresTier(await postgres_tier.connect(database_url, 2))
    await tier.put(encoded(SPECIAL["NUL"], SPECIAL["choices"], SPECIAL["tool call"]))
    connection = await asyncpg.connect(database_url)
    rows = {row["prompt_text"]: row for row in await connection.fetch("select * from api.completions")}
    await connection.close()
    assert rows["NUL"]["text"] == "a\u2400b\u2400"
    assert rows["NUL"]["step_lengths"][:2] == [3, 1]
    assert rows["choices"]["token_ids"] == [0, 3, 6]
    assert rows["choices"]["finish_reason"] == "length"
    assert "\\u0000" in rows["tool"]["message"]
    assert rows["NUL"]["created_at"].timestamp() == 1.7e9
    await tier.aclose()


async def test_a_prompt_with_nul_is_kept(database_url: str) -> None:
    """Canonical JSON escapes it; only the searchable copy shows U+2400."""
    item = made("x\x00y", "z")
    tier = postgres_tier.PostgresTier(await postgres_tier.connect(database_url, 2))
    await tier.put(encoded(item))
    found = await got(tier, item.query.key)
    assert found is not None
    assert found.chunks == item.chunks
    assert found.query.text == "x\u2400y"
    await tier.aclose()


async def test_a_crowd_is_no_fault_of_redis(redis_url: str) -> None:
    """However many look at once, each is told what is kept."""
    tier = redis_tier.connect(redis_url, TTL_S)
    await tier.put(encoded(made("a")))
    assert await asyncio.gather(*(got(tier, made("a").query.key) for _ in range(600))) == [made("a")] * 600
    await tier.aclose()
