"""Flights of several gateways on a real Redis: one call, heard by everybody from its first step."""

import asyncio
import time
from collections.abc import AsyncGenerator

import msgspec
import pytest
import redis.asyncio

from gateway.errors import (
    AnswerChanged,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    InvalidRequest,
    RequestError,
    envelope,
)
from storage.entry import Chunk
from storage.flights import record
from storage.flights.record import Wanted
from tests.suites.replicas import KEY, TIMING, Replicas, led
from tests.suites.speaking import Backend, first, settled, text

WORDS = [f"w{number} " for number in range(20)]


async def test_500_listeners_on_two_replicas_are_one_call(shared: Replicas) -> None:
    """Both ask at the same time; everybody hears the same."""
    backend = Backend(*WORDS, None)
    both = [shared.one(), shared.one()]
    joined = await asyncio.gather(*(both[n % 2].join(Wanted(key=KEY), backend.complete) for n in range(500)))
    assert await asyncio.gather(*map(text, joined)) == ["".join(WORDS)] * 500
    assert backend.calls == 1
    assert [each.leads for each in joined].count(True) == 1
    assert [replica.faults for replica in both] == [[], []]


async def test_500_questions_on_two_replicas_are_500_calls(shared: Replicas) -> None:
    """Each its own flight; far more are followed than there are connections that wait."""
    go_on, calls = asyncio.Event(), 0

    async def source() -> AsyncGenerator[Chunk]:
        nonlocal calls
        calls += 1
        yield Chunk(content="a")
        await go_on.wait()
        yield Chunk(content="b")

    patient = msgspec.structs.replace(TIMING, silence_s=20.0)
    both = [shared.one(patient), shared.one(patient)]
    started = time.monotonic()
    asking = (replica.join(Wanted(key=number.to_bytes(32)), source) for number in range(500) for replica in both)
    joined = await asyncio.gather(*asking)
    assert await asyncio.gather(*(first(each, 1) for each in joined)) == ["a"] * 1000
    go_on.set()
    assert await asyncio.gather(*map(text, joined)) == ["b"] * 1000
    assert calls == 500
    assert time.monotonic() - started < patient.silence_s
    assert [replica.faults for replica in both] == [[], []]


async def test_a_late_follower_hears_the_prefix_and_then_the_tail(shared: Replicas) -> None:
    """On the leader's replica, on another, and on one that comes to a flight that has long been followed."""
    backend = Backend()
    leader = await led(shared, backend, "a", "b")
    one = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert await first(one, 2) == "ab"
    backend.say("c")
    assert await first(one, 1) == "c"
    other = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert await first(other, 3) == "abc"
    assert not one.leads
    assert not other.leads
    backend.say("d", None)
    assert await asyncio.gather(*map(text, (leader, one, other))) == ["cd", "d", "d"]
    assert backend.calls == 1


async def test_a_step_reaches_a_follower_exactly(shared: Replicas) -> None:
    """Every field of it."""
    step = Chunk(
        index=1,
        content="é\x00",
        reasoning="r",
        refusal="n",
        tool_calls=({"index": 0, "function": {"arguments": "{"}},),
        logprobs={"content": [{"token": "é", "logprob": -0.5}]},
        token_ids=(1, 2),
        prompt_token_ids=(3,),
        after_ms=1.5,
    )

    async def source() -> AsyncGenerator[Chunk]:
        yield step

    leader = await shared.one().join(Wanted(key=KEY), source)
    follower = await shared.one().join(Wanted(key=KEY), source)
    assert [step async for step in follower.steps] == [step async for step in leader.steps] == [step]


async def test_a_finished_flight_can_still_be_read(shared: Replicas) -> None:
    """For those who asked before the tiers had it; then nothing of it is left."""
    backend = Backend("a", "b", None)
    leader = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert await text(leader) == "ab"
    late = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert not late.leads
    assert await text(late) == "ab"
    assert backend.calls == 1
    kept = await shared.keys()
    assert {"flight", "steps"} <= kept.keys()
    assert all(0 < left <= 1000 * TIMING.lease_s * 2 for left in kept.values())
    await shared.until(set())
    assert (await shared.one().join(Wanted(key=KEY), backend.complete)).leads


async def test_what_comes_at_once_is_written_at_once(shared: Replicas) -> None:
    """A short answer costs others no more than one write, its end included."""
    backend = Backend("a", "b", "c", None)
    assert await text(await shared.one().join(Wanted(key=KEY), backend.complete)) == "abc"
    late = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert await text(late) == "abc"
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        (name,) = await client.keys("askonce:1:steps:*")
        assert await client.xlen(name) == 1


async def test_who_only_reads_hears_what_is_complete(shared: Replicas) -> None:
    """Not what is under way, nor what is not kept; and a flight is not kept going by it."""
    backend, reader = Backend(), shared.one()
    leader = await led(shared, backend, "a")
    assert await reader.flights.landed(Wanted(key=KEY)) is None
    backend.say("b", None)
    assert await text(leader) == "b"
    heard = await reader.flights.landed(Wanted(key=KEY))
    assert heard is not None
    assert (heard.leads, await text(heard)) == (False, "ab")
    assert await reader.flights.landed(Wanted(key=KEY, epoch=1)) is None
    assert await reader.flights.landed(Wanted(key=KEY, max_age_s=0)) is None
    other = Wanted(key=b"o" * 32)
    assert await text(await shared.one().join(other, Backend("c", None).complete, lambda: False)) == "c"
    assert await reader.flights.landed(other) is None
    assert reader.faults == []


async def test_everything_in_redis_expires(shared: Replicas) -> None:
    """At every moment of a flight, so that nothing stays of a process that dies."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert await first(follower, 1) == "a"
    kept = await shared.keys()
    assert kept.keys() == {"flight", "steps", "listeners"}
    assert all(0 < left <= 1000 * TIMING.lease_s * 2 for left in kept.values())
    backend.say(None)
    assert await text(leader) == await text(follower) == ""


async def test_a_lease_outlives_itself_while_its_flight_goes_on(shared: Replicas) -> None:
    """A backend may think for longer than a lease lasts, before its first step and between two."""
    backend = Backend()
    leader = await shared.one().join(Wanted(key=KEY), backend.complete)
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    hearing = asyncio.gather(text(leader), text(follower))
    await asyncio.sleep(1.5 * TIMING.lease_s)
    backend.say("a")
    await asyncio.sleep(2.5 * TIMING.lease_s)
    backend.say("b", None)
    assert await hearing == ["ab", "ab"]
    assert backend.calls == 1


async def test_a_follower_is_known_for_as_long_as_it_listens(shared: Replicas) -> None:
    """Also when it is never left without news: a leader without listeners of its own stays for it."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    await leader.steps.aclose()
    until = time.monotonic() + 2 * TIMING.lease_s
    while time.monotonic() < until:
        backend.say("a")
        assert await first(follower, 1) == "a"
        await asyncio.sleep(TIMING.silence_s / 3)
    assert (backend.calls, backend.closed) == (1, 0)
    await follower.steps.aclose()


async def test_steps_are_gathered_only_while_nobody_follows(shared: Replicas) -> None:
    """The first one is written at once, and so is every one that somebody waits for."""
    slow = msgspec.structs.replace(TIMING, gather_s=2.0)
    backend = Backend()
    leader = await shared.one(slow).join(Wanted(key=KEY), backend.complete)
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    for step, limit_s in (("first", 1.0), ("second", 30.0), ("third", 1.0)):
        started = time.monotonic()
        backend.say(step)
        assert await first(follower, 1) == step
        assert time.monotonic() - started < limit_s
    await leader.steps.aclose()


async def test_a_listener_who_leaves_is_not_missed(shared: Replicas) -> None:
    """Neither a follower nor, as long as somebody listens anywhere, the leader."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    one, other = [await shared.one().join(Wanted(key=KEY), backend.complete) for _ in range(2)]
    assert [await first(joined, 1) for joined in (one, other)] == ["a", "a"]
    await one.steps.aclose()
    await leader.steps.aclose()
    assert backend.closed == 0
    backend.say("b", None)
    assert await text(other) == "b"
    assert backend.calls == 1


async def test_a_follower_who_leaves_is_forgotten(shared: Replicas) -> None:
    """At once, and not when it would have expired."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert await first(follower, 1) == "a"
    await shared.until({"flight", "steps", "listeners"})
    await follower.steps.aclose()
    await shared.until({"flight", "steps"}, TIMING.lease_s / 3)
    await leader.steps.aclose()


async def test_a_follower_that_died_is_not_waited_for(shared: Replicas) -> None:
    """It does not say good-bye; its time runs out, whoever else keeps the list alive."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        await client.zadd(record.names(KEY, b"").listeners, {b"dead": 1.0})
        await leader.steps.aclose()
        assert backend.closed == 1
        assert not await client.exists(record.names(KEY, b"").listeners)


async def test_the_last_listener_closes_the_source_and_the_lease(shared: Replicas) -> None:
    """When leaving is done, both are gone; who comes then leads."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    await leader.steps.aclose()
    assert backend.closed == 1
    await shared.until(set(), 0.2)
    again = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert again.leads


async def test_the_last_listener_elsewhere_closes_the_source(shared: Replicas) -> None:
    """The leader stays for others, and no longer than they do."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert await first(follower, 1) == "a"
    await leader.steps.aclose()
    assert backend.closed == 0
    await follower.steps.aclose()
    await backend.until(lambda backend: backend.closed == 1)
    await shared.until(set())


async def test_who_comes_while_the_last_one_leaves_is_heard(shared: Replicas) -> None:
    """Redis is being asked whether others listen: one does, here."""
    backend = Backend()
    replica = shared.one()
    leader = await replica.join(Wanted(key=KEY), backend.complete)
    leaving = asyncio.create_task(leader.steps.aclose())
    await asyncio.sleep(0)
    again = await replica.join(Wanted(key=KEY), backend.complete)
    await leaving
    backend.say("a", None)
    assert await text(again) == "a"
    assert (backend.calls, again.leads) == (1, False)


async def test_a_leader_without_listeners_can_be_joined_again(shared: Replicas) -> None:
    """While it stays for others."""
    backend = Backend()
    replica = shared.one()
    leader = await replica.join(Wanted(key=KEY), backend.complete)
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    await leader.steps.aclose()
    again = await replica.join(Wanted(key=KEY), backend.complete)
    await follower.steps.aclose()
    backend.say("a", None)
    assert await text(again) == "a"
    assert backend.calls == 1


@pytest.mark.parametrize(
    "fault",
    [
        BackendRefused("too long", status=413, code="context_length_exceeded", param="messages"),
        BackendUnavailable("down"),
        InvalidRequest("no", param="messages", code="unsupported_content"),
        AnswerChanged(),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_fault_reaches_every_replica(shared: Replicas, fault: Exception) -> None:
    """As the same reply to the client, after the same steps; and the next question asks anew."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    backend.say("b", fault)
    assert (await first(leader, 1), await first(follower, 2)) == ("b", "ab")
    for joined in (leader, follower):
        with pytest.raises((BackendError, RequestError)) as caught:
            await anext(joined.steps)
        assert (caught.value.status, envelope(caught.value)) == (fault.status, envelope(fault))  # type: ignore[attr-defined]
        assert isinstance(caught.value, BackendError) == isinstance(fault, BackendError)
    await settled()
    assert (await shared.one().join(Wanted(key=KEY), backend.complete)).leads


async def test_a_mistake_of_the_leader_is_told_without_details(shared: Replicas) -> None:
    """The stack trace is for its own log."""
    backend = Backend()
    leader = await led(shared, backend)
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    backend.say(RuntimeError("secret"))
    with pytest.raises(RuntimeError, match="secret"):
        await anext(leader.steps)
    with pytest.raises(BackendError, match="made a mistake") as caught:
        await anext(follower.steps)
    assert caught.value.status == 500
    assert all(left > 0 for left in (await shared.keys()).values())
    assert "steps" in await shared.keys()


async def test_an_answer_from_before_is_not_joined(shared: Replicas) -> None:
    """Who asks after a flush goes alone until the old flight has ended; who asks before it may hear the new answer."""
    old, new = Backend(), Backend()
    leader = await shared.one().join(Wanted(key=KEY, epoch=1), old.complete)
    later = await shared.one().join(Wanted(key=KEY, epoch=2), new.complete)
    assert leader.leads
    assert later.leads
    assert (await shared.keys()).keys() == {"flight"}
    await leader.steps.aclose()
    third = Backend()
    newest = await shared.one().join(Wanted(key=KEY, epoch=3), third.complete)
    either = await shared.one().join(Wanted(key=KEY, epoch=1), old.complete)
    assert newest.leads
    assert not either.leads
    third.say("new", None)
    assert await text(either) == "new"


async def test_a_follower_hears_its_first_step_soon(shared: Replicas) -> None:
    """Two round trips to Redis, however long the leader is silent: the best of some tries, on a machine in use."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    times: list[float] = []
    for _ in range(20):
        started = time.perf_counter()
        follower = await shared.one().join(Wanted(key=KEY), backend.complete)
        assert await first(follower, 1) == "a"
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05
    await leader.steps.aclose()


@pytest.mark.parametrize(("kept", "max_age_s", "heard"), [(True, None, True), (True, 0.0, False), (False, None, False)])
async def test_who_hears_what_is_complete_already(
    shared: Replicas, kept: bool, max_age_s: float | None, heard: bool
) -> None:
    """Those whose wishes it meets, if it is kept: one that is not kept is for those who came in time."""
    backend, replica = Backend("a", None), shared.one()
    leader = await replica.join(Wanted(key=KEY, origin_id="first"), backend.complete, lambda: kept)
    assert await text(leader) == "a"
    await replica.aclose()  # it writes what is waiting first
    late = await shared.one().join(Wanted(key=KEY, origin_id="late", max_age_s=max_age_s), backend.complete)
    assert late.leads is not heard
    assert late.origin_id == ("first" if heard else "late")
    assert await text(late) == "a"


@pytest.mark.parametrize("late", [Wanted(key=KEY, epoch=3, needs=3), Wanted(key=KEY, max_age_s=0.0)])
async def test_who_wants_a_newer_one_than_is_complete_is_one_call_too(shared: Replicas, late: Wanted) -> None:
    """After a deletion, or when it is too old: the complete one is in nobody's way for as long as it can be heard."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    backend.say(None)
    assert await text(leader) == ""
    await shared.until({"flight", "steps"})
    newer = await shared.one().join(late, backend.complete)
    await backend.until(lambda backend: backend.calls == 2)
    other = await shared.one().join(msgspec.structs.replace(late, max_age_s=None), backend.complete)
    assert [newer.leads, other.leads] == [True, False]
    backend.say("b", None)
    assert [await text(newer), await text(other)] == ["b", "b"]
    assert backend.calls == 2


async def test_who_asks_after_a_deletion_meets_others_who_do(shared: Replicas) -> None:
    """While those who asked before it are still being answered; each side is one call."""
    backend = Backend()
    early = await led(shared, backend, "a")
    late = [await shared.one().join(Wanted(key=KEY, epoch=3, needs=3), backend.complete) for _ in range(3)]
    assert [one.leads for one in late] == [True, False, False]
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    await backend.until(lambda backend: backend.calls == 2)
    backend.say_to_all("b", None)
    assert [await text(one) for one in (early, follower, *late)] == ["b", "ab", "b", "b", "b"]
    assert backend.calls == 2


async def test_nobody_hears_what_is_too_old_although_it_goes_on(shared: Replicas) -> None:
    """Neither of another process nor of one's own that follows it: those who have heard all of it may come again."""
    backend, replica = Backend(), shared.one()
    leader = await led(shared, backend, "a")
    follower = await replica.join(Wanted(key=KEY), backend.complete)
    assert not follower.leads
    strict = [await one.join(Wanted(key=KEY, max_age_s=0.0), backend.complete) for one in (replica, shared.one())]
    assert [one.leads for one in strict] == [True, True]
    await backend.until(lambda backend: backend.calls == 3)
    backend.say_to_all("b", None)
    assert [await text(one) for one in (leader, follower, *strict)] == ["b", "ab", "b", "b"]


async def test_an_invalidation_of_something_else_divides_nobody(shared: Replicas) -> None:
    """Who knows of more may follow who knew less, as long as nothing of it speaks of this question."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    later = Wanted(key=KEY, epoch=9, needs=0)
    followers = [await shared.one().join(later, backend.complete) for _ in range(3)]
    assert [follower.leads for follower in followers] == [False] * 3
    backend.say("b", None)
    assert [await text(one) for one in (*followers, leader)] == ["ab"] * 3 + ["b"]
    assert backend.calls == 1
