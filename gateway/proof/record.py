"""An entry -> everything that is known of it, as JSON. Pure."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.caller import Caller
from gateway.wire import reply
from storage.entry import Chunk, Entry
from storage.tiers import Found
from storage.vector import unpacked
from storage.verifications import Verification


def record(found: Found, done: Sequence[Verification] | None, caller: Caller) -> dict[str, Any]:
    """The whole record of an answer. `done`: what came of verifying it; None when that is not known now."""
    entry = found.entry
    return {
        "object": "cache.entry",
        "tier": found.tier,
        **_origin(entry, caller),
        **_question(entry),
        **(_vector(entry) if entry.query.kind == "embedding" else _answer(entry)),
        "usage": reply.usage(entry.usage, ""),
        "verifications": None if done is None else [verified(one, caller) for one in done],
    }


def verified(done: Verification, caller: Caller) -> dict[str, Any]:
    """One verification."""
    shown: dict[str, Any] = msgspec.to_builtins(done)
    return shown | {"at": iso(done.at), "made_by": maker(done.made_by, caller)}


def maker(key_id: str, caller: Caller) -> str | None:
    """The key that asked. In a shared namespace it may be another tenant's, so only the own one is named."""
    foreign = caller.namespace and key_id != caller.key_id and "admin" not in caller.scopes
    return None if foreign else key_id


def iso(seconds: float) -> str:
    """A moment in ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _origin(entry: Entry, caller: Caller) -> dict[str, Any]:
    asked = entry.query
    return {
        "key": asked.key.hex(),
        "scope": asked.scope,
        "kind": asked.kind,
        "model": asked.model,
        "model_version": asked.model_version,
        "engine": asked.engine,
        "engine_version": asked.engine_version,
        "backend": entry.backend,
        "fallback": entry.fallback or None,
        "cost_usd": entry.usage.cost_micro_usd / 1e6,
        "origin_id": entry.origin_id,
        "created_at": iso(entry.created_at),
        "age_s": round(max(0.0, time.time() - entry.created_at), 3),
        "made_by": maker(entry.made_by, caller),
        "tags": list(entry.tags),
        "epoch": entry.epoch,
        "duration_ms": entry.duration_ms,
        "first_step_ms": entry.first_ms(),
    }


def _question(entry: Entry) -> dict[str, Any]:
    asked = entry.query
    params = _read(asked.params)
    return {
        "prompt": _read(asked.prompt),
        "prompt_hash": asked.prompt_hash.hex(),
        "prompt_token_ids": next((step.prompt_token_ids for step in entry.chunks if step.prompt_token_ids), None),
        "params": params,
        "seed": _seed(params),
    }


def _seed(params: Any) -> int | None:
    """A seed is kept as a string, for canonical numbers are doubles."""
    match params:
        case {"known": {"seed": str(digits)}} if digits.lstrip("-").isdecimal():
            return int(digits)
        case _:
            return None


def _read(text: str) -> Any:
    """The value, or the text itself where somebody has made it no JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _answer(entry: Entry) -> dict[str, Any]:
    steps = [step for step in entry.chunks if step.usage is None]
    return {
        "choices": [_choice(entry, index, steps) for index in sorted({step.index for step in steps})],
        "steps": [_step(step) for step in steps],
    }


def _choice(entry: Entry, index: int, steps: Sequence[Chunk]) -> dict[str, Any]:
    mine = [step for step in steps if step.index == index]
    return {
        "index": index,
        "message": reply.message(mine),
        "logprobs": reply.logprobs(mine),
        "finish_reason": entry.finish_reason(index),
        "token_ids": entry.token_ids(index),
    }


def _step(step: Chunk) -> dict[str, Any]:
    """Where the stream was cut and when: what came in this step, and nothing of what did not."""
    said = {
        "content": step.content,
        "reasoning": step.reasoning,
        "refusal": step.refusal,
        "tool_calls": step.tool_calls,
        "finish_reason": step.finish_reason,
    }
    tokens = {} if step.token_ids is None else {"token_ids": step.token_ids}
    shown = {name: value for name, value in said.items() if value}
    return {"choice": step.index, "after_ms": round(step.after_ms, 3), **shown, **tokens}


def _vector(entry: Entry) -> dict[str, Any]:
    values = unpacked(entry.embedding)
    return {"dimensions": len(values), "embedding": values}
