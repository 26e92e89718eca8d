"""All tiers together: whatever fails or freezes, an answer is the right one or none, and nothing kept is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from storage import postgres as postgres_tier
from storage import redis as redis_tier
from storage import writer as writing
from storage.breaker import Breaker
from storage.entry import Entry
from storage.guard import GuardedTier
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.conftest import Servers
from tests.suites.entries import made
from tests.suites.frozen import frozen

REDIS_DEADLINE_S = 0.25
DATABASE_DEADLINE_S = 1.0


class Store:
    """A lower tier whose content outlives its connection, and that can be up, down or stuck."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "up"
        self.kept: dict[bytes, Entry] = {}

    async def get(self, key: bytes) -> Entry | None:
        """The entry, an error, or nothing for ever."""
        await self.ping()
        return self.kept.get(key)

    async def put(self, items: Sequence[Entry]) -> None:
        """Keep, fail or hang."""
        await self.ping()
        for item in items:
            self.kept.setdefault(item.query.key, item)

    async def ping(self) -> None:
        """Fail or hang."""
        await asyncio.sleep(0)
        if self.state == "down":
            raise OSError("down")
        if self.state == "stuck":
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Nothing."""


NAMES = st.sampled_from("abcdef")


class Walk(RuleBasedStateMachine):
    """`Tiers` against a dict: what was first put under each key."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stores = [Store("redis"), Store("postgres")]
        self.first: dict[bytes, Entry] = {}
        self.drops: list[str] = []
        self.now = 0.0

    @initialize()
    def start(self) -> None:
        """Open."""
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.memory = MemoryTier(4_000)
        guarded = [GuardedTier(store, 0.005, lambda *_: None, Breaker(1, 1, lambda: self.now)) for store in self.stores]
        self.tiers = Tiers(self.memory, guarded, self.drops.append)

    @rule(name=NAMES, text=st.sampled_from(["x", "y" * 500, "z" * 9_000]))
    def put(self, name: str, text: str) -> None:
        """Keep an answer, as the pipeline does after a miss."""
        item = made(name, text)
        if self.runner.run(self.tiers.get(item.query.key)) is None and item.query.key not in self.first:
            self.first[item.query.key] = item
            self.runner.run(self._put(item))

    async def _put(self, item: Entry) -> None:
        self.tiers.put(item)
        await asyncio.sleep(0)

    @rule(name=NAMES)
    def get(self, name: str) -> None:
        """What is found is what was put, whichever tier had it."""
        key = made(name).query.key
        found = self.runner.run(self.tiers.get(key))
        if found is not None:
            assert found.entry == self.first[key]
            assert found.tier in {"memory", "redis", "postgres"}

    @rule(place=st.integers(0, 1), state=st.sampled_from(["up", "down", "stuck"]))
    def change(self, place: int, state: str) -> None:
        """A server stops, freezes or comes back."""
        self.stores[place].state = state

    @rule()
    def forget(self) -> None:
        """The worker's memory is gone."""
        self.memory.clear()

    @rule()
    def lose_redis(self) -> None:
        """Redis comes back empty."""
        self.stores[0].kept.clear()

    @rule()
    def wait(self) -> None:
        """Breakers let a trial through."""
        self.now += 2

    @rule()
    def settle(self) -> None:
        """Once everything is up again and written, everything is found without memory and without Redis."""
        self._mend()
        self.memory.clear()
        self.stores[0].kept.clear()
        for key, item in self.first.items():
            found = self.runner.run(self.tiers.get(key))
            assert found is not None
            assert found.entry == item

    @rule()
    def restart(self) -> None:
        """A stop with everything up loses nothing."""
        self._mend()
        self.runner.run(self.tiers.aclose())
        assert self.stores[1].kept == self.first
        self.runner.run(self._open())

    def _mend(self) -> None:
        for store in self.stores:
            store.state = "up"
        for writer in self.tiers._writers:
            assert any(self._flushed(writer) for _ in range(50))

    def _flushed(self, writer: writing.Writer) -> bool:
        """Whether it has written everything, its breaker having been given another trial: a busy machine opens it."""
        self.now += 2
        return self.runner.run(writer.flush(0.2))

    @invariant()
    def nothing_is_lost_or_changed(self) -> None:
        """A store only ever holds what was first put."""
        assert self.drops == []
        for store in self.stores:
            assert store.kept.items() <= self.first.items()

    def teardown(self) -> None:
        """Close."""
        for store in self.stores:
            store.state = "up"
        self.now += 2
        if hasattr(self, "tiers"):
            self.runner.run(self.tiers.aclose())
        self.runner.close()


def test_any_story_of_faults_keeps_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis tells the stories."""
    monkeypatch.setattr(writing, "RETRY_S", 0.002)
    run_state_machine_as_test(Walk, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))


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
            await postgres_tier.connect(database_url, 4), DATABASE_DEADLINE_S, lambda *f: found.faults.append(f[:2])
        ),
    ]
    found.__init__(Tiers(memory, lower, lambda name: found.drops.append(name)), memory)
    yield found
    await found.tiers.aclose()


async def test_a_lower_hit_is_promoted(real: Real) -> None:
    """To memory at once, to Redis soon."""
    item = made("a", "x")
    real.tiers.put(item)
    await real.written()
    for tier in ("memory", "redis"):
        found = await real.tiers.get(item.query.key)
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
    found = await real.tiers.get(item.query.key)
    assert found is not None
    assert (found.entry, found.tier) == (item, "postgres")
    await real.written()
    assert await tier.get(item.query.key) == item
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
        found = await real.tiers.get(late.query.key)
        assert found is not None
    await until_ok(real, "redis")
    await real.written()
    real.memory.clear()
    for item in [*items, late]:
        found = await real.tiers.get(item.query.key)
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
        found = await asyncio.gather(*(real.tiers.get(item.query.key) for item in items))
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
        found = await real.tiers.get(items[0].query.key)
        assert found is not None
        await asyncio.sleep(0.2)
    await until_ok(real, "postgres")
    await real.written()
    assert real.drops == []


async def test_nothing_at_all_is_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server anywhere: memory serves, faults are counted, and closing counts what could not be kept."""
    monkeypatch.setattr("storage.tiers.FLUSH_S", 0.2)
    faults: list[str] = []
    drops: list[str] = []
    lower = [
        GuardedTier(redis_tier.connect("redis://127.0.0.1:9", 9), 0.25, lambda name, *_: faults.append(name)),
        GuardedTier(
            await postgres_tier.connect("postgresql://u@127.0.0.1:9/x", 1), 1.0, lambda name, *_: faults.append(name)
        ),
    ]
    tiers = Tiers(MemoryTier(2**20), lower, drops.append)
    assert await tiers.get(made("a").query.key) is None
    tiers.put(made("a"))
    found = await tiers.get(made("a").query.key)
    assert found is not None
    assert found.tier == "memory"
    health = await tiers.health()
    assert set(health) == {"redis", "postgres"}
    assert "ok" not in health.values()
    await tiers.aclose()
    assert set(faults) == {"redis", "postgres"}
    assert sorted(drops) == ["postgres", "redis"]


async def until_ok(real: Real, tier: str) -> None:
    """Wait for the tier to be used again."""
    async with asyncio.timeout(20):
        while (await real.tiers.health())[tier] != "ok":  # noqa: ASYNC110 -- the tier tells nobody
            await asyncio.sleep(0.1)
