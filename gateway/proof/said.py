"""The steps of an answer -> what each choice said, step by step joined, in a form that can be compared. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.wire import reply
from storage.entry import Chunk


class Likely(msgspec.Struct, frozen=True):
    """A token, how likely it was, and how likely others were in its place."""

    token: str
    logprob: float | None
    others: dict[str, float]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One choice."""

    reasoning: str = ""
    content: str = ""
    refusal: str = ""
    tool_calls: str = ""
    """JSON, without the ids: servers draw them by lot."""
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | None = None
    """None unless every step that spoke gave its own."""
    pieces: tuple[str | None, ...] = ()
    """The text of each token of `token_ids`, where it is known."""
    likely: tuple[Likely, ...] = ()


def choices(chunks: Iterable[Chunk]) -> dict[int, Said]:
    """Each choice by its number."""
    steps = [chunk for chunk in chunks if chunk.usage is None]
    return {index: _said([s for s in steps if s.index == index]) for index in sorted({s.index for s in steps})}


def _said(steps: Sequence[Chunk]) -> Said:
    message = reply.message(steps)
    complete = all(step.token_ids is not None for step in steps)
    likely = _likely(reply.logprobs(steps) or {})
    ids = tuple(token for step in steps for token in step.token_ids or ()) if complete else None
    named = [one.token for one in likely]
    return Said(
        reasoning=message.get("reasoning_content", ""),
        content="".join(step.content for step in steps),
        refusal=message["refusal"] or "",
        tool_calls=_nameless(message.get("tool_calls") or []),
        finish_reason=next((step.finish_reason for step in steps if step.finish_reason), None),
        token_ids=ids,
        pieces=tuple(named) if ids is not None and len(named) == len(ids) else tuple(_pieces(steps)),
        likely=likely,
    )


def _nameless(calls: list[dict[str, Any]]) -> str:
    if not calls:
        return ""
    return msgspec.json.encode([{k: v for k, v in call.items() if k != "id"} for call in calls]).decode()


def _pieces(steps: Sequence[Chunk]) -> Iterable[str | None]:
    """A step of one token says that token's text, unless it is held back: half a character, or half a stop string."""
    for step in steps:
        ids = step.token_ids or ()
        yield from (((step.reasoning + step.content + step.refusal) or None,) if len(ids) == 1 else (None,) * len(ids))


def _likely(joined: dict[str, Any]) -> tuple[Likely, ...]:
    """Log-probabilities of a chat or of a completion, in one form."""
    if isinstance(content := joined.get("content"), list):
        return tuple(
            Likely(
                entry["token"], entry["logprob"], {t["token"]: t["logprob"] for t in entry.get("top_logprobs") or ()}
            )
            for entry in content
        )
    tokens, numbers = joined.get("tokens") or [], joined.get("token_logprobs") or []
    tops = joined.get("top_logprobs") or [None] * len(tokens)
    if not len(tokens) == len(numbers) == len(tops):
        return ()
    return tuple(Likely(token, number, top or {}) for token, number, top in zip(tokens, numbers, tops, strict=True))
