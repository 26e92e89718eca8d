"""Requests -> Vectors: name each, look, have asked what is missing."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

import msgspec

from gateway import policy
from gateway.caller import Caller
from gateway.canonical import Request, Vector
from gateway.config import PolicyConfig
from gateway.embedding import calling
from gateway.embedding.batches import Batches, Given, parts
from gateway.embedding.calling import Calls, Errand
from gateway.errors import NotKept
from gateway.flights.shared import SharedFlights
from gateway.naming import named, under
from gateway.pipeline import Provenance, Status
from gateway.policy import Terms
from gateway.router import Router
from gateway.steering import Steering
from storage.entry import Entry, Usage
from storage.tiers import Found, Looked

_LOOKUPS = 16
"""Inputs of one request looked up at the same time."""


class Tiers(calling.Kept, Protocol):
    """Where vectors are kept, and looked for."""

    async def get(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """The nearest entry of `key` that counts, promoted to the tiers above."""
        ...

    def in_memory(self, key: bytes, max_age_s: float | None = None) -> Entry | None:
        """The entry of `key` that counts, if the nearest tier has it."""
        ...


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """Embeddings in the order they were asked for, and where they come from."""

    values: tuple[bytes, ...]
    keys: tuple[bytes, ...]
    usage: Usage
    hits: int
    """How many of them were kept ones."""
    status: Status
    """`hit` when all were kept; else `miss` when any was asked for now, and `coalesced` when none had to be."""
    tier: str
    provenance: Provenance
    """`regenerated` when one that is kept was not wanted, `generated` when any was asked for; then as the status."""
    kept: bool
    """Whether all are kept, or will be if all goes well."""
    origin_id: str | None
    """The `id` of the reply that the oldest was first given in, if that is another one."""
    age_s: float | None
    """Of the oldest, if all were kept; 0 if none was; None if some were."""


class Embedder:
    """Gives vectors from `tiers`, and asks the backends of `router` for those that are not there."""

    def __init__(
        self, tiers: Tiers, router: Router, flights: SharedFlights, policies: Sequence[PolicyConfig] = ()
    ) -> None:
        self._tiers = tiers
        self._router = router
        self._policies = policies
        self._calls = Calls(tiers, flights)
        self._batches = Batches()

    async def embed(self, requests: Sequence[Request], caller: Caller, steering: Steering, reply_id: str) -> Vectors:
        """The vector of each request; those not kept, and asked for by nobody else, are asked for in one call.

        Raises `UnknownModel`, `InvalidRequest`, `NotKept` and `BackendError`.
        """
        backend = self._router.backend(requests[0].model, caller.models)
        identity = await backend.identity()
        requests = [under(backend.name, request) for request in requests]
        queries = [await named(request, caller.scope, identity) for request in requests]
        terms = policy.terms(policy.of(self._policies, caller.scope, backend.name), requests[0], steering)
        questions = {query.key: (request, query) for request, query in zip(requests, queries, strict=True)}
        kept, stale = await self._kept(questions, terms)
        errand = Errand(
            backend=backend,
            questions=questions,
            stale=frozenset(stale),
            terms=terms,
            tags=steering.tags,
            reply_id=reply_id,
            made_by=caller.key_id,
            refresh=steering.no_cache,
        )
        missing = [key for key in questions if key not in kept]
        kept |= self._come(missing, terms)  # no wait may come between this and asking
        missing = [key for key in questions if key not in kept]
        if steering.only_if_cached and missing:
            raise NotKept
        given = await self._given(errand, missing) if missing else {}
        return _vectors([query.key for query in queries], kept, given, errand)

    async def _kept(self, keys: Iterable[bytes], terms: Terms) -> tuple[dict[bytes, Found], set[bytes]]:
        """The entries of those of `keys` that have one, looked up a few at a time; and the keys of stale ones."""
        found: dict[bytes, Found] = {}
        stale: set[bytes] = set()
        ordered = list(keys) if terms.look else []
        for start in range(0, len(ordered), _LOOKUPS):
            some = ordered[start : start + _LOOKUPS]
            looked = await asyncio.gather(*(self._tiers.get(key, terms.max_age_s) for key in some))
            found |= {key: one.found for key, one in zip(some, looked, strict=True) if one.found is not None}
            stale |= {key for key, one in zip(some, looked, strict=True) if one.stale}
        return found, stale

    def _come(self, keys: Iterable[bytes], terms: Terms) -> dict[bytes, Found]:
        """The entries of those of `keys` that were answered here since they were looked up."""
        found = ((key, self._tiers.in_memory(key, terms.max_age_s)) for key in keys if terms.look)
        return {key: Found(entry, "memory") for key, entry in found if entry is not None}

    async def _given(self, errand: Errand, missing: Sequence[bytes]) -> dict[bytes, Given]:
        """The vectors of `missing`. Who does not look, or does not keep, asks for itself."""
        if errand.terms.look and errand.terms.keep:
            epoch = self._tiers.epoch
            return await self._batches.given(missing, epoch, partial(self._calls.shared, errand, epoch))
        told = await self._calls.alone(errand, missing)
        return parts(told, missing, own=True)


def _vectors(
    keys: Sequence[bytes], kept: Mapping[bytes, Found], given: Mapping[bytes, Given], errand: Errand
) -> Vectors:
    values = {key: one.vector for key, one in given.items()}
    values |= {key: Vector(one.entry.embedding, one.entry.usage.prompt_tokens) for key, one in kept.items()}
    asked = [key for key, one in given.items() if not one.coalesced]
    oldest = min((one.entry for one in kept.values()), key=lambda entry: entry.created_at, default=None)
    age_s = max(0.0, time.time() - oldest.created_at) if oldest else 0.0
    first = oldest.origin_id if oldest else next((one.origin_id for one in given.values() if one.coalesced), None)
    return Vectors(
        values=tuple(values[key].values for key in keys),
        keys=tuple(keys),
        usage=Usage(prompt_tokens=sum(values[key].tokens for key in keys)),
        hits=sum(key in kept for key in keys),
        status=_status(asked, given, errand.terms),
        tier=_tier(asked, given, kept),
        provenance=_provenance(asked, given, errand),
        kept=all(one.kept for one in given.values()),
        origin_id=first,
        age_s=None if kept and given else age_s,
    )


def _status(asked: Collection[bytes], given: Collection[bytes], terms: Terms) -> Status:
    if not terms.look:
        return "bypass"
    if asked:
        return "miss"
    return "coalesced" if given else "hit"


def _tier(asked: Collection[bytes], given: Collection[bytes], kept: Mapping[bytes, Found]) -> str:
    if asked:
        return "backend"
    return "flight" if given else ",".join(sorted({found.tier for found in kept.values()}))


def _provenance(asked: Collection[bytes], given: Collection[bytes], errand: Errand) -> Provenance:
    if asked:
        return "regenerated" if errand.refresh or not errand.stale.isdisjoint(asked) else "generated"
    return "coalesced" if given else "exact"
