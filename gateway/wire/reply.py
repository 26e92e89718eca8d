"""The pieces OpenAI's text replies share: events, usage, folded messages and log-probabilities."""

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from storage.entry import Chunk, Usage

DONE = b"data: [DONE]\n\n"
_CACHED = frozenset({"exact", "coalesced", "semantic"})


class Head(msgspec.Struct, frozen=True):
    """What every reply has of its own, even when its answer is an old one."""

    id: str
    created: int
    model: str
    provenance: str = ""
    """What its answer is: `exact`, `semantic`, `coalesced`, `generated` or `regenerated`."""

    def of(self, provenance: str) -> "Head":
        """The head of a reply whose answer is found."""
        return msgspec.structs.replace(self, provenance=provenance)


def head(prefix: str, model: str) -> Head:
    """A fresh head for one reply."""
    return Head(prefix + uuid.uuid4().hex, int(time.time()), model)


encode = msgspec.json.Encoder().encode


def beginning(frame: dict[str, Any]) -> bytes:
    """What events of this frame begin with, up to their choice."""
    return sse({**frame, "choices": []}).removesuffix(b"]}\n\n")


def sse(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def marker(provenance: str, cost_micro_usd: int = 0) -> dict[str, Any]:
    """What usage says of where an answer came from, and what this reply cost: nothing, when the model was not asked for
    it. Without prices it says nothing of the cost of one that it was asked for.
    """
    if not provenance:
        return {}
    cached = provenance in _CACHED
    cost = {"cost_usd": 0} if cached else {"cost_usd": cost_micro_usd / 1e6} if cost_micro_usd else {}
    return {"askonce": {"provenance": provenance, "cached": cached, **cost}}


def usage(counts: Usage, provenance: str) -> dict[str, Any]:
    """Usage in OpenAI's shape: what the model counted when it was asked, and whether that was now."""
    shown: dict[str, Any] = {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }
    if counts.cached_tokens is not None:
        shown["prompt_tokens_details"] = {"cached_tokens": counts.cached_tokens}
    return shown | marker(provenance, counts.cost_micro_usd)


def by_choice(chunks: Iterable[Chunk]) -> list[tuple[int, list[Chunk]]]:
    """Each choice and its steps."""
    chunks = list(chunks)
    if chunks and not any([chunk.index for chunk in chunks]):  # noqa: C419 -- several times as fast as a generator
        return [(0, chunks)]
    steps: defaultdict[int, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        steps[chunk.index].append(chunk)
    return sorted(steps.items())


def message(steps: Sequence[Chunk]) -> dict[str, Any]:
    """The steps of one choice folded into an assistant message."""
    content = "".join([step.content for step in steps])
    special = [step for step in steps if step.tool_calls or step.refusal or step.reasoning]
    calls = _tool_calls(special)
    refusal = "".join([step.refusal for step in special])
    folded: dict[str, Any] = {
        "role": "assistant",
        "content": None if not content and (calls or refusal) else content,
        "refusal": refusal or None,
    }
    if reasoning := "".join([step.reasoning for step in special]):
        folded["reasoning_content"] = reasoning
    if calls:
        folded["tool_calls"] = calls
    return folded


def finish_reason(steps: Sequence[Chunk]) -> str | None:
    """Why one choice ended."""
    said = [step.finish_reason for step in steps if step.finish_reason]
    return said[0] if said else None


def logprobs(steps: Iterable[Chunk]) -> dict[str, Any] | None:
    """The steps' log-probability lists, joined; None when no step has any."""
    joined: dict[str, Any] = {}
    for said in [step.logprobs for step in steps if step.logprobs]:
        for name, values in said.items():
            old = joined.get(name)
            if isinstance(values, list):
                joined[name] = [*(old if isinstance(old, list) else ()), *values]
            else:  # a field nobody knows: the last one counts
                joined[name] = old if values is None else values
    return joined or None


def _tool_calls(steps: Iterable[Chunk]) -> list[dict[str, Any]]:
    """Join the deltas of each tool call: names come once, arguments in pieces."""
    calls: dict[int, dict[str, Any]] = {}
    for delta in (delta for step in steps for delta in step.tool_calls):
        place = int(delta.get("index", 0))
        call = calls.setdefault(place, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
        call["id"] = delta.get("id") or call["id"]
        function: dict[str, Any] = delta.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
    return [calls[place] for place in sorted(calls)]
