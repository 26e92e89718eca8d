"""The sampling fields that OpenAI's text endpoints share: their types, defaults and aliases."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Bias = dict[str, Annotated[float, Meta(ge=-100, le=100)]]
_Mark = Annotated[str, Meta(min_length=1)]
Stop = _Mark | Annotated[list[_Mark], Meta(max_length=16)]

DEFAULTS: dict[str, Any] = {
    "temperature": 1,
    "top_p": 1,
    "n": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}
"""What OpenAI's API documents for a field left out. Saying it and leaving it out are the same request."""


SAME_AS_LEFT_OUT: dict[str, Any] = {
    "logprobs": False,
    "top_logprobs": 0,
    "echo": False,
    "best_of": 1,
    "stop": [],
    "logit_bias": {},
    "response_format": {"type": "text"},
    "tools": [],
    "parallel_tool_calls": True,
}
"""Values that ask for nothing, or for what OpenAI documents as the default."""


class StreamOptions(msgspec.Struct):
    """How a stream shall be sent."""

    include_usage: bool | None = None


class Sampling(msgspec.Struct, kw_only=True):
    """Fields of both `/v1/chat/completions` and `/v1/completions`. None is the same as left out."""

    model: Annotated[str, Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    max_tokens: Count | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    logit_bias: Bias | None = None


def asked(raw: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The fields of `raw` in `names` that ask for something."""
    found = {name: raw[name] for name in names if raw.get(name) is not None}
    return {name: value for name, value in found.items() if not _asks_nothing(name, value)}


def prompt(raw: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """What the model reads, of the fields in `names`. Saying the default choice of tools is the same as leaving it
    out.
    """
    found = asked(raw, names)
    if found.get("tool_choice") == ("auto" if "tools" in found else "none"):
        del found["tool_choice"]
    return found


def params(raw: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The parameters of `raw` in `names`: defaults filled in, aliases folded, nulls left out."""
    found = asked(raw, names)
    limit = found.pop("max_completion_tokens", None) or found.get("max_tokens")
    if limit is not None:
        found["max_tokens"] = limit
    if isinstance(found.get("stop"), str):
        found["stop"] = [found["stop"]]
    return DEFAULTS | found


def _asks_nothing(name: str, value: Any) -> bool:
    # By type as well: `logprobs: 0` asks for something, and in Python 0 == False.
    nothing = SAME_AS_LEFT_OUT.get(name)
    return value == nothing and type(value) is type(nothing)
