"""A key and a way to ask in, a stream of steps out: one call to the backend, in whichever process it is made."""

import functools
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Literal, Protocol

import msgspec

from gateway.errors import AnswerChanged, BackendError
from gateway.flights.agreement import Agreement
from gateway.flights.local import Flight, Flights, Source
from gateway.flights.relayed import raised, told
from gateway.steps import Batches, Steps, heard, together
from storage.entry import Chunk
from storage.errors import LeaderLost, StorageError
from storage.flights.record import Batch, Fault, Wanted

Start = Callable[[], AsyncGenerator[Chunk]]
"""Asks the backend. What it gives is one answer, and it keeps it once that is complete."""

_GRACE_S = 1.0
"""How long a second try that says something else waits for those who were told to ask again."""


def _always() -> bool:
    return True


class Held(Protocol):
    """A lease of this process: others follow what is put here. Nothing of it raises or waits."""

    ours: Literal[True]

    def put(self, steps: Sequence[Chunk]) -> None:
        """Pass `steps` on."""
        ...

    def land(self, *, kept: bool) -> None:
        """The answer is complete; whether it is kept."""
        ...

    def fail(self, fault: Fault) -> None:
        """The backend failed."""
        ...

    def release(self) -> None:
        """Lead no longer; nothing after an end."""
        ...

    async def heard_elsewhere(self) -> bool:
        """Whether other processes listen. The lease is given up when none does."""
        ...


class Watched(Protocol):
    """Another process' lease."""

    ours: Literal[False]
    origin_id: str
    begun_at: float
    tags: tuple[str, ...]

    def batches(self) -> AsyncGenerator[Batch]:
        """Its steps, from the first to the end. Raises `LeaderLost`, and `StorageError` when that cannot be known."""
        ...


class Board(Protocol):
    """Where processes see each other's flights."""

    async def claim(self, wanted: Wanted) -> Held | Watched | None:
        """Lead the flight, or watch who does; None when that one is too old for it. Raises `StorageError`."""
        ...

    async def landed(self, wanted: Wanted) -> Watched | None:
        """Watch one that is complete; None when there is none. Raises `StorageError`."""
        ...


class Joined(msgspec.Struct, frozen=True):
    """An answer on its way."""

    steps: AsyncGenerator[Chunk]
    """Closing it, or being cancelled while waiting for a step, is leaving."""
    leads: bool
    """Whether the backend is asked for this asker; the others hear what it is answered."""
    origin_id: str
    """The `id` of the reply that the answer is first given in."""
    begun_at: float | None
    """When the model was asked, in seconds since the epoch; None when it was not."""
    tags: tuple[str, ...]
    """The words that the answer is given to find or delete it by."""


class _Asked(msgspec.Struct, frozen=True):
    """What one asker wants, and how it would be got."""

    wanted: Wanted
    start: Start
    kept: Callable[[], bool]


class SharedFlights:
    """Flights of this process that are one with those of others on `board`; without a board, they are its own."""

    def __init__(self, board: Board | None = None) -> None:
        self._board = board
        self._flights = Flights()

    async def join(self, wanted: Wanted, start: Start, kept: Callable[[], bool] = _always) -> Joined:
        """Listen to an answer from its first step; `start` asks for it unless somebody does already.

        `start` may be called later too, when the process that asks dies: then listeners hear the rest, if the second
        try says the same. `kept` says, once all is said, whether the answer is kept: only then is it heard by those who
        come a moment later.

        The steps raise what `start()` raises, `AnswerChanged` when a second try says something else, and
        `BackendUnavailable` when the gateway closes.
        """
        source = functools.partial(self._shared, _Asked(wanted, start, kept))
        listener, opened = self._flights.join(wanted, source)
        leads = await listener.leads()
        return Joined(Steps(listener), opened and leads, listener.origin_id, listener.begun_at, listener.tags)

    async def landed(self, wanted: Wanted) -> Joined | None:
        """An answer that another process was just given, all of it there; it may not have come into any tier yet."""
        try:
            if self._board is None or (watched := await self._board.landed(wanted)) is None:
                return None
            async with aclosing(_given(watched)) as arriving:
                steps = [step async for some in arriving for step in some]
        except (StorageError, BackendError):
            return None
        return Joined(
            steps=Steps(_one(steps)),
            leads=False,
            origin_id=watched.origin_id,
            begun_at=watched.begun_at,
            tags=watched.tags,
        )

    async def aclose(self) -> None:
        """End what is under way. Other processes that follow take over at once."""
        await self._flights.aclose()

    async def _shared(self, asked: _Asked, flight: Flight) -> Batches:
        try:
            claimed = await self._board.claim(asked.wanted) if self._board else None
        except StorageError:
            claimed = None
        if claimed is None:
            return await _alone(asked, flight)
        if claimed.ours is False:
            flight.begun(leads=False, origin_id=claimed.origin_id, begun_at=claimed.begun_at, tags=claimed.tags)
            return self._followed(claimed, asked, flight)
        flight.begun(leads=True, origin_id=asked.wanted.origin_id, begun_at=time.time(), tags=asked.wanted.tags)
        flight.heard_elsewhere = claimed.heard_elsewhere
        return _led(claimed, asked)

    async def _followed(self, watched: Watched, asked: _Asked, flight: Flight) -> Batches:
        try:
            async with aclosing(_given(watched)) as arriving:
                async for some in arriving:
                    yield some
            return
        except LeaderLost:
            source: Source = functools.partial(self._shared, asked)
        except StorageError:
            source = functools.partial(_alone, asked)
        async with aclosing(self._again(source, flight)) as arriving:
            async for some in arriving:
                yield some

    async def _again(self, source: Source, flight: Flight) -> Batches:
        """The rest of `flight` from a second try, which is a flight of its own: others may hear it from the start."""
        agreement = Agreement(tuple(flight.steps))
        listener, _ = self._flights.join(Wanted(key=flight.key, epoch=flight.epoch), source, instead_of=flight)
        try:
            async for some in heard(listener, agreement.rest):
                yield some
            agreement.end()
        except AnswerChanged:
            listener.leave_in(_GRACE_S)
            raise
        finally:
            await listener.aclose()


async def _alone(asked: _Asked, flight: Flight) -> Batches:
    flight.begun(leads=True, origin_id=asked.wanted.origin_id, begun_at=time.time(), tags=asked.wanted.tags)
    return together(asked.start())


async def _led(held: Held, asked: _Asked) -> Batches:
    """The backend's steps, passed on to other processes."""
    try:
        async with aclosing(together(asked.start())) as arriving:
            async for some in arriving:
                held.put(some)
                yield some
        held.land(kept=asked.kept())
    except Exception as error:
        held.fail(told(error))
        raise
    finally:
        held.release()


async def _one(steps: Sequence[Chunk]) -> Batches:
    if steps:
        yield steps


async def _given(watched: Watched) -> Batches:
    """Another process' steps. Raises what its backend raised."""
    async with aclosing(watched.batches()) as batches:
        async for batch in batches:
            if batch.steps:
                yield batch.steps
            if batch.fault is not None:
                raise raised(batch.fault)
