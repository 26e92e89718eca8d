"""Flights across processes, on a real Redis: one call whatever happens, and never two answers in one."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

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
from gateway.flights.shared import Joined
from storage.entry import Chunk
from storage.flights import record
from tests.conftest import Servers
from tests.suites.frozen import frozen
from tests.suites.replicas import TIMING, Replicas, leading, replicas
from tests.suites.speaking import Backend, first, settled, text

KEY = bytes(range(32))
WORDS = [f"w{number} " for number in range(20)]
SHORT = msgspec.structs.replace(TIMING, deadline_s=0.3, patience_s=0.5)
"""For servers that do not answer anyway."""


@pytest.fixture
async def shared(redis_url: str) -> AsyncIterator[Replicas]:
    """Replicas, as many as are asked for."""
    async with replicas(redis_url) as found:
        yield found


async def led(shared: Replicas, backend: Backend, *said: str) -> Joined:
    """A flight that another replica leads, its first steps given."""
    joined = await shared.one().join(KEY, 0, backend.complete)
    assert joined.leads
    await backend.until(lambda backend: backend.calls == 1)
    backend.say(*said)
    assert await first(joined, len(said)) == "".join(said)
    return joined


async def heard(joined: Joined) -> tuple[str, BackendError | None]:
    """What was heard, and how it failed."""
    said = ""
    try:
        async with aclosing(joined.steps) as arriving:
            async for step in arriving:
                said += step.content
    except BackendError as error:
        return said, error
    return said, None


async def test_500_listeners_on_two_replicas_are_one_call(shared: Replicas) -> None:
    """Both ask at the same time; everybody hears the same."""
    backend = Backend(*WORDS, None)
    both = [shared.one(), shared.one()]
    joined = await asyncio.gather(*(both[n % 2].join(KEY, 0, backend.complete) for n in range(500)))
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

    both = [shared.one(), shared.one()]
    asking = (replica.join(number.to_bytes(32), 0, source) for number in range(500) for replica in both)
    joined = await asyncio.gather(*asking)
    assert await asyncio.gather(*(first(each, 1) for each in joined)) == ["a"] * 1000
    go_on.set()
    assert await asyncio.gather(*map(text, joined)) == ["b"] * 1000
    assert calls == 500
    assert [replica.faults for replica in both] == [[], []]


async def test_a_late_follower_hears_the_prefix_and_then_the_tail(shared: Replicas) -> None:
    """On the leader's replica, on another, and on one that comes to a flight that has long been followed."""
    backend = Backend()
    leader = await led(shared, backend, "a", "b")
    one = await shared.one().join(KEY, 0, backend.complete)
    assert await first(one, 2) == "ab"
    backend.say("c")
    assert await first(one, 1) == "c"
    other = await shared.one().join(KEY, 0, backend.complete)
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

    leader = await shared.one().join(KEY, 0, source)
    follower = await shared.one().join(KEY, 0, source)
    assert [step async for step in follower.steps] == [step async for step in leader.steps] == [step]


async def test_a_step_that_cannot_be_written_stays_here(shared: Replicas) -> None:
    """Half of a surrogate pair has no encoding: those who follow ask for themselves."""
    backend, other = Backend(), Backend("a", "b\ud800", None)
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(KEY, 0, other.complete)
    assert await first(follower, 1) == "a"
    backend.say("b\ud800", None)
    assert await text(leader) == await text(follower) == "b\ud800"
    assert (backend.calls, other.calls) == (1, 1)


async def test_a_finished_flight_can_still_be_read(shared: Replicas) -> None:
    """For those who asked before the tiers had it; then nothing of it is left."""
    backend = Backend("a", "b", None)
    leader = await shared.one().join(KEY, 0, backend.complete)
    assert await text(leader) == "ab"
    late = await shared.one().join(KEY, 0, backend.complete)
    assert not late.leads
    assert await text(late) == "ab"
    assert backend.calls == 1
    kept = await shared.keys()
    assert {"flight", "steps"} <= kept.keys()
    assert all(0 < left <= 1000 * TIMING.lease_s * 2 for left in kept.values())
    await shared.until(set())
    assert (await shared.one().join(KEY, 0, backend.complete)).leads


async def test_everything_in_redis_expires(shared: Replicas) -> None:
    """At every moment of a flight, so that nothing stays of a process that dies."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(KEY, 0, backend.complete)
    assert await first(follower, 1) == "a"
    kept = await shared.keys()
    assert kept.keys() == {"flight", "steps", "listeners"}
    assert all(0 < left <= 1000 * TIMING.lease_s * 2 for left in kept.values())
    backend.say(None)
    assert await text(leader) == await text(follower) == ""


async def test_a_lease_outlives_itself_while_its_flight_goes_on(shared: Replicas) -> None:
    """A backend may think for longer than a lease lasts, before its first step and between two."""
    backend = Backend()
    leader = await shared.one().join(KEY, 0, backend.complete)
    follower = await shared.one().join(KEY, 0, backend.complete)
    hearing = asyncio.gather(text(leader), text(follower))
    await asyncio.sleep(1.5 * TIMING.lease_s)
    backend.say("a")
    await asyncio.sleep(1.5 * TIMING.lease_s)
    backend.say("b", None)
    assert await hearing == ["ab", "ab"]
    assert backend.calls == 1


async def test_a_listener_who_leaves_is_not_missed(shared: Replicas) -> None:
    """Neither a follower nor, as long as somebody listens anywhere, the leader."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    one, other = [await shared.one().join(KEY, 0, backend.complete) for _ in range(2)]
    assert [await first(joined, 1) for joined in (one, other)] == ["a", "a"]
    await one.steps.aclose()
    await leader.steps.aclose()
    assert backend.closed == 0
    backend.say("b", None)
    assert await text(other) == "b"
    assert backend.calls == 1


async def test_the_last_listener_closes_the_source_and_the_lease(shared: Replicas) -> None:
    """When leaving is done, both are gone; who comes then leads."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    await leader.steps.aclose()
    assert backend.closed == 1
    await shared.until(set(), 0.2)
    again = await shared.one().join(KEY, 0, backend.complete)
    assert again.leads


async def test_the_last_listener_elsewhere_closes_the_source(shared: Replicas) -> None:
    """The leader stays for others, and no longer than they do."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(KEY, 0, backend.complete)
    assert await first(follower, 1) == "a"
    await leader.steps.aclose()
    assert backend.closed == 0
    await follower.steps.aclose()
    await backend.until(lambda backend: backend.closed == 1)
    await shared.until(set())


async def test_a_leader_without_listeners_can_be_joined_again(shared: Replicas) -> None:
    """While it stays for others."""
    backend = Backend()
    replica = shared.one()
    leader = await replica.join(KEY, 0, backend.complete)
    follower = await shared.one().join(KEY, 0, backend.complete)
    await leader.steps.aclose()
    again = await replica.join(KEY, 0, backend.complete)
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
    follower = await shared.one().join(KEY, 0, backend.complete)
    backend.say("b", fault)
    assert (await first(leader, 1), await first(follower, 2)) == ("b", "ab")
    for joined in (leader, follower):
        with pytest.raises((BackendError, RequestError)) as caught:
            await anext(joined.steps)
        assert (caught.value.status, envelope(caught.value)) == (fault.status, envelope(fault))  # type: ignore[attr-defined]
        assert isinstance(caught.value, BackendError) == isinstance(fault, BackendError)
    await settled()
    assert (await shared.one().join(KEY, 0, backend.complete)).leads


async def test_a_mistake_of_the_leader_is_told_without_details(shared: Replicas) -> None:
    """The stack trace is for its own log."""
    backend = Backend()
    leader = await led(shared, backend)
    follower = await shared.one().join(KEY, 0, backend.complete)
    backend.say(RuntimeError("secret"))
    with pytest.raises(RuntimeError, match="secret"):
        await anext(leader.steps)
    with pytest.raises(BackendError, match="made a mistake") as caught:
        await anext(follower.steps)
    assert caught.value.status == 500


async def test_an_answer_from_before_is_not_joined(shared: Replicas) -> None:
    """Who asks after a flush goes alone until the old flight has ended; who asks before it may hear the new answer."""
    old, new = Backend(), Backend()
    leader = await shared.one().join(KEY, 1, old.complete)
    later = await shared.one().join(KEY, 2, new.complete)
    assert leader.leads
    assert later.leads
    assert (await shared.keys()).keys() == {"flight"}
    await leader.steps.aclose()
    third = Backend()
    newest = await shared.one().join(KEY, 3, third.complete)
    either = await shared.one().join(KEY, 1, old.complete)
    assert newest.leads
    assert not either.leads
    third.say("new", None)
    assert await text(either) == "new"


async def test_a_gateway_that_stops_hands_over_at_once(shared: Replicas) -> None:
    """Those who follow wait for no lease: one of them asks, the others follow that one."""
    leading_one = shared.one()
    backend = Backend()
    leader = await leading_one.join(KEY, 0, backend.complete)
    await backend.until(lambda backend: backend.calls == 1)
    followers = [await shared.one().join(KEY, 0, backend.complete) for _ in range(3)]
    backend.say("a")
    assert [await first(joined, 1) for joined in followers] == ["a"] * 3
    started = time.monotonic()
    await leading_one.aclose()
    assert backend.closed == 1
    assert await first(leader, 1) == "a"
    with pytest.raises(BackendUnavailable, match="closing"):
        await anext(leader.steps)
    await backend.until(lambda backend: backend.calls == 2)
    assert time.monotonic() - started < TIMING.lease_s
    backend.say("a", "b", None)
    assert await asyncio.gather(*map(text, followers)) == ["b"] * 3
    assert backend.calls == 2


@pytest.mark.parametrize("given", [0, 3])
async def test_a_leader_that_is_killed_is_taken_over_once(shared: Replicas, given: int) -> None:
    """By SIGKILL, before its first step or midway; 100 listeners on two replicas hear the whole answer."""
    backend = Backend(*WORDS, None)
    both = [shared.one(), shared.one()]
    async with leading(shared.url, KEY) as leader:
        await leader.say(*WORDS[:given])
        joined = await asyncio.gather(*(both[n % 2].join(KEY, 0, backend.complete) for n in range(100)))
        hearing = [asyncio.create_task(text(each)) for each in joined[2:]]
        before = [await first(each, given) for each in joined[:2]]
        await leader.kill()
        started = time.monotonic()
        assert await asyncio.gather(*hearing) == ["".join(WORDS)] * 98
        assert [one + await text(each) for one, each in zip(before, joined[:2], strict=True)] == ["".join(WORDS)] * 2
    assert backend.calls == 1
    assert not any(each.leads for each in joined)
    assert time.monotonic() - started < 10 * TIMING.lease_s


async def test_a_second_try_that_differs_is_an_error(shared: Replicas) -> None:
    """For those who had something of the first; who comes later hears the second from its start."""
    second = ["w0 ", "other ", "words"]
    backend = Backend(*second)
    both = [shared.one(), shared.one()]
    async with leading(shared.url, KEY) as leader:
        await leader.say(*WORDS[:3])
        joined = [await both[n % 2].join(KEY, 0, backend.complete) for n in range(10)]
        assert [await first(each, 3) for each in joined] == ["".join(WORDS[:3])] * 10
        await leader.kill()
        outcomes = await asyncio.gather(*map(heard, joined))
        late = [await replica.join(KEY, 0, backend.complete) for replica in both]
        backend.say(None)
        assert await asyncio.gather(*map(text, late)) == ["".join(second)] * 2
    assert {said for said, _ in outcomes} == {""}
    assert {type(fault) for _, fault in outcomes} == {AnswerChanged}
    assert backend.calls == 1


async def test_a_leader_that_was_only_stopped_does_no_harm(shared: Replicas) -> None:
    """It comes back after another took over: its own listener hears its answer, the others theirs."""
    backend = Backend(*WORDS[:2])
    async with leading(shared.url, KEY) as leader:
        await leader.say(WORDS[0])
        follower = await shared.one().join(KEY, 0, backend.complete)
        assert await first(follower, 1) == WORDS[0]
        with frozen(leader.pid):
            assert await first(follower, 1) == WORDS[1]
        await leader.say("quite ", "another ", "end")
        late = await shared.one().join(KEY, 0, backend.complete)
        assert await first(late, 2) == "".join(WORDS[:2])
        backend.say(*WORDS[2:], None)
        assert await asyncio.gather(text(follower), text(late)) == ["".join(WORDS[2:])] * 2
    assert backend.calls == 1


async def test_a_stream_with_a_hole_is_not_continued(shared: Replicas) -> None:
    """Redis drops what was used least when it is full: a follower that misses a step asks for itself."""
    backend, other = Backend(), Backend(*WORDS, None)
    leader = await led(shared, backend, *WORDS[:3])
    follower = await shared.one().join(KEY, 0, other.complete)
    assert await first(follower, 3) == "".join(WORDS[:3])
    name = await _stream(shared)
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        await client.delete(name)
        await client.xadd(name, {b"batch": record.encode(record.Batch((Chunk(content="gap"),)))}, id="9-0")
    assert await text(follower) == "".join(WORDS[3:])
    backend.say(None)
    assert await text(leader) == ""
    assert (backend.calls, other.calls) == (1, 1)


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x93\xa1a", b""])
async def test_what_nobody_here_wrote_is_not_believed(shared: Replicas, garbage: bytes) -> None:
    """A lease or a batch that cannot be read is no reason to fail."""
    backend = Backend("a", None)
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        await client.set(record.names(KEY, b"").lease, garbage, px=1000)
        assert await text(await shared.one().join(KEY, 0, backend.complete)) == "a"
        names = record.names(KEY, b"t")
        await client.set(names.lease, record.encode(record.Lease(b"t", 0)), px=1000)
        await client.xadd(names.steps, {b"batch": garbage}, id="1-0")
        await client.pexpire(names.steps, 1000)
        assert await text(await shared.one().join(KEY, 0, backend.complete)) == "a"
    assert backend.calls == 2


async def test_an_answer_that_was_dropped_is_asked_for_again(shared: Replicas) -> None:
    """A finished flight without its steps holds nobody up."""
    backend = Backend("a", None)
    names = record.names(KEY, b"t")
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        await client.set(names.lease, record.encode(record.Lease(b"t", 0, landed=True)), px=60_000)
        assert await text(await shared.one().join(KEY, 0, backend.complete)) == "a"
        await client.delete(names.lease)


async def test_a_redis_that_is_down_is_not_needed(shared: Replicas) -> None:
    """Flights are per gateway then, and each failure costs no time."""
    backend = Backend("a", None)
    replica = shared.one(url="unix:///nowhere/redis.sock")
    started = time.monotonic()
    joined = [await replica.join(KEY, 0, backend.complete) for _ in range(10)]
    assert [await text(each) for each in joined] == ["a"] * 10
    assert time.monotonic() - started < TIMING.deadline_s
    assert backend.calls == 1
    assert replica.faults == [("flights", "claim")]


async def test_a_redis_that_refuses_is_not_needed(shared: Replicas) -> None:
    """Full, and allowed to drop nothing."""
    backend, other = Backend(), Backend(*WORDS, None)
    leader = await led(shared, backend, *WORDS[:3])
    follower = await shared.one().join(KEY, 0, other.complete)
    assert await first(follower, 3) == "".join(WORDS[:3])
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        old = await client.config_get("maxmemory*")
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "1")
        try:
            backend.say(*WORDS[3:], None)
            assert await text(leader) == await text(follower) == "".join(WORDS[3:])
            assert await text(await shared.one().join(KEY, 0, Backend("a", None).complete)) == "a"
        finally:
            for name in ("maxmemory", "maxmemory-policy"):
                await client.config_set(name, old[name])


async def test_a_redis_that_is_frozen_costs_one_deadline(shared: Replicas, servers: Servers) -> None:
    """The first asker waits for it, the next ones do not; and no lease is left of the attempt."""
    backend = Backend("a", None)
    replica = shared.one(SHORT)
    assert await text(await replica.join(b"before" * 6, 0, backend.complete)) == "a"
    with frozen(servers.redis_process):
        started = time.monotonic()
        assert await text(await replica.join(KEY, 0, backend.complete)) == "a"
        first_s = time.monotonic() - started
        for number in range(20):
            assert await text(await replica.join(number.to_bytes(32), 0, backend.complete)) == "a"
        assert time.monotonic() - started < SHORT.deadline_s + 1
    assert first_s >= SHORT.deadline_s
    assert backend.calls == 22
    assert [fault for fault in replica.faults if fault[1] == "claim"] == [("flights", "claim")]


async def test_a_redis_that_freezes_midway_holds_nobody_up(shared: Replicas, servers: Servers) -> None:
    """The leader goes on; a follower asks for itself, and its listeners hear the rest."""
    backend, other = Backend(), Backend(*WORDS, None)
    leader = await led(shared, backend, *WORDS[:3])
    replica = shared.one(SHORT)
    follower = await replica.join(KEY, 0, other.complete)
    assert await first(follower, 3) == "".join(WORDS[:3])
    with frozen(servers.redis_process):
        backend.say(*WORDS[3:], None)
        assert await text(leader) == "".join(WORDS[3:])
        assert await text(follower) == "".join(WORDS[3:])
        alone = await replica.join(b"other" * 6, 0, other.complete)
        assert await text(alone) == "".join(WORDS)
    assert (backend.calls, other.calls) == (1, 2)


async def test_leaving_while_redis_is_frozen_closes_the_source(shared: Replicas, servers: Servers) -> None:
    """Nobody can say whether others listen; they can ask for themselves."""
    backend = Backend()
    replica = shared.one(SHORT)
    joined = await replica.join(KEY, 0, backend.complete)
    with frozen(servers.redis_process):
        started = time.monotonic()
        await joined.steps.aclose()
        assert backend.closed == 1
        assert time.monotonic() - started < SHORT.patience_s + 1


async def test_asking_and_leaving_while_redis_is_frozen_leaves_no_lease(shared: Replicas, servers: Servers) -> None:
    """A claim that Redis hears too late is taken back."""
    backend = Backend()
    replica = shared.one()
    with frozen(servers.redis_process):
        asking = asyncio.create_task(replica.join(KEY, 0, backend.complete))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert backend.calls == 0
    await shared.until(set(), TIMING.lease_s / 2)


async def test_a_connection_that_breaks_is_made_anew(shared: Replicas) -> None:
    """Those that wait and those that idle: nobody asks twice for that."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(KEY, 0, backend.complete)
    assert await first(follower, 1) == "a"
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.1)
    backend.say("b", None)
    assert await text(leader) == await text(follower) == "b"
    assert backend.calls == 1


async def test_a_follower_hears_its_first_step_soon(shared: Replicas) -> None:
    """Two round trips to Redis, however long the leader is silent: the best of some tries, on a machine in use."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    times: list[float] = []
    for _ in range(20):
        started = time.perf_counter()
        follower = await shared.one().join(KEY, 0, backend.complete)
        assert await first(follower, 1) == "a"
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05
    await leader.steps.aclose()


async def _stream(shared: Replicas) -> bytes:
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        (name,) = await client.keys("askonce:1:steps:*")
    return name
