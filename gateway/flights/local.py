"""One source in, its steps out to every listener of this process: those it has given, then new ones as they come."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any

from gateway.errors import BackendUnavailable
from gateway.steps import Batches
from storage.entry import Chunk
from storage.flights.record import Wanted

_AGAIN_S = 1.0
"""How often it is asked whether others listen, once nobody here does."""
_TURNS = 8
"""How many turns of the loop those who were told of the first step have to pass it on."""
_CLOSE_S = 5.0
"""How long sources may take to end when the gateway does."""
_CLOSING = "This gateway is closing. Ask again."

Source = Callable[["Flight"], Awaitable[Batches]]
"""Opens what a flight gives, and tells the flight who leads and who else listens."""


class Flight:
    """One answer on its way, taken from its source by a task of its own. Its steps are shared, never copied."""

    def __init__(self, wanted: Wanted, source: Source, flights: "Flights") -> None:
        self.key = wanted.key
        self.epoch = wanted.epoch
        self.begun_at: float | None = None
        """When the backend was asked, in seconds since the epoch; None until that is known."""
        self.steps: list[Chunk] = []
        self.heard_elsewhere: Callable[[], Awaitable[bool]] | None = None
        """Asked when nobody listens here; without it nobody listens elsewhere."""
        self.leads: bool | None = None
        """Whether this process asks the backend; None until that is known."""
        self.origin_id = ""
        """The `id` of the reply that the answer is first given in, once that is known."""
        self.tags: tuple[str, ...] = ()
        """The words that the answer is given, once that is known."""
        self.ended = False
        self._wanted = wanted
        self.loop = asyncio.get_running_loop()
        self._flights = flights
        self._listeners = 0
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._patient: dict[asyncio.Future[None], None] = {}
        """Those who wait for the end: each step would cost them a turn of the loop."""
        self._fault: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._task = flights.spawn(self._run(source))
        self._task.add_done_callback(self._land)

    def begun(self, *, leads: bool, origin_id: str, begun_at: float, tags: tuple[str, ...] = ()) -> None:
        """Say whether this process asks the backend, in which reply and with which words the answer is first given, and
        since when.
        """
        self.leads = leads
        self.origin_id = origin_id
        self.begun_at = begun_at
        self.tags = tags
        self._wake()

    def fits(self, wanted: Wanted) -> bool:
        """Whether its answer is new enough for another asker; while that is unknown, whether its own was as strict."""
        if not wanted.allows(self.epoch):
            return False
        if wanted.max_age_s is None:
            return True
        if self.begun_at is None:
            return self._wanted.max_age_s is not None and self._wanted.max_age_s <= wanted.max_age_s
        return not wanted.is_too_old(time.time() - self.begun_at)

    def joined(self) -> None:
        """One listener more."""
        self._listeners += 1

    def left(self) -> "asyncio.Task[None] | None":
        """One listener less. When it was the last one: what ends once that is settled."""
        self._listeners -= 1
        return self._deserted()

    async def news(self, *, at_end: bool = False) -> None:
        """Wait for a step, the end, or the news who leads; `at_end`, for the end alone."""
        waiting, waiter = self._patient if at_end else self._waiting, self.loop.create_future()
        waiting[waiter] = None
        try:
            await waiter
        finally:
            waiting.pop(waiter, None)

    def check(self) -> None:
        """Raise what the source raised. Its traceback would otherwise grow with every listener."""
        if self._fault is not None:
            raise self._fault.with_traceback(self._traceback)

    async def _run(self, source: Source) -> None:
        async with aclosing(await source(self)) as arriving:
            async for some in arriving:
                begins = not self.steps
                self.steps.extend(some)
                self._wake()
                if begins:
                    await self._told()

    async def _told(self) -> None:
        """Have those who wait for the first step told of it before what came with it is read: that may be all the rest.
        Who does not come for more in a few turns of the loop is not waited for.
        """
        for _ in range(_TURNS):
            if self._waiting or len(self._patient) == self._listeners:
                return
            await asyncio.sleep(0)

    def _land(self, task: "asyncio.Task[None]") -> None:
        self._fault = BackendUnavailable(_CLOSING) if task.cancelled() else task.exception()
        self._traceback = self._fault.__traceback__ if self._fault else None
        self.ended = True
        self._flights.forget(self)
        self._waiting |= self._patient
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _deserted(self) -> "asyncio.Task[None] | None":
        if self._listeners or self.ended:
            return None
        if self.heard_elsewhere is None:
            self._stop()
            return self._task
        if self._leaving is None or self._leaving.done():
            self._leaving = self._flights.spawn(self._leave(self.heard_elsewhere))
        return self._leaving

    async def _leave(self, heard_elsewhere: Callable[[], Awaitable[bool]]) -> None:
        """Stop, unless somebody listens elsewhere or here again by now."""
        if self._again is not None:
            self._again.cancel()
        if await heard_elsewhere():
            self._again = self.loop.call_later(_AGAIN_S, self._deserted)
        elif not self._listeners:
            self._stop()
            await asyncio.wait({self._task})

    def _stop(self) -> None:
        self._flights.forget(self)  # who asks from now on starts anew
        self._task.cancel()


class Listener(AsyncGenerator[Sequence[Chunk], None]):
    """The steps of a flight for one of those who asked, from the first one: each time all that are there. Raises what
    the source raised.

    Whoever is cancelled while waiting, or lets go of it, has left. The last one to close it waits for the source's end.
    """

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._position = 0
        self._gone = False
        self._patient = False
        flight.joined()

    def __del__(self) -> None:
        loop = self._flight.loop
        if not self._gone and not loop.is_closed():
            loop.call_soon_threadsafe(self._flight.left)

    @property
    def origin_id(self) -> str:
        """The `id` of the reply that the answer is first given in; empty until that is known."""
        return self._flight.origin_id

    @property
    def begun_at(self) -> float | None:
        """When the model was asked, in seconds since the epoch; None until that is known."""
        return self._flight.begun_at

    @property
    def tags(self) -> tuple[str, ...]:
        """The words that the answer is given to find or delete it by; none until that is known."""
        return self._flight.tags

    def at_end(self) -> None:
        """Give all steps at once, when there are no more to come."""
        self._patient = True

    async def leads(self) -> bool:
        """Whether this process asks the backend; waits until that is known."""
        flight = self._flight
        while flight.leads is None and not flight.ended:
            await self._news()
        return bool(flight.leads)

    async def __anext__(self) -> Sequence[Chunk]:
        flight = self._flight
        while not self._gone:
            if (position := self._position) < len(flight.steps) and (flight.ended or not self._patient):
                self._position = len(flight.steps)
                return flight.steps[position:]
            if flight.ended:
                self._leave()
                flight.check()
            else:
                await self._news()
        raise StopAsyncIteration

    async def asend(self, value: None) -> Sequence[Chunk]:
        """The next steps."""
        del value
        return await anext(self)

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> Sequence[Chunk]:
        """Leave, and raise."""
        self._leave()
        raise typ if val is None else val

    async def aclose(self) -> None:
        """Leave."""
        if (ending := self._leave()) is not None:
            await asyncio.wait({ending})

    def leave_in(self, seconds: float) -> None:
        """Hear no more, but leave only then: until then the flight goes on."""
        if not self._gone:
            self._gone = True
            self._flight.loop.call_later(seconds, self._flight.left)

    def _leave(self) -> "asyncio.Task[None] | None":
        if self._gone:
            return None
        self._gone = True
        return self._flight.left()

    async def _news(self) -> None:
        try:
            await self._flight.news(at_end=self._patient)
        except asyncio.CancelledError:
            self._leave()
            raise


class Flights:
    """The flights of this process, one for each key."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def join(self, wanted: Wanted, source: Source, instead_of: Flight | None = None) -> tuple[Listener, bool]:
        """Listen to the flight that is wanted; also whether it had to be started, from `source`.

        It had to when there is none, none that is new enough, or none but `instead_of`.
        Raises `BackendUnavailable` once the gateway is closing.
        """
        if self._closed:
            raise BackendUnavailable(_CLOSING)
        flight = self._flights.get(wanted.key)
        if flight is not None and flight is not instead_of and flight.fits(wanted):
            return Listener(flight), False
        flight = self._flights[wanted.key] = Flight(wanted, source, self)
        return Listener(flight), True

    def forget(self, flight: Flight) -> None:
        """Let nobody join `flight` any more."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run `work` until these flights are closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """End everything that is under way; those who listen are told."""
        self._closed = True
        while tasks := self._tasks.copy():
            for task in tasks:
                task.cancel()
            done, _ = await asyncio.wait(tasks, timeout=_CLOSE_S)
            if not done:
                return
