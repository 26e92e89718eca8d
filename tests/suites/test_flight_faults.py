"""Flights when a process, a backend or Redis fails: an answer or an error, soon, and never two answers in one."""

import asyncio
import time

import msgspec
import pytest
import redis.asyncio

from gateway.errors import (
    AnswerChanged,
    BackendUnavailable,
)
from storage.entry import Chunk
from storage.flights import record
from storage.flights.record import Wanted
from tests.conftest import Servers
from tests.suites.frozen import frozen
from tests.suites.replicas import KEY, TIMING, Replicas, leading, led
from tests.suites.speaking import Backend, first, heard, text

WORDS = [f"w{number} " for number in range(20)]
SHORT = msgspec.structs.replace(TIMING, deadline_s=0.3, patience_s=0.5)
"""For servers that do not answer anyway."""


async def test_a_step_that_cannot_be_written_stays_here(shared: Replicas) -> None:
    """Half of a surrogate pair has no encoding: those who follow ask for themselves."""
    backend, other = Backend(), Backend("a", "b\ud800", None)
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(Wanted(key=KEY), other.complete)
    assert await first(follower, 1) == "a"
    started = time.monotonic()
    backend.say("b\ud800", None)
    assert await text(leader) == await text(follower) == "b\ud800"
    assert (backend.calls, other.calls) == (1, 1)
    assert time.monotonic() - started < TIMING.lease_s / 2


async def test_a_leader_that_cannot_write_leads_no_longer(shared: Replicas) -> None:
    """Its own listeners hear everything; the lease is free at once."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    name = await _stream(shared)
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        await client.set(name, b"no stream", px=60_000)
        backend.say("b")
        assert await first(leader, 1) == "b"
        await shared.until({"steps"}, TIMING.lease_s / 2)
        await client.delete(name)
    backend.say("c", None)
    assert await text(leader) == "c"


async def test_a_gateway_that_stops_hands_over_at_once(shared: Replicas) -> None:
    """Those who follow wait for no lease: one of them asks, the others follow that one."""
    leading_one = shared.one()
    backend = Backend()
    leader = await leading_one.join(Wanted(key=KEY), backend.complete)
    await backend.until(lambda backend: backend.calls == 1)
    followers = [await shared.one().join(Wanted(key=KEY), backend.complete) for _ in range(3)]
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
        joined = await asyncio.gather(*(both[n % 2].join(Wanted(key=KEY), backend.complete) for n in range(100)))
        hearing = [asyncio.create_task(text(each)) for each in joined[2:]]
        before = [await first(each, given) for each in joined[:2]]
        await leader.kill()
        started = time.monotonic()
        assert await asyncio.gather(*hearing) == ["".join(WORDS)] * 98
        assert [one + await text(each) for one, each in zip(before, joined[:2], strict=True)] == ["".join(WORDS)] * 2
    assert backend.calls == 1
    assert not any(each.leads for each in joined)
    assert time.monotonic() - started < 10 * TIMING.lease_s


@pytest.mark.parametrize("count", [1, 2])
async def test_a_second_try_that_differs_is_an_error(shared: Replicas, count: int) -> None:
    """For those who had something of the first; who asks again is in time to hear the second, from its start."""
    second = ["w0 ", "other ", "words"]
    backend = Backend(*second)
    gateways = [shared.one() for _ in range(count)]
    async with leading(shared.url, KEY) as leader:
        await leader.say(*WORDS[:3])
        joined = [await gateways[n % count].join(Wanted(key=KEY), backend.complete) for n in range(10)]
        assert [await first(each, 3) for each in joined] == ["".join(WORDS[:3])] * 10
        await leader.kill()
        outcomes = await asyncio.gather(*map(heard, joined))
        late = [await gateway.join(Wanted(key=KEY), backend.complete) for gateway in gateways]
        backend.say(None)
        assert await asyncio.gather(*map(text, late)) == ["".join(second)] * count
    assert {said for said, _ in outcomes} == {""}
    assert {type(fault) for _, fault in outcomes} == {AnswerChanged}
    assert backend.calls == 1


async def test_a_second_try_that_says_less_is_an_error(shared: Replicas) -> None:
    """What was said too much cannot be taken back."""
    backend = Backend(WORDS[0], None)
    async with leading(shared.url, KEY) as leader:
        await leader.say(*WORDS[:3])
        joined = await shared.one().join(Wanted(key=KEY), backend.complete)
        assert await first(joined, 3) == "".join(WORDS[:3])
        await leader.kill()
        said, fault = await heard(joined)
    assert said == ""
    assert type(fault) is AnswerChanged


async def test_a_leader_that_was_only_stopped_does_no_harm(shared: Replicas) -> None:
    """It comes back after another took over: its own listener hears its answer, the others theirs."""
    backend = Backend(*WORDS[:2])
    async with leading(shared.url, KEY) as leader:
        await leader.say(WORDS[0])
        follower = await shared.one().join(Wanted(key=KEY), backend.complete)
        assert await first(follower, 1) == WORDS[0]
        with frozen(leader.pid):
            assert await first(follower, 1) == WORDS[1]
        await leader.say("quite ", "another ", "end")
        late = await shared.one().join(Wanted(key=KEY), backend.complete)
        assert await first(late, 2) == "".join(WORDS[:2])
        backend.say(*WORDS[2:], None)
        assert await asyncio.gather(text(follower), text(late)) == ["".join(WORDS[2:])] * 2
    assert backend.calls == 1


async def test_a_stream_with_a_hole_is_not_continued(shared: Replicas) -> None:
    """Redis drops what was used least when it is full: a follower that misses a step asks for itself."""
    backend, other = Backend(), Backend(*WORDS, None)
    leader = await led(shared, backend, *WORDS[:3])
    follower = await shared.one().join(Wanted(key=KEY), other.complete)
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
        assert await text(await shared.one().join(Wanted(key=KEY), backend.complete)) == "a"
        names = record.names(KEY, b"t")
        await client.set(names.lease, record.encode(record.Lease(b"t", 0, 0.0, "")), px=1000)
        await client.xadd(names.steps, {b"batch": garbage}, id="1-0")
        await client.pexpire(names.steps, 1000)
        assert await text(await shared.one().join(Wanted(key=KEY), backend.complete)) == "a"
    assert backend.calls == 2


async def test_an_answer_that_was_dropped_is_asked_for_again(shared: Replicas) -> None:
    """A finished flight without its steps holds nobody up."""
    backend = Backend("a", None)
    names = record.names(KEY, b"t")
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        await client.set(names.lease, record.encode(record.Lease(b"t", 0, 0.0, "", landed=True)), px=60_000)
        async with asyncio.timeout(30):
            assert await text(await shared.one().join(Wanted(key=KEY), backend.complete)) == "a"
        await client.delete(names.lease)


async def test_a_redis_that_is_down_is_not_needed(shared: Replicas) -> None:
    """Flights are per gateway then, and each failure costs no time."""
    backend = Backend("a", None)
    replica = shared.one(url="unix:///nowhere/redis.sock")
    started = time.monotonic()
    joined = [await replica.join(Wanted(key=KEY), backend.complete) for _ in range(10)]
    assert [await text(each) for each in joined] == ["a"] * 10
    assert time.monotonic() - started < TIMING.deadline_s
    assert backend.calls == 1
    assert replica.faults == [("flights", "claim")]


async def test_a_redis_that_refuses_is_not_needed(shared: Replicas) -> None:
    """Full, and allowed to drop nothing."""
    backend, other = Backend(), Backend(*WORDS, None)
    leader = await led(shared, backend, *WORDS[:3])
    follower = await shared.one().join(Wanted(key=KEY), other.complete)
    assert await first(follower, 3) == "".join(WORDS[:3])
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        old = await client.config_get("maxmemory*")
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "1")
        try:
            backend.say(*WORDS[3:], None)
            assert await text(leader) == await text(follower) == "".join(WORDS[3:])
            assert await text(await shared.one().join(Wanted(key=KEY), Backend("a", None).complete)) == "a"
        finally:
            for name in ("maxmemory", "maxmemory-policy"):
                await client.config_set(name, old[name])


async def test_a_redis_that_is_frozen_costs_one_deadline(shared: Replicas, servers: Servers) -> None:
    """The first asker waits for it, the next ones do not; and no lease is left of the attempt."""
    backend = Backend("a", None)
    replica = shared.one(SHORT)
    assert await text(await replica.join(Wanted(key=b"before" * 6), backend.complete)) == "a"
    with frozen(servers.redis_process):
        started = time.monotonic()
        assert await text(await replica.join(Wanted(key=KEY), backend.complete)) == "a"
        first_s = time.monotonic() - started
        for number in range(20):
            assert await text(await replica.join(Wanted(key=number.to_bytes(32)), backend.complete)) == "a"
        assert time.monotonic() - started < SHORT.deadline_s + 1
    assert first_s >= SHORT.deadline_s
    assert backend.calls == 22
    assert [fault for fault in replica.faults if fault[1] == "claim"] == [("flights", "claim")]


async def test_a_redis_that_freezes_midway_holds_nobody_up(shared: Replicas, servers: Servers) -> None:
    """The leader goes on; a follower asks for itself, and its listeners hear the rest."""
    backend, other = Backend(), Backend(*WORDS, None)
    leader = await led(shared, backend, *WORDS[:3])
    replica = shared.one(SHORT)
    follower = await replica.join(Wanted(key=KEY), other.complete)
    assert await first(follower, 3) == "".join(WORDS[:3])
    with frozen(servers.redis_process):
        backend.say(*WORDS[3:], None)
        assert await text(leader) == "".join(WORDS[3:])
        assert await text(follower) == "".join(WORDS[3:])
        alone = await replica.join(Wanted(key=b"other" * 6), other.complete)
        assert await text(alone) == "".join(WORDS)
    assert (backend.calls, other.calls) == (1, 2)


async def test_leaving_while_redis_is_frozen_closes_the_source(shared: Replicas, servers: Servers) -> None:
    """Nobody can say whether others listen; they can ask for themselves."""
    backend = Backend()
    replica = shared.one(SHORT)
    joined = await replica.join(Wanted(key=KEY), backend.complete)
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
        asking = asyncio.create_task(replica.join(Wanted(key=KEY), backend.complete))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert backend.calls == 0
    await shared.until(set(), TIMING.lease_s / 2)


async def test_a_connection_that_breaks_is_made_anew(shared: Replicas) -> None:
    """Those that wait and those that idle: nobody asks twice for that."""
    backend = Backend()
    leader = await led(shared, backend, "a")
    follower = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert await first(follower, 1) == "a"
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.1)
    backend.say("b", None)
    assert await text(leader) == await text(follower) == "b"
    assert backend.calls == 1


async def _stream(shared: Replicas) -> bytes:
    async with redis.asyncio.Redis.from_url(shared.url) as client:
        (name,) = await client.keys("askonce:1:steps:*")
    return name
