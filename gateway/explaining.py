"""What a request is to the cache: its key, who would answer, and, when that is the model, why no kept answer would."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from gateway import differences, key, policy
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.config import PolicyConfig
from gateway.differences import Nearest
from gateway.naming import named, under
from gateway.policy import Terms
from gateway.router import Router
from gateway.steering import Steering
from storage.entry import Query
from storage.near import Kept
from storage.tiers import Looked

_FIELDS_NAMED = 5


class Tiers(Protocol):
    """Where answers are kept."""

    async def find(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """The nearest entry of `key` that counts, left where it is."""
        ...


class Near(Protocol):
    """Where answers to other questions are found."""

    async def candidates(self, query: Query) -> list[Kept]:
        """Those that may have been asked nearly the same."""
        ...


class Explainer:
    """Explains requests as `Pipeline` would answer them. Asks no model and keeps nothing."""

    def __init__(self, tiers: Tiers, router: Router, near: Near, policies: Sequence[PolicyConfig] = ()) -> None:
        self._tiers = tiers
        self._router = router
        self._near = near
        self._policies = policies

    async def explain(self, request: Request, caller: Caller, steering: Steering) -> dict[str, Any]:
        """Canonical form, every part of the key, which tier would answer, and why.

        Raises `UnknownModel`, `InvalidRequest` and `BackendError`.
        """
        backend, scope = self._router.backend(request.model, caller.models), caller.scope
        request, identity = under(backend.name, request), await backend.identity()
        query = await named(request, scope, identity)
        terms = policy.terms(policy.of(self._policies, scope, request.model), request, steering)
        looked = await self._tiers.find(query.key, terms.max_age_s) if terms.look else Looked()
        parts = key.parts(request, scope, identity, query.prompt_hash, query.params.encode())
        return {
            "key": query.key.hex(),
            "tier": looked.found.tier if looked.found else "backend",
            "backend": backend.name,
            "prompt": query.prompt,
            "params": query.params,
            "parts": {name: value.hex() if name == "prompt_hash" else value.decode() for name, value in parts},
            **await self._why(query, terms, looked, steering),
        }

    async def _why(self, query: Query, terms: Terms, looked: Looked, steering: Steering) -> dict[str, Any]:
        """A sentence, and the nearest kept request where that is what it is about."""
        if looked.found:
            age_s = max(0, int(time.time() - looked.found.entry.created_at))
            return {"why": f"An equal request was answered {age_s} s ago, and the answer is kept.", "nearest": None}
        if steering.no_cache:
            return {"why": "'no-cache' has the model asked, whatever is kept.", "nearest": None}
        if not terms.look:
            return {"why": "The policy wants sampled answers neither kept nor given again.", "nearest": None}
        if looked.stale:
            why = (
                "An answer to this very request is there, but it was deleted or is too old, so that it does not count."
            )
            return {"why": why, "nearest": None}
        try:
            candidates = await self._near.candidates(query)
        except Exception:  # noqa: BLE001 -- whatever ails the database, the key can be explained without it
            return {"why": "No equal request is kept; the record cannot be read for those like it.", "nearest": None}
        # Off the loop: hundreds of prompts are read and compared.
        found = await asyncio.to_thread(differences.nearest, query, candidates)
        return {"why": _sentence(found.nearest), "nearest": msgspec.to_builtins(found.nearest)}


def _sentence(nearest: Nearest | None) -> str:
    if nearest is None:
        return "No request like it has a kept answer here."
    fields = [difference.field for difference in nearest.differs]
    named_ones = ", ".join(fields[:_FIELDS_NAMED])
    left = len(fields) - _FIELDS_NAMED + nearest.more
    more = f" and {left} more" if left > 0 else ""
    return f"No equal request is kept; the nearest differs in {named_ones}{more}."
