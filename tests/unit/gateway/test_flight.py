"""One source and many listeners in one process: everybody hears everything, and it ends when nobody listens."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from gateway.errors import BackendError, BackendRefused, BackendUnavailable
from gateway.flights.shared import Joined, SharedFlights
from storage.entry import Chunk
from storage.flights.record import Wanted
from tests.suites.speaking import Backend, first, settled, text

KEY = b"k" * 32


@pytest.fixture
def backend() -> Backend:
    """Nothing said yet."""
    return Backend()


@pytest.fixture
async def flights() -> AsyncIterator[SharedFlights]:
    """Flights of this process alone; nothing is left of them."""
    found = SharedFlights()
    yield found
    await found.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_equal_questions_are_one_call(flights: SharedFlights, backend: Backend) -> None:
    """Whenever they come: before the first step, between two, after the last; and all hear the very same steps."""
    early = [await flights.join(Wanted(key=KEY), backend.complete) for _ in range(3)]
    hearing = [asyncio.create_task(text(joined)) for joined in early]
    await settled()
    backend.say("a", "b")
    await settled()
    midway = await flights.join(Wanted(key=KEY), backend.complete)
    assert await first(midway, 2) == "ab"
    backend.say("c")
    await settled()
    late = await flights.join(Wanted(key=KEY), backend.complete)
    backend.say(None)
    assert await asyncio.gather(*hearing, text(late)) == ["abc"] * 4
    assert await text(midway) == "c"
    assert (backend.calls, backend.closed) == (1, 1)
    assert [joined.leads for joined in (*early, midway, late)] == [True, False, False, False, False]


async def test_steps_are_not_copied(flights: SharedFlights, backend: Backend) -> None:
    """Two listeners hold the same object."""
    one, other = (
        await flights.join(Wanted(key=KEY), backend.complete),
        await flights.join(Wanted(key=KEY), backend.complete),
    )
    await settled()
    backend.say("a")
    assert await anext(one.steps) is await anext(other.steps)
    for joined in (one, other):
        await joined.steps.aclose()


async def test_other_questions_and_later_ones_are_other_calls(flights: SharedFlights, backend: Backend) -> None:
    """An answer that has come to its end is found in the tiers."""
    for key in (KEY, KEY, b"o" * 32):
        joined = await flights.join(Wanted(key=key), backend.complete)
        assert joined.leads
        await settled()
        backend.say("a", None)
        assert await text(joined) == "a"
    assert backend.calls == 3


@pytest.mark.parametrize(("max_age_s", "joins"), [(None, True), (60.0, True), (0.0, False)])
async def test_an_answer_that_is_too_old_is_not_joined(
    flights: SharedFlights, backend: Backend, max_age_s: float | None, joins: bool
) -> None:
    """Its age counts from when the model was asked, also while it is still being said."""
    early = await flights.join(Wanted(key=KEY), backend.complete)
    await settled()
    late = await flights.join(Wanted(key=KEY, max_age_s=max_age_s), backend.complete)
    assert late.leads is not joins
    await settled()
    backend.say_to_all("a", None)
    assert [await text(early), await text(late)] == ["a", "a"]
    assert backend.calls == (1 if joins else 2)


async def test_an_answer_from_before_is_not_joined(flights: SharedFlights, backend: Backend) -> None:
    """It goes on for those who listen; who asks for the old epoch gets either."""
    old = await flights.join(Wanted(key=KEY, epoch=1), backend.complete)
    await settled()
    backend.say("old", None)
    new = await flights.join(Wanted(key=KEY, epoch=2), backend.complete)
    await settled()
    backend.say("new", None)
    either = await flights.join(Wanted(key=KEY, epoch=1), backend.complete)
    assert [await text(joined) for joined in (old, new, either)] == ["old", "new", "new"]
    assert [joined.leads for joined in (old, new, either)] == [True, True, False]


async def test_a_listener_who_leaves_is_not_missed(flights: SharedFlights, backend: Backend) -> None:
    """The one who led included."""
    leader, other = [await flights.join(Wanted(key=KEY), backend.complete) for _ in range(2)]
    await settled()
    backend.say("a")
    assert await first(leader, 1) == "a"
    await leader.steps.aclose()
    await leader.steps.aclose()
    assert [step async for step in leader.steps] == []
    backend.say("b", None)
    assert await text(other) == "ab"


@pytest.mark.parametrize("said", [(), ("a",)])
async def test_the_last_to_leave_closes_the_source(
    flights: SharedFlights, backend: Backend, said: Sequence[str]
) -> None:
    """Before the first step or after; it is closed when leaving is done, and who comes then asks anew."""
    joined = [await flights.join(Wanted(key=KEY), backend.complete) for _ in range(3)]
    await settled()
    backend.say(*said)
    await settled()
    for each in joined:
        assert backend.closed == 0
        await each.steps.aclose()
    assert backend.closed == 1
    again = await flights.join(Wanted(key=KEY), backend.complete)
    assert again.leads
    await settled()
    backend.say("new", None)
    assert await text(again) == "new"


async def test_who_comes_while_a_source_closes_asks_anew(flights: SharedFlights) -> None:
    """Nobody joins what is about to end."""
    closing, calls = asyncio.Event(), 0

    async def slow_to_close() -> AsyncGenerator[Chunk]:
        nonlocal calls
        calls += 1
        try:
            yield Chunk(content="a")
            await asyncio.sleep(0 if calls > 1 else 60)
        finally:
            await asyncio.shield(closing.wait())

    one = await flights.join(Wanted(key=KEY), slow_to_close)
    assert await first(one, 1) == "a"
    leaving = asyncio.create_task(one.steps.aclose())
    await settled()
    other = await flights.join(Wanted(key=KEY), slow_to_close)
    assert other.leads
    assert await first(other, 1) == "a"
    closing.set()
    assert await text(other) == ""
    await leaving
    assert calls == 2


async def test_cancelling_a_listener_is_leaving(flights: SharedFlights, backend: Backend) -> None:
    """While it waits for a step, or for the news who leads."""
    joined = [await flights.join(Wanted(key=KEY), backend.complete) for _ in range(2)]
    waiting = [asyncio.ensure_future(anext(each.steps)) for each in joined]
    await settled()
    waiting[0].cancel()
    await settled()
    assert backend.closed == 0
    waiting[1].cancel()
    await settled()
    assert backend.closed == 1
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_letting_go_of_a_listener_is_leaving(flights: SharedFlights, backend: Backend) -> None:
    """A request that is cancelled between joining and listening leaves no call behind."""
    joined = await flights.join(Wanted(key=KEY), backend.complete)
    await settled()
    del joined
    gc.collect()
    await settled()
    assert backend.closed == backend.calls == 1


@pytest.mark.parametrize("said", [(), ("a", "b")])
async def test_a_fault_reaches_everybody(flights: SharedFlights, backend: Backend, said: Sequence[str]) -> None:
    """After the steps that came before it; and later questions ask anew."""
    joined = [await flights.join(Wanted(key=KEY), backend.complete) for _ in range(3)]
    await settled()
    fault = BackendRefused("no", status=418)
    backend.say(*said, fault)
    for each in joined:
        assert await first(each, len(said)) == "".join(said)
        with pytest.raises(BackendRefused, match="no") as caught:
            await anext(each.steps)
        assert caught.value is fault
        with pytest.raises(StopAsyncIteration):
            await anext(each.steps)
    assert (await flights.join(Wanted(key=KEY), backend.complete)).leads


async def test_a_fault_heard_by_many_does_not_grow(flights: SharedFlights, backend: Backend) -> None:
    """An exception collects frames each time it is raised."""
    joined = [await flights.join(Wanted(key=KEY), backend.complete) for _ in range(100)]
    await settled()
    fault = BackendError("no")
    backend.say(fault)
    for each in joined:
        with pytest.raises(BackendError):
            await anext(each.steps)
    frames, traceback = 0, fault.__traceback__
    while traceback:
        frames, traceback = frames + 1, traceback.tb_next
    assert frames < 10


async def test_closing_ends_everything(backend: Backend) -> None:
    """Those who listen are told, and nobody can join any more."""
    flights = SharedFlights()
    joined = await flights.join(Wanted(key=KEY), backend.complete)
    await settled()
    backend.say("a")
    await settled()
    await flights.aclose()
    assert backend.closed == 1
    assert await first(joined, 1) == "a"
    with pytest.raises(BackendUnavailable, match="closing"):
        await anext(joined.steps)
    with pytest.raises(BackendUnavailable, match="closing"):
        await flights.join(Wanted(key=KEY), backend.complete)


async def test_closing_before_anything_ran(backend: Backend) -> None:
    """A task that is cancelled before its first step still tells its listeners."""
    flights = SharedFlights()
    joining = asyncio.ensure_future(flights.join(Wanted(key=KEY), backend.complete))
    await asyncio.sleep(0)
    await flights.aclose()
    joined = await joining
    with pytest.raises(BackendUnavailable, match="closing"):
        await anext(joined.steps)
    assert not joined.leads


async def test_a_generator_in_every_way(flights: SharedFlights, backend: Backend) -> None:
    """Steps can be asked for and closed as those of any generator."""
    joined = await flights.join(Wanted(key=KEY), backend.complete)
    await settled()
    backend.say("a")
    assert (await joined.steps.asend(None)).content == "a"
    with pytest.raises(ValueError, match="mine"):
        await joined.steps.athrow(ValueError("mine"))
    await settled()
    assert backend.closed == 1


async def test_many_listeners_and_many_steps(flights: SharedFlights) -> None:
    """500 times 1000, each step of its own turn of the loop: nobody misses one, and time grows with the product."""
    listeners, steps = 500, 1000

    async def source() -> AsyncGenerator[Chunk]:
        for number in range(steps):
            await asyncio.sleep(0)
            yield Chunk(index=number)

    async def hear(joined: Joined) -> bool:
        return [step.index async for step in joined.steps] == list(range(steps))

    started = time.process_time()
    joined = [await flights.join(Wanted(key=KEY), source) for _ in range(listeners)]
    assert all(await asyncio.gather(*map(hear, joined)))
    assert time.process_time() - started < 20
