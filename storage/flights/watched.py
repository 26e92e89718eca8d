"""A follower's side: another process' stream in, batches out, and the news that it has died."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Literal

import msgspec

from storage.errors import LeaderLost, StorageError
from storage.exchange import Command
from storage.flights import record
from storage.flights.line import Line
from storage.flights.lua import script
from storage.flights.record import Batch, Lease, Names, Timing, ms
from storage.guard import Guard

_POLL_S = 0.05
"""How often a stream is looked at when all connections that may wait for news do."""


class Reading(msgspec.Struct, frozen=True):
    """What it takes to read streams: the same for all that a process follows."""

    client: Any
    line: Line
    first: Guard
    """For the first look, which a client waits for."""
    later: Guard
    blocked: asyncio.Semaphore
    """The connections that may wait for news."""
    timing: Timing


class Watched:
    """Another process' lease. `listener` is who this process is among those who follow."""

    ours: Literal[False] = False

    def __init__(self, reading: Reading, names: Names, lease: Lease, listener: bytes) -> None:
        self._reading = reading
        self._timing = reading.timing
        self._names = names
        self._lease = lease
        self._listener = listener
        self._heard = 0
        self._last = 0
        self._loop = asyncio.get_running_loop()
        self.origin_id = lease.origin_id
        """The `id` of the reply that the answer is first given in."""
        self.begun_at = lease.begun_at
        self.tags = lease.tags
        self._believed = self._loop.time() + reading.timing.lease_s / 2
        """When to say again that somebody listens here."""

    async def batches(self) -> AsyncGenerator[Batch]:
        """Everything from the first step to a batch that says how it ended: `landed` or `failed`.

        Raises `LeaderLost` when the leader is gone, and `StorageError` when its stream cannot be read to the end.
        """
        try:
            (news,) = await self._call(self._reading.first, self._timing.deadline_s, self._read())
            while True:
                for place, batch in record.batches(news):
                    self._check(place, batch)
                    yield batch
                    if batch.end:
                        return
                news = await self._next()
        finally:
            self.leave()

    def leave(self) -> None:
        """Listen no longer."""
        self._reading.line.send(("ZREM", self._names.listeners, self._listener))

    def _check(self, place: int, batch: Batch) -> None:
        if batch.end == "left":
            raise LeaderLost
        if place != self._heard + 1:
            message = f"Step {self._heard + 1} of a flight is missing in Redis."
            raise StorageError(message)
        self._heard += len(batch.steps)
        self._last = place

    async def _next(self) -> Any:
        """The reply with what comes next; it may be nothing. Raises `LeaderLost` and `StorageError`."""
        if self._lease.landed:
            raise StorageError("The answer of a flight that has ended is no longer in Redis.")
        if news := await self._news():
            if self._loop.time() > self._believed:
                self._reading.line.send(self._listen())
            return news
        # In this order: a leader writes its last words before it lets go.
        held, news = await self._call(self._reading.later, self._timing.patience_s, self._listen(), self._read())
        if not news and (held is None or record.lease(held).token != self._lease.token):
            raise LeaderLost
        return news

    async def _news(self) -> Any:
        """What comes within `silence_s`, or nothing: then it is asked in another way."""
        reading, timing = self._reading, self._timing
        if not reading.blocked.locked():
            command = self._read("BLOCK", ms(timing.silence_s))
            async with reading.blocked:
                with contextlib.suppress(StorageError):
                    return await reading.later.call(
                        "read", lambda: reading.client.execute_command(*command), timing.silence_s + timing.deadline_s
                    )
        await asyncio.sleep(_POLL_S)
        return None

    async def _call(self, guard: Guard, deadline_s: float, *commands: Command) -> list[Any]:
        """The replies to `commands`, in one round trip."""
        return await guard.call("read", lambda: asyncio.gather(*map(self._reading.line.send, commands)), deadline_s)

    def _read(self, *options: str | int) -> Command:
        return ("XREAD", *options, "STREAMS", self._names.steps, f"{self._last}-0")

    def _listen(self) -> Command:
        """Say that somebody listens here, and ask who leads."""
        self._believed = self._loop.time() + self._timing.lease_s / 2
        keys = (self._names.lease, self._names.listeners)
        return script("claim", keys, self._listener, ms(self._timing.lease_s), b"")
