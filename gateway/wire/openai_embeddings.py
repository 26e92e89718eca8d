"""OpenAI's `/v1/embeddings`: bytes -> one Request an input, and vectors -> its reply."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.canonical import Request
from gateway.errors import InvalidRequest
from gateway.wire import body, reply
from storage.entry import Usage
from storage.vector import unpacked

MAX_INPUTS = 2048
Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Tokens = Annotated[list[Token], Meta(min_length=1)]


class EmbeddingBody(msgspec.Struct, kw_only=True):
    """The fields of an embedding request this gateway knows."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | Annotated[list[str | Token | Tokens], Meta(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None


PROMPT = frozenset({"input"})
PARAMS = frozenset({"dimensions"})


class Asked(msgspec.Struct, frozen=True):
    """One request for several vectors, each a question of its own."""

    model: str
    items: tuple[Request, ...]
    base64: bool


def decode(data: bytes) -> Asked:
    """The requests in `data`, one for each input. Raises `InvalidRequest`."""
    raw = body.decode(data)
    fields = body.typed(raw, EmbeddingBody)
    params = {name: raw[name] for name in PARAMS if raw.get(name) is not None}
    extra = body.unknown(raw, EmbeddingBody)
    shared: dict[str, Any] = {
        "kind": "embedding",
        "model": fields.model,
        "params": params,
        "extra": extra,
        "size_bytes": len(data),
    }
    items = tuple(Request(prompt={"input": item}, **shared) for item in _inputs(fields.input))
    return Asked(fields.model, items, fields.encoding_format == "base64")


def encode(asked: Asked, vectors: Sequence[bytes], usage: Usage, provenance: str = "") -> bytes:
    """The reply: `vectors` (little-endian float32s) in the order of the inputs."""
    shown = _base64 if asked.base64 else unpacked
    data = [{"object": "embedding", "index": i, "embedding": shown(vector)} for i, vector in enumerate(vectors)]
    counts: dict[str, Any] = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    counts |= reply.marker(provenance, usage.cost_micro_usd)
    return msgspec.json.encode({"object": "list", "data": data, "model": asked.model, "usage": counts})


def _base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode()


def _inputs(value: str | list[Any]) -> list[Any]:
    if isinstance(value, str):
        items: list[Any] = [value]
    elif len({type(item) for item in value}) != 1:
        message = "'input' must be a string, or a list of only strings, only tokens or only token lists."
        raise InvalidRequest(message, param="input", code="invalid_value")
    else:
        items = [value] if isinstance(value[0], int) else value
    if any(item == "" for item in items):
        message = "'input' holds an empty string, which has no embedding; leave it out."
        raise InvalidRequest(message, param="input", code="invalid_value")
    return items
