"""Two gateways' pipelines on one Redis: what one of them was just told anew, the other is not told again."""

from collections.abc import Sequence
from contextlib import aclosing

import pytest

from gateway.backends.scripted import Line, Script, Scripted
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.errors import NotKept
from gateway.pipeline import Answer, Pipeline
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.entry import Query
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.suites.marks import nothing_invalidated
from tests.suites.replicas import Replicas

QUESTION = Request("chat", "m", {"messages": [{"role": "user", "content": "Hello"}]}, {"temperature": 0}, {})


class Shelf(Tiers):
    """A gateway's memory tier, without others. It knows of an invalidation once it was told its number."""

    def __init__(self) -> None:
        super().__init__(MemoryTier(2**24), [], nothing_invalidated(), lambda _: None)
        self.number = 0

    def closed(self, query: Query) -> int:
        """Everything up to that number."""
        del query
        return self.number

    async def supersede(self, keys: Sequence[bytes], scope: str) -> int | None:
        """One more."""
        del keys, scope
        self.number += 1
        return self.number


async def said(pipeline: Pipeline, reply_id: str, steering: Steering) -> tuple[Answer, str]:
    """An answer, and all that it says."""
    answer = await pipeline.answer(QUESTION, Caller(tenant="s"), steering, reply_id)
    async with aclosing(answer.chunks) as steps:
        return answer, "".join([step.content async for step in steps])


async def test_a_new_answer_is_heard_before_it_is_in_every_tier(shared: Replicas) -> None:
    """After `no-cache` the other gateway has nothing in its tiers yet; it is given the new answer all the same."""
    backend = Scripted("m", Script(line=(Line(reply="A new one."),)))
    shelves = [Shelf(), Shelf()]
    pipelines = [Pipeline(shelf, Router.of({"m": backend}), shared.one().flights) for shelf in shelves]
    await said(pipelines[0], "old", Steering())
    await said(pipelines[0], "new", Steering(no_cache=True))
    assert backend.calls == 2
    shelves[1].number = shelves[0].number
    answer, text = await said(pipelines[1], "late", Steering())
    assert (answer.status, answer.origin_id, text) == ("coalesced", "new", "A new one.")
    assert backend.calls == 2


async def test_who_comes_later_is_told_how_old_the_answer_is(shared: Replicas) -> None:
    """Its age counts from when the model was asked, however it is heard."""
    backend = Scripted("m", Script(line=(Line(reply="Hello."),)))
    pipelines = [Pipeline(Shelf(), Router.of({"m": backend}), shared.one().flights) for _ in range(2)]
    first, _ = await said(pipelines[0], "first", Steering())
    late, _ = await said(pipelines[1], "late", Steering())
    assert (first.status, late.status, first.age_s) == ("miss", "coalesced", 0)
    assert late.age_s > 0


async def test_only_if_cached_gives_what_the_other_has_just_answered(shared: Replicas) -> None:
    """Whole, though it is in no tier of this gateway's yet; and the model is not asked for what nobody was answered."""
    backend = Scripted("m", Script(line=(Line(reply="Hello."),)))
    pipelines = [Pipeline(Shelf(), Router.of({"m": backend}), shared.one().flights) for _ in range(2)]
    with pytest.raises(NotKept):
        await said(pipelines[1], "early", Steering(only_if_cached=True))
    first, _ = await said(pipelines[0], "first", Steering())
    late, text = await said(pipelines[1], "late", Steering(only_if_cached=True))
    assert (first.status, late.status, late.origin_id, text) == ("miss", "coalesced", "first", "Hello.")
    with pytest.raises(NotKept):
        await said(pipelines[1], "strict", Steering(only_if_cached=True, max_age_s=0))
    assert backend.calls == 1
