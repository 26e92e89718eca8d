"""What a request is to the cache: its key, who would answer, and, when that is the model, why no kept answer would."""

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec

from gateway import differences, key, policy
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.config import PolicyConfig
from gateway.differences import Nearest, Search
from gateway.naming import named, under
from gateway.policy import Terms
from gateway.routing.route import Route
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.entry import Query
from storage.near import MAX_BYTES, Candidates, Kept
from storage.tiers import Looked

_FIELDS_NAMED: Final = 5
_AT_ONCE: Final = 2
"""How many requests are compared with kept ones at the same time: it takes a processor."""
_WAIT_S: Final = 10.0
"""For those before it, and for the database."""


class Tiers(Protocol):
    """Where answers are kept."""

    async def find(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """The nearest entry of `key` that counts, left where it is."""
        ...


class Near(Protocol):
    """Where answers to other questions are found."""

    async def candidates(self, query: Query, models: Collection[str] | None, max_age_s: float | None) -> Candidates:
        """Those that may have been asked nearly the same."""
        ...


class _Asked(msgspec.Struct, frozen=True):
    """A request as one group of backends would be asked."""

    request: Request
    query: Query
    route: Route
    terms: Terms
    looked: Looked


class Explainer:
    """Explains requests as `Pipeline` would answer them. Asks no model and keeps nothing."""

    def __init__(self, tiers: Tiers, router: Router, near: Near, policies: Sequence[PolicyConfig] = ()) -> None:
        self._tiers = tiers
        self._router = router
        self._near = near
        self._policies = policies
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def explain(self, request: Request, caller: Caller, steering: Steering) -> dict[str, Any]:
        """Canonical form, every part of the key, which tier would answer, and why.

        Raises `UnknownModel`, `InvalidRequest` and `BackendError`.
        """
        pool = self._router.model(request.model, caller.models)
        async with aclosing(pool.ranks(caller.models)) as ranks:
            async for rank in ranks:
                asked = {route: await self._looked(route, request, caller, steering) for route in rank.looked()}
                found = next((one for one in asked.values() if one.looked.found), None)
                prompt = next(iter(asked.values())).query.prompt
                chosen = found or next((asked[one] for one in rank.asked(prompt, caller.scope) if one in asked), None)
                if chosen is not None:
                    return await self._said(chosen, caller, steering)
        raise pool.refusal()

    async def _looked(self, route: Route, request: Request, caller: Caller, steering: Steering) -> _Asked:
        asked = under(route.model, request)
        query = await named(asked, caller.scope, route.identity)
        terms = policy.terms(policy.of(self._policies, caller.scope, route.model), asked, steering)
        looked = await self._tiers.find(query.key, terms.max_age_s) if terms.look else Looked()
        return _Asked(asked, query, route, terms, looked)

    async def _said(self, asked: _Asked, caller: Caller, steering: Steering) -> dict[str, Any]:
        query, looked, terms, route = asked.query, asked.looked, asked.terms, asked.route
        parts = key.parts(asked.request, caller.scope, route.identity, query.prompt_hash, query.params.encode())
        why = _known(terms, looked, steering) or _too_large(query)
        said = {"why": why, "nearest": None, "looked_at": 0} if why else await self._unlike(query, terms, caller)
        return {
            "key": query.key.hex(),
            "tier": looked.found.tier if looked.found else "backend",
            "backend": looked.found.entry.backend if looked.found else ", ".join(route.names),
            "fallback": route.fallback or None,
            "prompt": query.prompt,
            "params": query.params,
            "parts": {name: value.hex() if name == "prompt_hash" else value.decode() for name, value in parts},
            **said,
        }

    async def _unlike(self, query: Query, terms: Terms, caller: Caller) -> dict[str, Any]:
        """The nearest kept request of those looked at, and a sentence that names what differs."""
        try:
            async with asyncio.timeout(_WAIT_S), self._turns:
                candidates = await self._near.candidates(query, caller.models, terms.max_age_s)
                fresh = [one for one in candidates.kept if self._counts(one.query, one.created_at)]
                found = await _searched(query, fresh)
        except Exception:  # noqa: BLE001 -- whatever ails the database, the key can be explained without it
            why = "No equal request is kept; the record cannot be read for those like it."
            return {"why": why, "nearest": None, "looked_at": 0}
        some = not candidates.all_there_are or found.looked_at < len(fresh)
        why = _sentence(found.nearest) + (f" Only {found.looked_at} kept requests were looked at." if some else "")
        return {"why": why, "nearest": msgspec.to_builtins(found.nearest), "looked_at": found.looked_at}

    def _counts(self, query: Query, created_at: float) -> bool:
        """Whether an answer to `query` is young enough for its own model's policy."""
        ttl_s = policy.of(self._policies, query.scope, query.model).ttl_s
        return ttl_s is None or time.time() - created_at <= ttl_s


async def _searched(query: Query, kept: Sequence[Kept]) -> Search:
    """The nearest of `kept`, found off the loop. Who is cancelled waits for the thread, so that none is left behind."""
    work = asyncio.ensure_future(asyncio.to_thread(differences.nearest, query, kept))
    try:
        return await asyncio.shield(work)
    finally:
        await asyncio.wait({work})


def _known(terms: Terms, looked: Looked, steering: Steering) -> str:
    """Why, where no other request has to be looked at for it; else nothing."""
    if looked.found:
        age_s = max(0, int(time.time() - looked.found.entry.created_at))
        return f"An equal request was answered {age_s} s ago, and the answer is kept."
    if steering.no_cache:
        return "'no-cache' has the model asked, whatever is kept."
    if not terms.look:
        return "The policy wants sampled answers neither kept nor given again."
    if looked.stale:
        return "An answer to this very request is there, but it was deleted or is too old, so that it does not count."
    return ""


def _too_large(query: Query) -> str:
    size = len(query.prompt.encode()) + len(query.params.encode())
    why = f"No equal request is kept; requests of more than {MAX_BYTES // 1024} KiB are not compared with others."
    return why if size > MAX_BYTES else ""


def _sentence(nearest: Nearest | None) -> str:
    if nearest is None:
        return "No request like it has a kept answer here."
    fields = [difference.field for difference in nearest.differs]
    named_ones = ", ".join(fields[:_FIELDS_NAMED])
    left = len(fields[_FIELDS_NAMED:]) + nearest.more
    more = f" and {left} more" if left else ""
    return f"No equal request is kept; the nearest differs in {named_ones}{more}."
