"""A key -> the answer that is kept under it, shown whole or asked again and compared."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from gateway import asking, policy
from gateway.caller import Caller
from gateway.canonical import Identity, Request
from gateway.config import PolicyConfig
from gateway.errors import BackendError, NoAnswer
from gateway.proof import comparison, rebuilding, remarks, vectors
from gateway.proof.comparison import Choice, Comparison, Divergence
from gateway.proof.record import iso, record
from gateway.proof.vectors import Distance
from gateway.proof.witness import Witness
from gateway.routing.router import Router
from gateway.wire import reply
from storage.entry import Chunk, Entry, Usage, usage_of
from storage.tiers import Found, Looked
from storage.verifications import Outcome, Verification


class Tiers(Protocol):
    """Where answers are kept."""

    async def find(self, key: bytes, max_age_s: float | None = None, *, scope: str | None = None) -> Looked:
        """The nearest entry of `key` that counts, left where it is; of `scope` only, where one is named."""
        ...


class Verifications(Protocol):
    """Where outcomes are kept. Nothing of it raises."""

    async def put(self, entry: Entry, done: Verification) -> bool:
        """Keep what came of verifying `entry`; whether that worked."""
        ...

    async def of(self, entry: Entry) -> list[Verification] | None:
        """What is kept of `entry`; None when that cannot be known now."""
        ...


class Regenerated(msgspec.Struct, frozen=True, kw_only=True):
    """The second answer beside the first."""

    outcome: Outcome
    compared: Literal["tokens", "text", "vector"]
    divergence: Divergence | Distance | None
    choices: tuple[Choice, ...] = ()
    usage: Usage
    prompt_changed: bool = False
    tries: int = 1
    repeats: bool | None = None
    """Whether the model said the same both times; None when it was asked once."""


class Proof:
    """Shows and verifies what is kept in `tiers`, with the backends of `router`."""

    def __init__(
        self, tiers: Tiers, router: Router, kept: Verifications, policies: Sequence[PolicyConfig] = ()
    ) -> None:
        self._tiers = tiers
        self._router = router
        self._kept = kept
        self._policies = policies

    async def record(self, key: bytes, caller: Caller) -> bytes:
        """Everything that is known of the answer kept under `key`, as JSON. Raises `NoAnswer`."""
        found = await self._found(key, caller)
        done = await self._kept.of(found.entry)
        return await asyncio.to_thread(lambda: msgspec.json.encode(record(found, done, caller)))

    async def verify(self, key: bytes, caller: Caller) -> dict[str, Any]:
        """Ask again what was asked for the answer kept under `key`, and compare.

        Raises `NoAnswer`, `UnknownModel`, and `BackendError`. Cancelling it cancels the backend's call.
        """
        entry = (await self._found(key, caller)).entry
        query = entry.query
        pool = self._router.model(query.model, caller.models)
        at, started = time.time(), time.monotonic()
        witness = Witness(await pool.first_of(rebuilding.identity(query)), query.scope)
        request = await asyncio.to_thread(rebuilding.request, query)
        done = await (_vector if query.kind == "embedding" else _text)(entry, witness, request)
        identity = await witness.identity()
        duration_ms = asking.since_ms(started)
        kept = await self._kept.put(
            entry,
            Verification(
                outcome=done.outcome,
                compared=done.compared,
                divergence=msgspec.to_builtins(done.divergence),
                identity=msgspec.to_builtins(identity),
                at=at,
                duration_ms=duration_ms,
                made_by=caller.key_id,
            ),
        )
        return await asyncio.to_thread(_shown, entry, done, identity) | {
            "at": iso(at),
            "duration_ms": round(duration_ms, 3),
            "made_by": caller.key_id,
            "kept": kept,
        }

    async def _found(self, key: bytes, caller: Caller) -> Found:
        """The entry, if it is the caller's, of a model it may ask, and not too old. Raises `NoAnswer`."""
        found = (await self._tiers.find(key, scope=caller.scope)).found
        if found is None or not caller.may_see(found.entry.query):
            raise NoAnswer
        model = found.entry.query.model
        if (ttl_s := policy.of(self._policies, caller.scope, model).ttl_s) is not None:
            found = (await self._tiers.find(key, ttl_s, scope=caller.scope)).found
        if found is None or not caller.may_see(found.entry.query):
            raise NoAnswer
        return found


async def _text(entry: Entry, witness: Witness, request: Request) -> Regenerated:
    """Ask as warm as then; when something else is said, once more the other way, and how likely each token was."""
    asked = msgspec.structs.replace(request, cold=not entry.usage.cached_tokens)
    steps = await witness.heard(asked)
    compared, again, repeats = await _compared(entry.chunks, steps), None, None
    if compared.divergence and not policy.is_sampled(request.params):
        again = await _again(witness, msgspec.structs.replace(asked, cold=not asked.cold))
    if again:
        second = await _compared(entry.chunks, again)
        repeats = (await _compared(steps, again)).divergence is None
        compared = second if repeats or not second.divergence else compared
    usage = usage_of(steps)
    return Regenerated(
        outcome=compared.outcome,
        compared=compared.compared,
        divergence=compared.divergence,
        choices=compared.choices,
        usage=usage,
        prompt_changed=_prompts_differ(entry.chunks, steps) or _lengths_differ(entry.usage, usage),
        tries=2 if again else 1,
        repeats=repeats,
    )


async def _vector(entry: Entry, witness: Witness, request: Request) -> Regenerated:
    vector = await witness.vector(request)
    distance = vectors.compare(entry.embedding, vector.values)
    outcome = "diverged" if distance else "identical"
    usage = Usage(prompt_tokens=vector.tokens)
    return Regenerated(outcome=outcome, compared="vector", divergence=distance, usage=usage)


async def _compared(then: Sequence[Chunk], now: Sequence[Chunk]) -> Comparison:
    """In a thread: an answer may have any length."""
    return await asyncio.to_thread(comparison.compare, then, now)


async def _again(witness: Witness, request: Request) -> list[Chunk] | None:
    """The same once more, with how likely each token was; None when the engine cannot."""
    try:
        return await witness.heard(rebuilding.with_likelihoods(request))
    except BackendError:
        return None


def _prompts_differ(then: Sequence[Chunk], now: Sequence[Chunk]) -> bool:
    one, two = (next((s.prompt_token_ids for s in steps if s.prompt_token_ids), None) for steps in (then, now))
    return one is not None and two is not None and one != two


def _lengths_differ(then: Usage, now: Usage) -> bool:
    return 0 != then.prompt_tokens != now.prompt_tokens != 0


def _shown(entry: Entry, done: Regenerated, identity: Identity) -> dict[str, Any]:
    then = rebuilding.identity(entry.query)
    remarked = remarks.remarks(entry, done, identity)
    return {
        "object": "cache.verification",
        "key": entry.query.key.hex(),
        "origin_id": entry.origin_id,
        "kind": entry.query.kind,
        "model": entry.query.model,
        "backend": entry.backend,
        "outcome": done.outcome,
        "compared": done.compared,
        "divergence": done.divergence,
        "choices": done.choices,
        "tries": done.tries,
        "repeats": done.repeats,
        "identity": {"same": then == identity, "then": then, "now": identity},
        **remarked,
        "usage": reply.usage(done.usage, ""),
    }
