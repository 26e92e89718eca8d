"""The tiers over the real servers: what fails, freezes or takes no writes costs a deadline, and no answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import msgspec
import pytest
import redis.asyncio

from storage import postgres as postgres_tier
from storage import redis as redis_tier
from storage import writer as writing
from storage.entry import Encoded, Entry, Usage
from storage.guard import GuardedTier
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.conftest import Servers
from tests.suites.entries import got, made
from tests.suites.frozen import frozen
from tests.suites.marks import nothing_invalidated

REDIS_DEADLINE_S = 0.25
DATABASE_DEADLINE_S = 1.0


class Real:
    """The tiers over the real servers, and what was counted."""

    def __init__(self, tiers: Tiers, memory: MemoryTier) -> None:
        self.tiers = tiers
        self.memory = memory
        self.faults: list[tuple[str, str]] = []
        self.drops: list[str] = []

    async def slowest(self, names: Sequence[str]) -> float:
        """How long the slowest of several lookups takes, one after the other, without memory."""
        longest = 0.0
        for name in names:
            self.memory.clear()
            started = time.monotonic()
            await self.tiers.get(made(name).query.key)
            longest = max(longest, time.monotonic() - started)
        return longest

    async def written(self) -> None:
        """Wait until every tier has everything."""
        for writer in self.tiers._writers:
            assert await writer.flush(20)


@pytest.fixture
async def real(redis_url: str, database_url: str) -> AsyncIterator[Real]:
    """Memory, Redis and Postgres."""
    memory = MemoryTier(2**20)
    found = Real.__new__(Real)
    lower = [
        GuardedTier(redis_tier.connect(redis_url, 100), REDIS_DEADLINE_S, lambda *f: found.faults.append(f[:2])),
        GuardedTier(
            postgres_tier.PostgresTier(await postgres_tier.connect(database_url, 4)),
            DATABASE_DEADLINE_S,
            lambda *f: found.faults.append(f[:2]),
        ),
    ]
    found.__init__(Tiers(memory, lower, nothing_invalidated(), lambda name: found.drops.append(name)), memory)
    yield found
    await found.tiers.aclose()


async def test_a_lower_hit_is_promoted(real: Real) -> None:
    """To memory at once, to Redis soon."""
    item = made("a", "x")
    real.tiers.put(item)
    await real.written()
    for tier in ("memory", "redis"):
        found = (await real.tiers.get(item.query.key)).found
        assert found is not None
        assert (found.entry, found.tier) == (item, tier)
        real.memory.clear()
    assert real.faults == []


async def test_postgres_alone_brings_an_answer_back_to_redis(real: Real, redis_url: str) -> None:
    """Losing Redis loses nothing."""
    item = made("a", "x")
    real.tiers.put(item)
    await real.written()
    tier = redis_tier.connect(redis_url, 100)
    await tier._client.flushall()
    real.memory.clear()
    found = (await real.tiers.get(item.query.key)).found
    assert found is not None
    assert (found.entry, found.tier) == (item, "postgres")
    await real.written()
    assert await got(tier, item.query.key) == item
    await tier.aclose()


async def test_a_frozen_redis_costs_one_deadline(real: Real, servers: Servers) -> None:
    """Not refused but silent: one lookup waits, the others go straight on to Postgres, and it is used again later."""
    items = [made(str(number), "x") for number in range(20)]
    for item in items:
        real.tiers.put(item)
    await real.written()
    with frozen(servers.redis_process):
        assert await real.slowest(["0"]) < REDIS_DEADLINE_S + 0.5
        assert await real.slowest([str(number) for number in range(1, 20)]) < REDIS_DEADLINE_S
        assert len([fault for fault in real.faults if fault == ("redis", "get")]) == 1
        assert (await real.tiers.health())["redis"] != "ok"
        late = made("late", "x")
        real.tiers.put(late)
        found = (await real.tiers.get(late.query.key)).found
        assert found is not None
    await until_ok(real, "redis")
    await real.written()
    real.memory.clear()
    for item in [*items, late]:
        found = (await real.tiers.get(item.query.key)).found
        assert found is not None
        assert found.entry == item
        assert found.tier in {"redis", "memory"}
        real.memory.clear()
    assert real.drops == []


async def test_a_frozen_redis_under_load_costs_one_deadline(real: Real, servers: Servers) -> None:
    """A hundred requests at once, each an answer from Postgres: the deadline is waited for once, not in turn."""
    items = [made(str(number), "x") for number in range(100)]
    for item in items:
        real.tiers.put(item)
    await real.written()
    real.memory.clear()
    with frozen(servers.redis_process):
        started = time.monotonic()
        found = [one.found for one in await asyncio.gather(*(real.tiers.get(item.query.key) for item in items))]
        assert time.monotonic() - started < len(items) * REDIS_DEADLINE_S / 5
        assert [each.entry if each else None for each in found] == items
    await until_ok(real, "redis")


async def test_a_frozen_postgres_costs_one_deadline(real: Real, servers: Servers) -> None:
    """Answers are served without it, kept elsewhere meanwhile, and written once it runs again."""
    await real.slowest(["warm"])
    with frozen(servers.postgres_process):
        assert await real.slowest(["0"]) < DATABASE_DEADLINE_S + 0.5
        assert await real.slowest([str(number) for number in range(1, 20)]) < REDIS_DEADLINE_S
        items = [made(f"new {number}", "x") for number in range(200)]
        for item in items:
            real.tiers.put(item)
        found = (await real.tiers.get(items[0].query.key)).found
        assert found is not None
        await asyncio.sleep(0.2)
    await until_ok(real, "postgres")
    await real.written()
    assert real.drops == []


def asked(item: Entry, **fields: Any) -> Entry:
    """The same answer to another query."""
    return msgspec.structs.replace(item, query=msgspec.structs.replace(item.query, **fields))


async def statement(url: str, *statements: str) -> None:
    """Run them, each by itself."""
    connection = await asyncpg.connect(url)
    for each in statements:
        await connection.execute(each)
    await connection.close()


@pytest.fixture
async def full_redis(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client to fill the Redis with, emptied after the test."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        before = await client.config_get("maxmemory*")
        yield client
        for name in ("maxmemory", "maxmemory-policy"):
            await client.config_set(name, before[name])


async def test_a_full_redis_is_still_read(real: Real, full_redis: redis.asyncio.Redis) -> None:
    """What it has is given; what it cannot take waits until it can."""
    items = [made(str(number), "x") for number in range(5)]
    for item in items:
        real.tiers.put(item)
    await real.written()
    await full_redis.config_set("maxmemory-policy", "noeviction")
    await full_redis.config_set("maxmemory", 1)
    late = [made(f"late {number}", "x") for number in range(3)]
    for item in late:
        real.tiers.put(item)
    await until(lambda: ("redis", "put") in real.faults)
    for item in items:
        real.memory.clear()
        found = (await real.tiers.get(item.query.key)).found
        assert found is not None
        assert found.tier == "redis"
    assert "takes no writes (OutOfMemoryError: " in (await real.tiers.health())["redis"]
    await full_redis.config_set("maxmemory", 0)
    await real.written()
    assert await real.tiers.health() == {"redis": "ok", "postgres": "ok"}
    assert await full_redis.exists(*(redis_tier.PREFIX + item.query.key for item in late)) == 3
    assert real.drops == []
    assert set(real.faults) == {("redis", "put")}


async def test_a_read_only_postgres_is_still_read(real: Real, database_url: str, redis_url: str) -> None:
    """As after a failover to a standby; what could not be written is written when it can be."""
    kept, late = made("kept", "x"), made("late", "x")
    tier = postgres_tier.PostgresTier(await postgres_tier.connect(database_url, 1))
    await tier.put([Encoded.of(kept)])
    await tier.aclose()
    name = database_url.split("?")[0].rpartition("/")[2]
    await statement(database_url, f"alter database {name} set default_transaction_read_only = on")
    real.tiers.put(late)
    await until(lambda: ("postgres", "put") in real.faults)
    found = (await real.tiers.get(kept.query.key)).found
    assert found is not None
    assert found.tier == "postgres"
    assert "takes no writes (ReadOnlySQLTransactionError: " in (await real.tiers.health())["postgres"]
    assert real.drops == []
    await statement(
        database_url,
        "set default_transaction_read_only = off",
        f"alter database {name} reset default_transaction_read_only",
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()",
    )
    await real.written()
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.flushall()
    real.memory.clear()
    async with asyncio.timeout(20):
        while (found := (await real.tiers.get(late.query.key)).found) is None:  # noqa: ASYNC110 -- its breaker tells nobody
            await asyncio.sleep(0.1)
    assert found.tier == "postgres"
    assert real.drops == []


async def test_a_row_that_postgres_refuses_stops_nothing(
    real: Real, database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is dropped and counted; what was kept is read, what comes with it and after it is written."""
    monkeypatch.setattr(writing, "RETRY_S", 0.01)
    await statement(database_url, "alter table askonce.completions add constraint nobad check (prompt_text <> 'bad')")
    good = [made(f"good {number}", "x") for number in range(20)]
    for item in [*good[:10], made("bad", "my secret answer"), *good[10:]]:
        real.tiers.put(item)
    await real.written()
    assert real.drops == ["postgres"]
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.flushall()
    for item in good:
        real.memory.clear()
        found = (await real.tiers.get(item.query.key)).found
        assert found is not None
        assert found.tier == "postgres"
    assert await real.tiers.health() == {"redis": "ok", "postgres": "ok"}
    assert f"The postgres tier refuses the answer {made('bad').query.key.hex()}" in caplog.text
    assert 'violates check constraint "nobad"' in caplog.text


async def test_no_prompt_and_no_answer_is_logged(
    real: Real,
    database_url: str,
    full_redis: redis.asyncio.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Postgres' DETAIL has the row, the client's errors have the value, and Redis' the command."""
    monkeypatch.setattr(writing, "RETRY_S", 0.01)
    caplog.set_level("DEBUG", logger="askonce")
    await statement(database_url, "alter table askonce.completions add constraint never check (false)")
    await full_redis.config_set("maxmemory-policy", "noeviction")
    await full_redis.config_set("maxmemory", 1)
    secret = asked(made("secret prompt", "secret answer", origin_id="secret"), prompt='["secret prompt"]')
    for item in (secret, msgspec.structs.replace(secret, usage=Usage(2**40)), asked(secret, key=b"secret")):
        real.tiers.put(item)
    await until(lambda: "postgres" in real.drops and ("redis", "put") in real.faults)
    said = [caplog.text, *(await real.tiers.health()).values()]
    assert "CheckViolationError: new row for relation" in caplog.text
    assert "OutOfMemoryError: command not allowed" in caplog.text
    assert not [line for text in said for line in text.splitlines() if "secret" in line or "\\x" in line]
    await full_redis.config_set("maxmemory", 0)
    await real.written()


async def test_nothing_at_all_is_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server anywhere: memory serves, faults are counted, and closing counts what could not be kept."""
    monkeypatch.setattr("storage.tiers.FLUSH_S", 0.2)
    faults: list[str] = []
    drops: list[str] = []
    lower = [
        GuardedTier(redis_tier.connect("redis://127.0.0.1:9", 9), 0.25, lambda name, *_: faults.append(name)),
        GuardedTier(
            postgres_tier.PostgresTier(await postgres_tier.connect("postgresql://u@127.0.0.1:9/x", 1)),
            1.0,
            lambda name, *_: faults.append(name),
        ),
    ]
    tiers = Tiers(MemoryTier(2**20), lower, nothing_invalidated(), drops.append)
    assert (await tiers.get(made("a").query.key)).found is None
    tiers.put(made("a"))
    found = (await tiers.get(made("a").query.key)).found
    assert found is not None
    assert found.tier == "memory"
    health = await tiers.health()
    assert set(health) == {"redis", "postgres"}
    assert "ok" not in health.values()
    await tiers.aclose()
    assert set(faults) == {"redis", "postgres"}
    assert sorted(drops) == ["postgres", "redis"]


async def until(done: Callable[[], bool]) -> None:
    """Wait for what the writers do in the background."""
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 -- faults are only counted
            await asyncio.sleep(0.01)


async def until_ok(real: Real, tier: str) -> None:
    """Wait for the tier to be used again."""
    async with asyncio.timeout(20):
        while (await real.tiers.health())[tier] != "ok":  # noqa: ASYNC110 -- the tier tells nobody
            await asyncio.sleep(0.1)
