"""Requests -> Vectors: name each, look, have asked what is missing."""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
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
from gateway.errors import BackendError, NotKept, RequestError, passed
from gateway.flights.shared import SharedFlights
from gateway.naming import named, under
from gateway.pipeline import Hits, Ledger, Provenance, Status
from gateway.policy import Terms
from gateway.routing.calling import Asking
from gateway.routing.rank import Rank
from gateway.routing.route import Route
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.entry import Entry, Query, Usage
from storage.ledger import Cache
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
    backend: str
    """The replicas they come from, now or then."""
    fallback: str
    """Who should have answered, if it was another one."""
    model_version: str = ""
    """Which weights the vectors are of."""


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks of one group of backends."""

    route: Route
    keys: Sequence[bytes]
    questions: Mapping[bytes, tuple[Request, Query]]
    terms: Terms
    kept: Mapping[bytes, Found]
    stale: Collection[bytes]
    missing: Sequence[bytes]


class Embedder:
    """Gives vectors from `tiers`, and asks the backends of `router` for those that are not there."""

    def __init__(
        self,
        tiers: Tiers,
        router: Router,
        flights: SharedFlights,
        policies: Sequence[PolicyConfig] = (),
        ledger: Ledger | None = None,
        hits: Hits | None = None,
    ) -> None:
        self._tiers = tiers
        self._router = router
        self._policies = policies
        self._ledger = ledger
        self._hits = hits
        self._calls = Calls(tiers, flights)
        self._batches = Batches()

    async def embed(self, requests: Sequence[Request], caller: Caller, steering: Steering, reply_id: str) -> Vectors:
        """The vector of each request; those not kept, and asked for by nobody else, are asked for in one call.

        All of them come from one group of backends, for vectors of different models have nothing in common.
        Raises `UnknownModel`, `InvalidRequest`, `NotKept` and `BackendError`.
        """
        asking, fault = Asking(caller.scope, time.monotonic()), None
        pool = self._router.model(requests[0].model, caller.models)
        async with aclosing(pool.ranks(caller.models, lambda: fault is not None)) as ranks:
            async for rank in ranks:
                async for wanted in self._tried(rank, requests, caller, steering):
                    if not wanted.missing:
                        return self._noted(caller, wanted, {}, steering)
                    if not wanted.route.usable:
                        continue
                    if steering.only_if_cached:
                        raise NotKept
                    errand = _errand(wanted, caller, steering, reply_id, asking)
                    try:
                        return self._noted(caller, wanted, await self._given(errand, wanted.missing), steering)
                    except (BackendError, RequestError) as error:
                        fault = passed(error, fault)
        if steering.only_if_cached:
            raise NotKept
        raise fault or pool.refusal()

    def _noted(self, caller: Caller, wanted: _Wanted, given: Mapping[bytes, Given], steering: Steering) -> Vectors:
        """The vectors; what they cost and saved is written down, input by input."""
        usages: dict[Cache, list[Usage]] = {}
        for one in wanted.kept.values():
            usages.setdefault("hit", []).append(one.entry.usage)
            if self._hits is not None:
                self._hits.note(one.entry.query.key)
        for one in given.values():
            cache: Cache = "coalesced" if one.coalesced else "generated"
            usages.setdefault(cache, []).append(Usage(one.vector.tokens, 0, None, one.vector.cost_micro_usd))
        for cache, said in usages.items():
            if self._ledger is not None:
                model = wanted.route.model
                self._ledger.note(caller.tenant, model, "embedding", cache, sum(said, Usage()), len(said))
        return _vectors(wanted, given, steering)

    async def _tried(
        self, rank: Rank, requests: Sequence[Request], caller: Caller, steering: Steering
    ) -> AsyncGenerator[_Wanted]:
        """What is wanted of each group, those first that should be asked; before them, those that have all of it."""
        if len(rank.routes) > 1:
            for route in rank.looked():
                if not (wanted := await self._wanted(route, requests, caller, steering)).missing:
                    yield wanted
        for route in rank.asked("", caller.scope) or rank.looked():
            yield await self._wanted(route, requests, caller, steering)

    async def _wanted(self, route: Route, requests: Sequence[Request], caller: Caller, steering: Steering) -> _Wanted:
        """What `requests` ask of a group, and what of that is kept."""
        requests = [under(route.model, request) for request in requests]
        queries = [await named(request, caller.scope, route.identity) for request in requests]
        terms = policy.terms(policy.of(self._policies, caller.scope, route.model), requests[0], steering)
        questions = {query.key: (request, query) for request, query in zip(requests, queries, strict=True)}
        kept, stale = await self._kept(questions, terms)
        missing = [key for key in questions if key not in kept]
        kept |= self._come(missing, terms)  # no wait may come between this and asking
        return _Wanted(
            route=route,
            keys=[query.key for query in queries],
            questions=questions,
            terms=terms,
            kept=kept,
            stale=stale,
            missing=[key for key in questions if key not in kept],
        )

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


def _errand(wanted: _Wanted, caller: Caller, steering: Steering, reply_id: str, asking: Asking) -> Errand:
    return Errand(
        route=wanted.route,
        asking=asking,
        questions=wanted.questions,
        stale=frozenset(wanted.stale),
        terms=wanted.terms,
        tags=steering.tags,
        reply_id=reply_id,
        made_by=caller.key_id,
        refresh=steering.no_cache,
    )


def _vectors(wanted: _Wanted, given: Mapping[bytes, Given], steering: Steering) -> Vectors:
    kept = wanted.kept
    values = {key: one.vector for key, one in given.items()}
    values |= {key: Vector(one.entry.embedding, one.entry.usage.prompt_tokens) for key, one in kept.items()}
    asked = [key for key, one in given.items() if not one.coalesced]
    oldest = min((one.entry for one in kept.values()), key=lambda entry: entry.created_at, default=None)
    age_s = max(0.0, time.time() - oldest.created_at) if oldest else 0.0
    first = oldest.origin_id if oldest else next((one.origin_id for one in given.values() if one.coalesced), None)
    backends = {one.entry.backend for one in kept.values()} | {one.backend for one in given.values()}
    return Vectors(
        values=tuple(values[key].values for key in wanted.keys),
        keys=tuple(wanted.keys),
        usage=Usage(
            prompt_tokens=sum(values[key].tokens for key in wanted.keys),
            cost_micro_usd=sum(given[key].vector.cost_micro_usd for key in asked),
        ),
        hits=sum(key in kept for key in wanted.keys),
        status=_status(asked, given, wanted.terms),
        tier=_tier(asked, given, kept),
        provenance=_provenance(asked, given, wanted.stale, refresh=steering.no_cache),
        kept=all(one.kept for one in given.values()),
        origin_id=first,
        age_s=None if kept and given else age_s,
        backend=",".join(sorted(backends - {""})),
        fallback=wanted.route.fallback,
        model_version=wanted.route.identity.model_version,
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


def _provenance(
    asked: Collection[bytes], given: Collection[bytes], stale: Collection[bytes], *, refresh: bool
) -> Provenance:
    if asked:
        return "regenerated" if refresh or not set(stale).isdisjoint(asked) else "generated"
    return "coalesced" if given else "exact"
