"""All tiers together: whatever fails or freezes, an answer is the right one or none, and nothing kept is lost."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from storage import writer as writing
from storage.breaker import Breaker
from storage.entry import Encoded, Entry, Held
from storage.guard import GuardedTier
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.suites.entries import made
from tests.suites.marks import nothing_invalidated


class Store:
    """A lower tier whose content outlives its connection, and that can be up, down, stuck, or read but not written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "up"
        self.kept: dict[bytes, Entry] = {}

    async def get(self, keys: Sequence[bytes]) -> list[Held | None]:
        """The entries, an error, or nothing for ever."""
        await self.ping()
        found = (self.kept.get(key) for key in keys)
        return [Held(entry, Encoded.of(entry)) if entry else None for entry in found]

    async def put(self, items: Sequence[Encoded]) -> None:
        """Keep, fail or hang."""
        await self.ping()
        if self.state == "reads only":
            raise OSError("full")
        for item in items:
            self.kept.setdefault(item.key, item.entry())

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
        guarded = [GuardedTier(store, 0.005, lambda *_: None, self._breaker) for store in self.stores]
        self.tiers = Tiers(self.memory, guarded, nothing_invalidated(), self.drops.append)

    def _breaker(self) -> Breaker:
        return Breaker(1, 1, lambda: self.now)

    @rule(name=NAMES, text=st.sampled_from(["x", "y" * 500, "z" * 9_000]))
    def put(self, name: str, text: str) -> None:
        """Keep an answer, as the pipeline does after a miss."""
        item = made(name, text)
        if self.runner.run(self.tiers.get(item.query.key)).found is None and item.query.key not in self.first:
            self.first[item.query.key] = item
            self.runner.run(self._put(item))

    async def _put(self, item: Entry) -> None:
        self.tiers.put(item)
        await asyncio.sleep(0)

    @rule(name=NAMES)
    def get(self, name: str) -> None:
        """What is found is what was put, whichever tier had it."""
        key = made(name).query.key
        found = self.runner.run(self.tiers.get(key)).found
        if found is not None:
            assert found.entry == self.first[key]
            assert found.tier in {"memory", "redis", "postgres"}

    @rule(place=st.integers(0, 1), state=st.sampled_from(["up", "down", "stuck", "reads only"]))
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
            found = self.runner.run(self.tiers.get(key)).found
            assert found is not None
            assert found.entry == item

    @rule(item=st.builds(made, st.uuids().map(str), st.just("new")))
    def read_while_nothing_can_be_written(self, item: Entry) -> None:
        """All that the stores have is found, and what is asked for meanwhile is kept once they take it."""
        self._mend()
        for store in self.stores:
            store.state = "reads only"
        self.first[item.query.key] = item
        self.runner.run(self._put(item))
        for writer in self.tiers._writers:
            assert not self.runner.run(writer.flush(0.05))
        for key in self.stores[1].kept:
            self.memory.clear()
            assert any(self._found(key) for _ in range(50))
        self._mend()
        assert item.query.key in self.stores[1].kept

    def _found(self, key: bytes) -> bool:
        """Whether it is found; a busy machine may have opened a breaker."""
        found = self.runner.run(self.tiers.get(key)).found
        if found is None:
            self.now += 2
        return found is not None

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
