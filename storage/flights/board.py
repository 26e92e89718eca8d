"""A key comes in; a lease for this process goes out, or what another process is being answered."""

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from storage.breaker import Breaker
from storage.errors import StorageError
from storage.exchange import Connections
from storage.flights import record
from storage.flights.held import NAME, Held
from storage.flights.line import Line
from storage.flights.lua import script
from storage.flights.record import Lease, Timing, Wanted, ms
from storage.flights.watched import Reading, Watched
from storage.guard import Guard, OnFault

if TYPE_CHECKING:
    from redis.asyncio import Redis

_MAX_BLOCKED = 64
"""How many connections may wait for news at the same time."""
_LOOK_S = 0.01
"""How often it is looked whether an answer is complete."""


class RedisFlights:
    """The flights of all processes that share a Redis. `client` is closed with it."""

    def __init__(self, client: "Redis", on_fault: OnFault, timing: Timing | None = None) -> None:
        self._client = client
        self._on_fault = on_fault
        self._timing = timing or Timing()
        self._connections = Connections(client)
        self._line = Line(self._connections.exchange, self._timing.patience_s)
        self._claims = Guard(NAME, on_fault)
        # Without a breaker: who hears an answer already is patient, and goes on alone when that was in vain.
        self._reads = Guard(NAME, on_fault, Breaker(0, 0))
        blocked = asyncio.Semaphore(_MAX_BLOCKED)
        self._reading = Reading(client, self._line, self._claims, self._reads, blocked, self._timing)

    async def claim(self, wanted: Wanted) -> Held | Watched | None:
        """Lead the flight that is wanted, or watch who does; None when that one is too old.

        Raises `StorageError`, within the deadline, when Redis cannot say.
        """
        mine = Lease(secrets.token_bytes(16), wanted.epoch, time.time(), wanted.origin_id, tags=wanted.tags)
        held = await self._claimed(wanted, mine)
        if (flight := self._flight(wanted, held, mine)) is None and record.lease(held).landed:
            # What is complete stays here for a while, but not in the way of those who want a newer one.
            held = await self._claimed(wanted, mine, held)
            flight = self._flight(wanted, held, mine)
        return flight

    async def landed(self, wanted: Wanted) -> Watched | None:
        """The answer that is wanted, if another process has just been given all of it; None while there is none.

        Nothing is claimed. One under way is waited for a moment: its client may have all of it already. Raises
        `StorageError`, within the deadline, when Redis cannot say.
        """
        end = time.monotonic() + self._timing.landing_s
        while (lease := await self._leading(wanted)) is not None and not lease.landed:
            if time.monotonic() > end:
                return None
            await asyncio.sleep(_LOOK_S)
        if lease is None or not wanted.allows(lease.epoch) or wanted.is_too_old(time.time() - lease.begun_at):
            return None
        names = record.names(wanted.place, lease.token)
        return Watched(self._reading, names, lease, listener=secrets.token_bytes(16))

    async def aclose(self) -> None:
        """Write what is waiting, then let go of connections."""
        await self._line.aclose(self._timing.deadline_s)
        self._claims.close()
        self._reads.close()
        await self._connections.aclose()
        await self._client.aclose()

    async def _leading(self, wanted: Wanted) -> Lease | None:
        """The lease of who leads now, or led last."""
        command = ("GET", record.names(wanted.place, b"").lease)
        data = await self._claims.call("read", lambda: self._line.send(command), self._timing.deadline_s)
        return record.lease(data) if data else None

    async def _claimed(self, wanted: Wanted, mine: Lease, refused: bytes = b"") -> bytes:
        """The lease that holds now: `mine` when there was none, or only the one that is `refused`."""
        names, value = record.names(wanted.place, mine.token), record.encode(mine)
        lasts = ms(self._timing.lease_s)
        command = script("claim", (names.lease, names.listeners), mine.token, lasts, value, refused)
        asked: list[asyncio.Future[bytes]] = []

        def ask() -> "asyncio.Future[bytes]":
            asked.append(self._line.send(command))
            return asked[0]

        try:
            return await self._claims.call("claim", ask, self._timing.deadline_s)
        except (StorageError, asyncio.CancelledError):
            if asked:  # it may still come about
                self._line.send(script("disown", (names.lease, names.listeners), mine.token, value))
            raise

    def _flight(self, wanted: Wanted, held: bytes, mine: Lease) -> Held | Watched | None:
        lease = record.lease(held)
        names = record.names(wanted.place, lease.token)
        if lease.token == mine.token:
            return Held(self._line, names, mine, self._timing, self._on_fault)
        watched = Watched(self._reading, names, lease, listener=mine.token)
        # Also before it has landed: its leader's client may have all of it by then, and its age counts from the asking.
        if wanted.allows(lease.epoch) and not wanted.is_too_old(mine.begun_at - lease.begun_at):
            return watched
        watched.leave()
        return None


def connect(url: str, on_fault: OnFault, timing: Timing | None = None) -> RedisFlights:
    """Flights on the server at `url` (`redis://…`, `rediss://…` or `unix://…`). Connects when first used."""
    # No retries of the client's own: what is late is of no use here, and the line must stay in order.
    client = redis.asyncio.Redis.from_url(
        url, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0), max_connections=_MAX_BLOCKED + 8
    )
    return RedisFlights(client, on_fault, timing)
