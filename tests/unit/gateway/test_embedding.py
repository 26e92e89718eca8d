"""Inputs are questions of their own: which are asked for, by whom, and what comes of those who wait."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.backends.scripted import Scripted
from gateway.canonical import Request, Vector
from gateway.embedding import told
from gateway.errors import BackendError, BackendRefused, UnknownModel
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.entry import Chunk
from tests.suites.embedding import BAD, Asker, Gated, Shelf
from tests.suites.speaking import settled


@pytest.fixture
def backend() -> Gated:
    """A backend whose gate is closed."""
    return Gated()


@pytest.fixture
def one(backend: Gated) -> Asker:
    """A gateway."""
    return Asker(backend)


async def test_only_missing_texts_are_embedded(backend: Gated, one: Asker) -> None:
    """Once each, in one call, and given back in the order of the question."""
    backend.gate.set()
    first = await one.ask("a", "b", "a")
    assert (backend.asked, first.hits) == ([["a", "b"]], 0)
    assert first.values[0] == first.values[2] != first.values[1]
    second = await one.ask("c", "b", "a")
    assert (backend.asked[1:], second.hits) == ([["c"]], 2)
    assert second.values[1:] == (first.values[1], first.values[0])
    third = await one.ask("a", "b", "c")
    assert (len(backend.asked), third.hits, third.status) == (2, 3, "hit")
    assert third.usage.prompt_tokens == 3


async def test_an_empty_vector_is_not_kept() -> None:
    """Nor is any other of its call."""

    class Empty(Scripted):
        async def embed(self, requests: Sequence[Request]) -> list[Vector]:
            return [Vector(b"\x00" * 4, 1), Vector(b"", 1)]

    one = Asker(Empty("m"))
    with pytest.raises(BackendError, match="empty embedding"):
        await one.ask("a", "b")
    assert one.shelf.kept == []


async def test_an_unknown_model_is_named_with_those_that_exist(one: Asker) -> None:
    """As for every other kind of question."""
    one._embedder._router = Router.of({"b": Scripted("b"), "a": Scripted("a")})
    with pytest.raises(UnknownModel, match=r"'m' does not exist here; these do: a, b\."):
        await one.ask("a")


@pytest.mark.parametrize("texts", [["a"], ["a", "b"], [str(number) for number in range(2048)]])
async def test_equal_requests_at_the_same_time_are_one_call(backend: Gated, one: Asker, texts: list[str]) -> None:
    """One asks, the others are told the same and say so."""
    asking = [one.ask(*texts, reply_id=f"id-{number}") for number in range(5)]
    await backend.until(lambda backend: bool(backend.asked))
    backend.gate.set()
    replies = await asyncio.gather(*asking)
    assert backend.asked == [texts]
    assert len({reply.values for reply in replies}) == 1
    assert sorted(reply.status for reply in replies) == ["coalesced"] * 4 + ["miss"]
    told_ids = {reply.origin_id for reply in replies if reply.status == "coalesced"}
    assert told_ids == {entry.origin_id for entry in one.shelf.kept}
    assert all((reply.tier, reply.hits) == ("flight", 0) for reply in replies if reply.provenance == "coalesced")


async def test_what_somebody_asks_now_is_not_asked_again(backend: Gated, one: Asker) -> None:
    """Input by input: only the rest is asked, in one call."""
    first = one.ask("a", "b", "c")
    await backend.until(lambda backend: len(backend.asked) == 1)
    second, third = one.ask("b", "d", "e", "c"), one.ask("c", "a")
    await backend.until(lambda backend: len(backend.asked) == 2)
    backend.gate.set()
    replies = await asyncio.gather(first, second, third)
    assert backend.asked == [["a", "b", "c"], ["d", "e"]]
    assert replies[2].values == (replies[0].values[2], replies[0].values[0])
    assert [reply.status for reply in replies] == ["miss", "miss", "coalesced"]
    assert len(one.shelf.kept) == 5


async def test_who_asked_may_leave(backend: Gated, one: Asker) -> None:
    """Those who wait get everything, from the same call; when all have left, it is cancelled, and nothing kept."""
    first = one.ask("a", "b")
    await backend.until(lambda backend: len(backend.asked) == 1)
    second, third = one.ask("a", "b"), one.ask("b")
    await settled()
    first.cancel()
    await settled()
    third.cancel()
    await asyncio.wait({first, third})
    backend.gate.set()
    assert (await second).status == "coalesced"
    assert (len(backend.asked), backend.cancelled, len(one.shelf.kept)) == (1, 0, 2)
    backend.gate.clear()
    leaving = [one.ask("c"), one.ask("c", "d")]
    await backend.until(lambda backend: len(backend.asked) == 3)
    for each in leaving:
        each.cancel()
    await asyncio.wait(leaving)
    assert (backend.cancelled, len(one.shelf.kept)) == (2, 2)
    backend.gate.set()
    assert (await one.ask("c")).status == "miss"


async def test_a_call_that_fails_fails_for_all_who_wait_for_the_same(backend: Gated, one: Asker) -> None:
    """One call, a clear error for each, nothing kept; who comes later asks anew."""
    asking = [one.ask(BAD, "a") for _ in range(3)]
    await backend.until(lambda backend: bool(backend.asked))
    backend.gate.set()
    faults = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(fault) for fault in faults] == [BackendRefused] * 3
    assert (backend.asked, one.shelf.kept) == ([[BAD, "a"]], [])
    with pytest.raises(BackendRefused):
        await one.ask(BAD, "a")
    assert len(backend.asked) == 2


async def test_one_bad_input_harms_nobody_who_did_not_send_it(backend: Gated, one: Asker) -> None:
    """Those who waited for the others of its call ask again, once, together."""
    bad = one.ask(BAD, "a", "b")
    await backend.until(lambda backend: len(backend.asked) == 1)
    good = [one.ask("a"), one.ask("a"), one.ask("a", "c")]
    await backend.until(lambda backend: len(backend.asked) == 2)
    backend.gate.set()
    with pytest.raises(BackendRefused):
        await bad
    values = {(await each).values[0] for each in good}
    assert len(values) == 1
    assert backend.asked == [[BAD, "a", "b"], ["c"], ["a"]]


async def test_what_is_asked_for_an_older_epoch_is_not_waited_for(backend: Gated, one: Asker) -> None:
    """It was taken back in between: the model is asked again."""
    first = one.ask("a")
    await backend.until(lambda backend: len(backend.asked) == 1)
    one.shelf.marks.epoch += 1
    second, third = one.ask("a"), one.ask("a")
    await backend.until(lambda backend: len(backend.asked) == 2)
    backend.gate.set()
    assert [(await each).status for each in (first, second, third)] == ["miss", "miss", "coalesced"]
    assert len(backend.asked) == 2


@pytest.mark.parametrize("steering", [Steering(no_cache=True), Steering(no_store=True)], ids=["no-cache", "no-store"])
async def test_who_does_not_share_asks_for_itself(backend: Gated, one: Asker, steering: Steering) -> None:
    """It waits for nobody, and nobody waits for it."""
    asking = [one.ask("a"), one.ask("a", steering=steering), one.ask("a", steering=steering), one.ask("a")]
    await backend.until(lambda backend: len(backend.asked) == 3)
    backend.gate.set()
    replies = await asyncio.gather(*asking)
    assert len(backend.asked) == 3
    own = "bypass" if steering.no_cache else "miss"
    assert [reply.status for reply in replies] == ["miss", own, own, "coalesced"]
    assert [reply.kept for reply in replies] == [True, steering.no_cache, steering.no_cache, True]


async def test_vectors_asked_for_anew_supersede_the_old_ones_together(backend: Gated, one: Asker) -> None:
    """One round trip to the database; when it cannot be told, nothing is kept, and the reply does not say so."""
    backend.gate.set()
    texts = [str(number) for number in range(10)]
    anew = Steering(no_cache=True)
    assert (await one.ask(*texts, steering=anew)).kept
    assert (one.shelf.superseded, len(one.shelf.kept)) == ([10], 10)
    one.shelf.database_is_up = False
    reply = await one.ask(*texts, steering=anew)
    assert (reply.kept, reply.provenance, len(one.shelf.kept)) == (False, "regenerated", 10)


async def test_what_was_answered_while_others_were_looked_up_is_not_asked_again(backend: Gated) -> None:
    """A call that ends in between is as good as one under way."""
    other: list[asyncio.Task[object]] = []

    class Slow(Shelf):
        async def get(self, key: bytes, max_age_s: float | None = None) -> object:  # type: ignore[override]
            looked = await super().get(key, max_age_s)
            if other:
                await other.pop()
            return looked

    one = Asker(backend, Slow())
    first = one.ask("a")
    await backend.until(lambda backend: bool(backend.asked))
    other.append(first)
    second = one.ask("a")
    await settled()
    backend.gate.set()
    assert (await second).status == "hit"
    assert backend.asked == [["a"]]


@pytest.mark.parametrize(
    "said", [[], [Chunk(content="?")], [Chunk(content="kA==")], [told.step({b"b": Vector(b"", 1)})]]
)
def test_what_another_gateway_says_is_checked(said: list[Chunk]) -> None:
    """What cannot be read, or does not have every vector, is a clear error."""
    vectors = {b"a": Vector(b"\x00" * 4, 2)}
    assert told.heard([told.step(vectors)], [b"a"]) == vectors
    with pytest.raises(BackendError, match="Ask again"):
        told.heard(said, [b"a"])
