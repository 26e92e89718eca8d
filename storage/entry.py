"""What is asked (`Query`) and what is kept (`Entry`): immutable values every tier can store."""

import struct
from collections.abc import Collection, Iterable
from typing import Any, Literal, TypeVar

import msgspec

T = TypeVar("T")
Kind = Literal["chat", "completion", "embedding"]

OVERHEAD_BYTES = 200
"""What a key and its place in a map cost beside an encoded entry, measured with `tracemalloc` on CPython 3.11."""


class Query(msgspec.Struct, frozen=True, gc=False):
    """A request's name: its key, and the parts of it people will want to query by."""

    key: bytes
    """32 bytes, sha256 over the length-prefixed parts (`gateway/key.py`)."""
    scope: str
    kind: Kind
    model: str
    model_version: str
    engine: str
    engine_version: str
    prompt_hash: bytes
    prompt: str
    """Canonical JSON (RFC 8785) of what the model reads."""
    params: str
    """Canonical JSON of how it was asked to answer."""
    text: str
    """The prompt as a person would search for it."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Token counts as the backend gave them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    """Prompt tokens the backend found in its own KV cache; None where it does not say."""
    cost_micro_usd: int = 0
    """What it cost, in millionths of a US dollar; 0 without prices."""

    def __add__(self, other: "Usage") -> "Usage":
        counted = [c for c in (self.cached_tokens, other.cached_tokens) if c is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            sum(counted) if counted else None,
            self.cost_micro_usd + other.cost_micro_usd,
        )

    def shared(self, choices: int) -> "Usage":
        """These counts with the prompt counted once, where it was counted for each of `choices`."""
        cached = self.cached_tokens // choices if self.cached_tokens is not None else None
        return Usage(self.prompt_tokens // choices, self.completion_tokens, cached, self.cost_micro_usd)


class Chunk(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One step of an answer, as it arrived: a delta of one choice, or the usage at the end."""

    index: int = 0
    """Which choice this step belongs to."""
    content: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None
    token_ids: tuple[int, ...] | None = None
    """The tokens of this step; None where the backend gives none, never a partial list."""
    prompt_token_ids: tuple[int, ...] | None = None
    usage: Usage | None = None
    after_ms: float = 0.0
    """Milliseconds from asking the backend to receiving this step."""
    backend: str = ""
    """Which replica says this, on the first step of an answer."""


def usage_of(chunks: Iterable[Chunk]) -> Usage:
    """What all steps of an answer cost together."""
    return sum((chunk.usage for chunk in chunks if chunk.usage), Usage())


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One complete answer. Never made from a partial one, never changed."""

    query: Query
    origin_id: str
    """The `id` of the reply this answer was first given in."""
    backend: str
    created_at: float
    """Seconds since the epoch, UTC."""
    duration_ms: float
    chunks: tuple[Chunk, ...] = ()
    embedding: bytes = b""
    """Little-endian float32s, for the kind `embedding`."""
    usage: Usage = Usage()
    epoch: int = 0
    """The last invalidation known when the model was asked (`storage/invalidations.py`)."""
    tags: tuple[str, ...] = ()
    """Words to find or delete it by."""
    made_by: str = ""
    """The id of the API key that asked first; empty without keys."""
    replaces: bool = False
    """It takes the place of an answer to the same question that no longer counts."""
    fallback: str = ""
    """Who should have answered, if another one did: a kind of backend, or a model."""

    def first_ms(self) -> float | None:
        """Time to the first step, in milliseconds; None for an answer without steps."""
        return self.chunks[0].after_ms if self.chunks else None

    def text(self, index: int = 0) -> str:
        """The visible text of one choice."""
        return "".join(chunk.content for chunk in self.chunks if chunk.index == index)

    def answer_bytes(self) -> int:
        """How large the answer itself is, in bytes: its text in every form, or its embedding."""
        return len(self.embedding) + said_bytes(self.chunks)

    def finish_reason(self, index: int = 0) -> str | None:
        """Why one choice ended."""
        return next((c.finish_reason for c in self.chunks if c.index == index and c.finish_reason), None)

    def token_ids(self, index: int = 0) -> list[int] | None:
        """All token ids of one choice, or None unless every step that spoke gave its own."""
        steps = [c for c in self.chunks if c.index == index and c.usage is None]
        if any(step.token_ids is None for step in steps) or not steps:
            return None
        return [token for step in steps for token in step.token_ids or ()]


def said_bytes(chunks: Iterable[Chunk]) -> int:
    """How much is said in these steps, in bytes."""
    said = [step.content + step.reasoning + step.refusal + str(step.tool_calls or "") for step in chunks]
    return len("".join(said).encode(errors="replace"))


_HEAD = struct.Struct(">qd")
HEAD_BYTES = _HEAD.size


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """An entry as bytes: made once, shared by everything that keeps it or has it waiting to be kept."""

    key: bytes
    data: bytes
    """Its head, by which two answers to one question can be compared without being read, and the entry."""
    replaces: bool = False
    """As the entry says."""
    over: frozenset[bytes] = frozenset()
    """Heads of entries that were seen not to count: each of these gives way, whatever its number."""

    @classmethod
    def of(cls, entry: Entry, over: Collection[bytes] = ()) -> "Encoded":
        """Encode `entry`."""
        return cls(entry.query.key, head(entry) + encode(entry), entry.replaces, frozenset(over))

    @property
    def size(self) -> int:
        """What it holds of memory, in bytes; the entry's own objects would be many times that."""
        return len(self.data) + OVERHEAD_BYTES

    def entry(self) -> Entry:
        """The entry again."""
        return opened(self.data)

    def replacing(self, over: Collection[bytes]) -> "Encoded":
        """The same, to take the place of what is too old or has one of these heads. The bytes stay as they are."""
        return Encoded(self.key, self.data, replaces=True, over=frozenset(over))

    def outranks(self, kept: bytes) -> bool:
        """Whether this takes the place of what is kept as `kept`: it was asked for since a later invalidation; or, if
        it is to replace what is too old, since the same one and later; or that one was seen not to count.
        """
        (epoch, created_at), (kept_epoch, kept_at) = _HEAD.unpack_from(self.data), _HEAD.unpack_from(kept)
        newer = self.replaces and epoch == kept_epoch and created_at > kept_at
        return epoch > kept_epoch or newer or kept[:HEAD_BYTES] in self.over


class Held(msgspec.Struct, frozen=True, gc=False):
    """An entry, and the bytes that a tier has of it."""

    entry: Entry
    encoded: Encoded


def head(entry: Entry) -> bytes:
    """What decides between `entry` and another answer to its question."""
    return _HEAD.pack(entry.epoch, entry.created_at)


def opened(data: bytes) -> Entry:
    """The entry in what `Encoded.of` made of it. Raises `msgspec.DecodeError` when there is none."""
    return decode(memoryview(data)[HEAD_BYTES:])


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Entry)
_STEPS = msgspec.msgpack.Decoder(tuple[Chunk, ...])


def encode(entry: Entry) -> bytes:
    """An entry as msgpack, for tiers that keep bytes."""
    return _ENCODER.encode(entry)


def decode(data: bytes | memoryview) -> Entry:
    """The entry in `data`. Raises `msgspec.DecodeError` when it is none."""
    return _read(_DECODER, data)


def encode_steps(chunks: tuple[Chunk, ...]) -> bytes:
    """An answer's steps as msgpack, for tiers that keep the rest in columns."""
    return _ENCODER.encode(chunks)


def decode_steps(data: bytes) -> tuple[Chunk, ...]:
    """The steps in `data`. Raises `msgspec.DecodeError` when they are none."""
    return _read(_STEPS, data)


def _read(decoder: msgspec.msgpack.Decoder[T], data: bytes | memoryview) -> T:
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
