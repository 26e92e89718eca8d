"""Keys of inputs -> one call to a backend, its vectors kept; other gateways hear a small one."""

import hashlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import msgspec

from gateway import asking
from gateway.asking import since_ms
from gateway.canonical import Request
from gateway.embedding import told
from gateway.embedding.told import Told
from gateway.flights.shared import SharedFlights
from gateway.policy import Terms
from gateway.routing.calling import Asking
from gateway.routing.route import Route
from storage.entry import Chunk, Entry, Query, Usage
from storage.flights.record import Wanted

MAX_SHARED: Final = 64
"""The most inputs of a call that other gateways hear: a call's vectors go through Redis once more, and stay a while."""


class Kept(Protocol):
    """Where vectors are kept."""

    @property
    def epoch(self) -> int:
        """What an entry must carry that is asked for from now on."""
        ...

    def put(self, entry: Entry) -> bool:
        """Keep `entry`; False when it was taken back meanwhile."""
        ...

    def closed(self, query: Query) -> int:
        """What the epoch of an answer to `query` must be at least."""
        ...

    async def supersede(self, keys: Sequence[bytes], scope: str) -> int | None:
        """What is kept under `keys` counts no longer, anywhere; the number from which on entries do.

        None when that could not be done: then nothing is to be kept.
        """
        ...


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What one request wants to know, and how what it is told is to be kept."""

    route: Route
    """Who is asked."""
    asking: Asking
    questions: Mapping[bytes, tuple[Request, Query]]
    """By key."""
    stale: frozenset[bytes]
    """Keys of vectors that are kept but no longer count."""
    terms: Terms
    tags: tuple[str, ...]
    reply_id: str
    made_by: str
    refresh: bool
    """What is kept is not wanted."""


class Calls:
    """Asks backends for vectors, and keeps them."""

    def __init__(self, tiers: Kept, flights: SharedFlights) -> None:
        self._tiers = tiers
        self._flights = flights

    async def alone(self, errand: Errand, keys: Sequence[bytes]) -> Told:
        """The vectors of `keys`, asked for by this process for this errand only. Raises `BackendError`."""
        created_at, started, epoch = time.time(), time.monotonic(), self._tiers.epoch
        asked = [errand.questions[key] for key in keys]
        call = errand.route.call(errand.asking)
        given = await call.embed([request for request, _ in asked])
        entries = [
            Entry(
                query=query,
                origin_id=errand.reply_id,
                backend=call.backend,
                created_at=created_at,
                duration_ms=since_ms(started),
                embedding=asking.sound(vector, call.backend),
                usage=Usage(prompt_tokens=vector.tokens, cost_micro_usd=vector.cost_micro_usd),
                epoch=epoch,
                tags=errand.tags,
                made_by=errand.made_by,
                replaces=query.key in errand.stale,
                fallback=errand.route.fallback,
            )
            for (_, query), vector in zip(asked, given, strict=True)
        ]
        kept = await call.unchanged() and await self._keep(entries, errand)
        vectors = {query.key: vector for (_, query), vector in zip(asked, given, strict=True)}
        return Told(vectors=vectors, ours=True, origin_id=errand.reply_id, kept=kept, backend=call.backend)

    async def shared(self, errand: Errand, epoch: int, keys: Sequence[bytes]) -> Told:
        """The same, heard from whoever asks for just these keys now, for `epoch` or a later one.

        Raises `RequestError` and `BackendError`.
        """
        if len(keys) > MAX_SHARED:
            return await self.alone(errand, keys)
        done: list[Told] = []

        async def steps() -> AsyncGenerator[Chunk]:
            done.append(await self.alone(errand, keys))
            yield told.step(done[-1].vectors, done[-1].backend)

        wanted = Wanted(key=_name(keys), epoch=epoch, origin_id=errand.reply_id, max_age_s=errand.terms.max_age_s)
        joined = await self._flights.join(wanted, steps, lambda: done[-1].kept)
        arrived: list[Chunk] = []
        async with aclosing(joined.steps) as arriving:
            async for step in arriving:
                arrived.append(step)
                if not (joined.leads or done):
                    break  # one step is everything; if its leader dies now, that is no matter
        if done:
            return done[-1]
        vectors, backend = told.heard(arrived, keys), arrived[0].backend
        return Told(vectors=vectors, ours=False, origin_id=joined.origin_id, kept=True, backend=backend)

    async def _keep(self, entries: Sequence[Entry], errand: Errand) -> bool:
        """Keep those that the terms allow; whether that is all. Vectors asked for anew take the place of the old."""
        terms = errand.terms
        fit = [entry for entry in entries if terms.keep and entry.answer_bytes() <= terms.max_bytes]
        if errand.refresh:  # not what was deleted while it was under way
            fit = [entry for entry in fit if self._tiers.closed(entry.query) <= entry.epoch]
        if errand.refresh and fit:
            epoch = await self._tiers.supersede([entry.query.key for entry in fit], fit[0].query.scope)
            if epoch is None:
                return False
            fit = [msgspec.structs.replace(entry, epoch=epoch, replaces=True) for entry in fit]
        kept = [entry for entry in fit if self._tiers.put(entry)]
        return len(kept) == len(entries)


def _name(keys: Sequence[bytes]) -> bytes:
    """The name of the flight that brings the vectors of `keys`, in whatever order they were asked for."""
    return hashlib.sha256(b"askonce/embeddings" + b"".join(sorted(keys))).digest()
