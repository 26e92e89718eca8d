"""Embeddings on several gateways that share a Redis: equal calls are one, whoever leaves or dies."""

import asyncio

import pytest

from gateway.embedding.calling import MAX_SHARED
from gateway.errors import BackendRefused
from tests.suites.embedding import BAD, Asker, Gated
from tests.suites.replicas import Replica, Replicas

TEXTS = ["a", "b", "c"]


def gateways(shared: Replicas, backend: Gated) -> tuple[tuple[Replica, Asker], tuple[Replica, Asker]]:
    """Two, whose tiers have nothing in common."""
    one, other = shared.one(), shared.one()
    return (one, Asker(backend, flights=one.flights)), (other, Asker(backend, flights=other.flights))


async def followed(shared: Replicas) -> None:
    """Wait until some gateway follows another."""
    await shared.until({"flight", "listeners"})


@pytest.mark.parametrize("texts", [["a"], TEXTS, [str(number) for number in range(MAX_SHARED)]])
async def test_equal_requests_on_two_gateways_are_one_call(shared: Replicas, texts: list[str]) -> None:
    """Everybody is given the same; the other gateway has it from Redis, also a moment later and in another order."""
    backend = Gated()
    (_, one), (_, other) = gateways(shared, backend)
    asking = [gateway.ask(*texts) for _ in range(3) for gateway in (one, other)]
    await followed(shared)
    backend.gate.set()
    replies = await asyncio.gather(*asking)
    assert backend.asked == [texts]
    assert len({reply.values for reply in replies}) == 1
    assert [reply.status for reply in replies].count("miss") == 1
    assert {len(gateway.shelf.kept) for gateway in (one, other)} == {0, len(texts)}
    late = next(gateway for gateway in (one, other) if not gateway.shelf.kept)
    reply = await late.ask(*reversed(texts))
    assert (reply.status, reply.values) == ("coalesced", tuple(reversed(replies[0].values)))
    assert backend.asked == [texts]


async def test_a_bad_input_is_the_same_error_on_both(shared: Replicas) -> None:
    """One call, nothing kept."""
    backend = Gated()
    (_, one), (_, other) = gateways(shared, backend)
    asking = [one.ask(BAD), other.ask(BAD)]
    await followed(shared)
    backend.gate.set()
    faults = await asyncio.gather(*asking, return_exceptions=True)
    assert [(type(fault).__name__ in ("BackendRefused", "BackendError"), str(fault)) for fault in faults] == [
        (True, str(BackendRefused("This cannot be embedded.", status=400)))
    ] * 2
    assert (len(backend.asked), one.shelf.kept, other.shelf.kept) == (1, [], [])


async def test_who_asked_may_leave_one_gateway(shared: Replicas) -> None:
    """The call goes on for those who wait on the other one."""
    backend = Gated()
    (_, one), (_, other) = gateways(shared, backend)
    first = one.ask(*TEXTS)
    await backend.until(lambda backend: bool(backend.asked))
    second = other.ask(*TEXTS)
    await followed(shared)
    first.cancel()
    await asyncio.wait({first})
    backend.gate.set()
    assert (await second).status == "coalesced"
    assert (len(backend.asked), backend.cancelled) == (1, 0)


async def test_a_gateway_that_closes_is_taken_over(shared: Replicas) -> None:
    """One of those who waited asks; all get a whole answer."""
    backend = Gated()
    (leader, one), (_, other) = gateways(shared, backend)
    first = one.ask(*TEXTS)
    await backend.until(lambda backend: bool(backend.asked))
    waiting = [other.ask(*TEXTS) for _ in range(3)]
    await followed(shared)
    await leader.flights.aclose()
    await backend.until(lambda backend: len(backend.asked) == 2)
    backend.gate.set()
    replies = await asyncio.gather(*waiting)
    assert len({reply.values for reply in replies}) == 1
    assert (len(backend.asked), len(other.shelf.kept)) == (2, len(TEXTS))
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], Exception)


async def test_large_calls_stay_in_their_gateway(shared: Replicas) -> None:
    """Their vectors would fill Redis twice."""
    backend = Gated()
    (_, one), _ = gateways(shared, backend)
    asking = [one.ask(*[str(number) for number in range(MAX_SHARED + 1)]) for _ in range(3)]
    await backend.until(lambda backend: bool(backend.asked))
    backend.gate.set()
    await asyncio.gather(*asking)
    assert (len(backend.asked), await shared.keys()) == (1, {})
