"""Two gateways' tiers on a real Redis and a real Postgres, driven at random: a plain dict says what they must give."""

import asyncio
import itertools
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import asyncpg
import msgspec
import pytest
import redis.asyncio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule, run_state_machine_as_test

from storage import postgres as postgres_tier
from storage import redis as redis_tier
from storage import tiers as tiers_module
from storage.closed import Kind
from storage.entry import Entry
from storage.guard import GuardedTier
from storage.invalidations import Invalidations, Selector
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.suites.entries import made

T = TypeVar("T")


class Question(msgspec.Struct, frozen=True):
    """What can be asked here, and what it can be deleted by."""

    name: str
    scope: str
    model: str
    prompt: str
    tags: tuple[str, ...]

    @property
    def key(self) -> bytes:
        """Its key."""
        return made(self.name).query.key

    def answered(self, text: str, **fields: Any) -> Entry:
        """An answer to it."""
        item = made(self.name, text, **fields)
        prompt_hash = made(self.prompt).query.prompt_hash
        query = msgspec.structs.replace(item.query, scope=self.scope, model=self.model, prompt_hash=prompt_hash)
        return msgspec.structs.replace(item, query=query)

    def selector(self, kind: Kind) -> Selector:
        """What a deletion by `kind` names when this is what it is about."""
        values = {
            "key": self.key.hex(),
            "model": self.model,
            "tag": self.tags[-1],
            "prompt": made(self.prompt).query.prompt_hash.hex(),
            "all": "",
        }
        return Selector(kind, values[kind])

    def covered(self, scope: str, selector: Selector, entry: Entry) -> bool:
        """Whether a deletion is about this answer to it."""
        meant = selector.value in entry.tags if selector.kind == "tag" else selector == self.selector(selector.kind)
        return scope == self.scope and meant


QUESTIONS = (
    Question("a", "acme", "m1", "p1", ("x",)),
    Question("b", "acme", "m2", "p1", ("x", "y")),
    Question("c", "rival", "m1", "p1", ("x",)),
)
KINDS: tuple[Kind, ...] = ("key", "key", "model", "prompt", "tag", "all")
AGES = st.none() | st.integers(0, 6)


class Late(msgspec.Struct, frozen=True):
    """A model that was asked, and has not answered yet."""

    replica: int
    question: Question
    epoch: int
    asked_at: int
    stale: bool
    tags: tuple[str, ...]


class Replica:
    """One gateway's tiers."""

    def __init__(self, pool: asyncpg.Pool, redis_url: str) -> None:
        self.memory = MemoryTier(2**20)
        self.marks = Invalidations(pool)
        self._pool = pool
        lower = [
            GuardedTier(redis_tier.connect(redis_url, 10_000), 10, lambda *_: None),
            GuardedTier(postgres_tier.PostgresTier(pool), 10, lambda *_: None),
        ]
        self.tiers = Tiers(self.memory, lower, self.marks, lambda _: None)

    async def flushed(self) -> None:
        """Everything is written."""
        for writer in self.tiers._writers:
            assert await writer.flush(20)


class TiersMachine(RuleBasedStateMachine):
    """The dict is `record`: the answers that cannot be lost. Copies of others may be given too, while they count."""

    urls: ClassVar[tuple[str, str]]
    clock: ClassVar[SimpleNamespace]
    asked = Bundle("asked")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock.now = 1_000_000
        self.record: dict[Question, Entry] = {}
        self.given: dict[Question, list[Entry]] = {question: [] for question in QUESTIONS}
        self.closed: list[tuple[int, str, Selector]] = []
        self.names = itertools.count()
        self.run(self._emptied())
        self.replicas = [self.run(self._opened()) for _ in range(2)]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in this machine's loop."""
        return self.runner.run(work)

    def teardown(self) -> None:
        """Close everything."""
        for replica in self.replicas:
            self.run(replica.tiers.aclose())
        self.runner.close()

    @rule(replica=st.integers(0, 1), question=st.sampled_from(QUESTIONS), max_age=AGES, tagged=st.booleans())
    def ask(self, replica: int, question: Question, max_age: int | None, tagged: bool = True) -> None:
        """As the gateway does: look, and where nothing is found have the model answer at once."""
        if (late := self._look(replica, question, max_age, tagged=tagged)) is not None:
            self._keep(late)

    @rule(
        target=asked,
        replica=st.integers(0, 1),
        question=st.sampled_from(QUESTIONS),
        max_age=AGES,
        tagged=st.booleans(),
    )
    def ask_slowly(self, replica: int, question: Question, max_age: int | None, tagged: bool) -> Any:
        """The same, but the model takes its time."""
        late = self._look(replica, question, max_age, tagged=tagged)
        return multiple() if late is None else late

    @rule(late=consumes(asked))
    def answer_late(self, late: Late) -> None:
        """The model answers what was asked some time ago; since then anything may have happened."""
        self._keep(late)

    @rule(replica=st.integers(0, 1), question=st.sampled_from(QUESTIONS))
    def ask_anew(self, replica: int, question: Question) -> None:
        """`no-cache`: the new answer takes the place of every other."""
        self.clock.now += 1
        asked_at = self.clock.now
        one = self.replicas[replica]
        epoch = self.run(one.tiers.supersede([question.key], question.scope))
        assert epoch is not None
        self._close(epoch, question.scope, Selector("key", question.key.hex()))
        self._keep(Late(replica, question, epoch, asked_at, stale=True, tags=question.tags))

    @rule(
        replica=st.integers(0, 1), question=st.sampled_from(QUESTIONS), kind=st.sampled_from(KINDS), lost=st.booleans()
    )
    def delete(self, replica: int, question: Question, kind: Kind, lost: bool) -> None:
        """What is there is taken back: the gateway that was told knows at once, the other when it hears of it."""
        self.ask(replica, question, None)
        if lost:
            self.forget(set(), redis=True, max_age=None)
        self._delete(replica, question, kind)
        self._look_at_all(replica)
        self.ask(replica, question, None)
        self._look(replica, question, None)

    @rule(
        replica=st.integers(0, 1),
        other=st.integers(0, 1),
        question=st.sampled_from(QUESTIONS),
        kind=st.sampled_from(KINDS),
        tagged=st.lists(st.booleans(), min_size=2, max_size=2),
        heard=st.booleans(),
        in_order=st.booleans(),
    )
    def delete_between(
        self,
        replica: int,
        other: int,
        question: Question,
        kind: Kind,
        tagged: list[bool],
        heard: bool,
        in_order: bool,
    ) -> None:
        """Asked before a deletion, and asked again after it while the first answer is still on its way."""
        self._delete(replica, question, "all")
        self._delete(other, question, "key")
        lates = [self._look(replica, question, None, tagged=tagged[0])]
        self._delete(replica, question, kind)
        if heard:
            self.hear(other)
        lates.append(self._look(other, question, None, tagged=tagged[1]))
        for late in lates if in_order else reversed(lates):
            if late is not None:
                self._keep(late)
        for number in (replica, other, 1 - replica):
            self._look(number, question, None)

    @rule(replica=st.integers(0, 1))
    def hear(self, replica: int) -> None:
        """The news of deletions arrives."""
        self.run(self.replicas[replica].marks.refresh())
        self._look_at_all(replica)

    @rule(replica=st.integers(0, 1), question=st.sampled_from(QUESTIONS), seconds=st.integers(1, 5), lost=st.booleans())
    def grow_old(self, replica: int, question: Question, seconds: int, lost: bool) -> None:
        """Time passes, and somebody wants nothing that old; the young answer is there then, if not every copy of it."""
        self.ask(replica, question, None)
        self.clock.now += seconds
        self.ask(replica, question, seconds - 1)
        if lost:
            self.forget({0, 1}, redis=True, max_age=seconds)

    @rule(memories=st.sets(st.integers(0, 1)), redis=st.booleans(), max_age=AGES)
    def forget(self, memories: set[int], redis: bool, max_age: int | None) -> None:
        """As when there is no room: losing copies loses nothing."""
        for replica in memories:
            self.replicas[replica].memory.clear()
        if redis:
            self.run(self._flush_redis())
        for replica in memories:
            self._look_at_all(replica, max_age)

    @rule(replica=st.integers(0, 1), hears=st.booleans())
    def restart(self, replica: int, hears: bool) -> None:
        """Another process takes the place of one; until it has read the list of deletions it trusts nobody."""
        self.run(self.replicas[replica].tiers.aclose())
        self.replicas[replica] = self.run(self._opened(known=False))
        for question in QUESTIONS:
            assert self.run(self.replicas[replica].tiers.get(question.key)).found is None
        if hears:
            self.hear(replica)

    def _look_at_all(self, replica: int, max_age: int | None = None) -> None:
        for question in QUESTIONS:
            self._look(replica, question, max_age)

    def _delete(self, replica: int, question: Question, kind: Kind) -> None:
        selector = question.selector(kind)
        done = self.run(self.replicas[replica].marks.add(question.scope, selector))
        self._close(done.id, question.scope, selector)

    def _look(self, replica: int, question: Question, max_age: int | None, *, tagged: bool = True) -> Late | None:
        """Look, and compare with the dict. What it takes to ask the model, where nothing was found."""
        one = self.replicas[replica]
        looked = self.run(one.tiers.get(question.key, max_age))
        self.run(one.flushed())
        if looked.found is not None:
            entry = looked.found.entry
            may = [given for given in self.given[question] if self._counts(given, question, one.marks.epoch)]
            assert entry.text() in {given.text() for given in may if self._young(given, max_age)}, (entry, may)
            assert (entry.query.key, entry.query.scope) == (question.key, question.scope)
            again = self.run(one.tiers.get(question.key, max_age)).found
            assert again is not None
            assert (again.tier, again.entry.text()) == ("memory", entry.text())
            return None
        must = self.record.get(question)
        if must is not None and one.marks.known:
            fits = self._counts(must, question, one.marks.epoch) and self._young(must, max_age)
            assert not fits, f"{question.name} is kept, but was not found: {must}"
            assert looked.stale, "what is kept now would not take the place of what no longer counts"
        self.clock.now += 1
        tags = question.tags if tagged else ()
        return Late(replica, question, one.marks.epoch, self.clock.now, looked.stale, tags)

    def _keep(self, late: Late) -> None:
        """Keep an answer, and have it written."""
        question, one = late.question, self.replicas[late.replica]
        fields = {
            "epoch": late.epoch,
            "created_at": float(late.asked_at),
            "replaces": late.stale,
            "tags": late.tags,
        }
        entry = question.answered(f"answer {next(self.names)}", **fields)
        one.tiers.put(entry)
        self.run(one.flushed())
        self.given[question].append(entry)
        if not self._counts(entry, question):  # taken back since: it is never recorded, wherever it still gets to
            return
        old = self.record.get(question)
        newer = late.stale and old is not None and entry.created_at > old.created_at
        if old is None or entry.epoch > old.epoch or (entry.epoch == old.epoch and newer):
            self.record[question] = entry

    def _close(self, epoch: int, scope: str, selector: Selector) -> None:
        self.closed.append((epoch, scope, selector))
        for question in QUESTIONS:
            if (kept := self.record.get(question)) and question.covered(scope, selector, kept):
                del self.record[question]

    def _young(self, entry: Entry, max_age: int | None) -> bool:
        return max_age is None or self.clock.now - entry.created_at <= max_age

    def _counts(self, entry: Entry, question: Question, known: int = 2**62) -> bool:
        """Whether no deletion up to the number `known` is about it."""
        return not any(
            entry.epoch < epoch <= known and question.covered(scope, selector, entry)
            for epoch, scope, selector in self.closed
        )

    async def _opened(self, *, known: bool = True) -> Replica:
        database_url, redis_url = self.urls
        replica = Replica(await postgres_tier.connect(database_url, 2), redis_url)
        if known:
            await replica.marks.refresh()
        return replica

    async def _emptied(self) -> None:
        connection = await asyncpg.connect(self.urls[0])
        await connection.execute("truncate askonce.completions, askonce.invalidations restart identity cascade")
        await connection.close()
        await self._flush_redis()

    async def _flush_redis(self) -> None:
        async with redis.asyncio.Redis.from_url(self.urls[1]) as client:
            await client.flushall()


def test_tiers_give_what_a_dict_would(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked, deleted, forgotten and restarted, in any order, on two gateways."""
    clock = SimpleNamespace(now=0)
    monkeypatch.setattr(tiers_module, "time", SimpleNamespace(time=lambda: float(clock.now)))
    monkeypatch.setattr(tiers_module, "GATHER_S", 0)
    monkeypatch.setattr(tiers_module, "RECORD_GATHER_S", 0)

    class Machine(TiersMachine):
        urls = (database_url, redis_url)

    Machine.clock = clock
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=32,
            stateful_step_count=30,
            derandomize=True,
            phases=[Phase.generate],  # to find the shortest failure would take minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
