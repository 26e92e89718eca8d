"""An encoded answer -> the columns of its row: what people query by is read from its steps, which stay as they are."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from storage.entry import HEAD_BYTES, Encoded, Query, Usage

_NO_STEPS: Final = msgspec.Raw(b"\x90")
_SEED: Final = '"seed"'


class _Stored(msgspec.Struct, frozen=True):
    """An `Entry` whose steps are left as bytes."""

    query: Query
    origin_id: str
    backend: str
    created_at: float
    duration_ms: float
    chunks: msgspec.Raw = _NO_STEPS
    embedding: bytes = b""
    usage: Usage = Usage()
    epoch: int = 0
    tags: tuple[str, ...] = ()
    made_by: str = ""
    fallback: str = ""


class _Counts(msgspec.Struct, frozen=True, gc=False):
    """That there are some."""


class _Step(msgspec.Struct, frozen=True, gc=False):
    """What columns are made of: the rest of a `Chunk`, which may be most of it, is not read."""

    index: int = 0
    content: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | None = None
    usage: _Counts | None = None
    after_ms: float = 0.0


class _Known(msgspec.Struct, frozen=True):
    known: dict[str, Any] = {}


_ENTRY = msgspec.msgpack.Decoder(_Stored)
_STEPS = msgspec.msgpack.Decoder(tuple[_Step, ...])
_PARAMS = msgspec.json.Decoder(_Known)
_JSON = msgspec.json.Encoder()


def row(item: Encoded) -> tuple[Any, ...]:
    """The parameters of `completion_put` for one answer. Raises `ValueError` for what no column can hold."""
    kept = _ENTRY.decode(memoryview(item.data)[HEAD_BYTES:])
    asked, usage = kept.query, kept.usage
    steps = _STEPS.decode(kept.chunks)
    own = [step for step in steps if not step.index]
    spoken = [step for step in own if step.usage is None]
    text = "".join([step.content for step in own])
    return (
        asked.key,
        asked.scope,
        asked.kind,
        asked.model,
        asked.model_version,
        asked.engine,
        asked.engine_version,
        kept.backend,
        asked.prompt_hash,
        asked.prompt,
        asked.params,
        storable(asked.text),
        kept.origin_id,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        kept.duration_ms,
        bytes(kept.chunks),
        kept.embedding,
        kept.created_at,
        storable(text),
        _messages(steps, text),
        next((step.finish_reason for step in own if step.finish_reason), None),
        _token_ids(spoken),
        numbers([len(step.content) for step in spoken]),
        _seed(asked.params),
        steps[0].after_ms if steps else None,
        kept.epoch,
        words(kept.tags),
        kept.made_by,
        item.replaces,
        kept.fallback,
        usage.cost_micro_usd,
    )


def storable(text: str) -> str:
    """Text without NUL, which Postgres cannot hold."""
    return text.replace("\x00", "\u2400")


def numbers(values: list[int]) -> str:
    """Numbers as an array in Postgres' own text."""
    return "{" + _JSON.encode(values)[1:-1].decode() + "}"


def words(values: Iterable[str]) -> str:
    """Texts as an array in Postgres' own text."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


def _token_ids(spoken: Sequence[_Step]) -> str | None:
    """All token ids, or None unless every step that spoke gave its own."""
    if not spoken or any(step.token_ids is None for step in spoken):
        return None
    return numbers([token for step in spoken for token in step.token_ids or ()])


def _messages(steps: Sequence[_Step], first: str) -> str:
    """Each choice's message as JSON; NUL is escaped there, so that it fits. `first` is the text of choice 0."""
    indexes = sorted({step.index for step in steps})
    if indexes == [0]:
        return _JSON.encode([_message(0, first, steps)]).decode()
    own = {index: [step for step in steps if step.index == index] for index in indexes}
    texts = {index: "".join([step.content for step in own[index]]) for index in indexes}
    return _JSON.encode([_message(index, texts[index], own[index]) for index in indexes]).decode()


def _message(index: int, content: str, own: Sequence[_Step]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "index": index,
        "content": content,
        "reasoning": "".join([step.reasoning for step in own]),
        "refusal": "".join([step.refusal for step in own]),
    }
    calls = [call for step in own for call in step.tool_calls]
    return {**said, "tool_calls": calls} if calls else said


def _seed(params: str) -> int | None:
    if _SEED not in params:  # most requests have none
        return None
    seed = _PARAMS.decode(params).known.get("seed")
    return int(seed) if seed is not None else None
