"""What backends put into steps, checked: what cannot be read or encoded again must be no answer.

Only shapes are checked. Fields not named here travel as they are.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import BackendError
from storage.entry import Usage

MAX_COUNT = 2**31 - 1
"""What the table has room for."""
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_Byte = Annotated[int, Meta(ge=0, le=255)]
_NAMES = ("prompt_tokens", "completion_tokens", "cached_tokens")


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    """A piece of a call."""

    index: Count = 0
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class _Likely(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[_Byte] | None = None


class _Entry(_Likely):
    top_logprobs: list[_Likely] | None = None


class _Logprobs(msgspec.Struct):
    """Those of chats and those of completions, which some servers mix up."""

    content: list[_Entry] | None = None
    refusal: list[_Entry] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[Count] | None = None


def tool_calls(backend: str, calls: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """`calls` as they are. Raises `BackendError` unless each is a piece of a tool call."""
    if not calls:
        return ()
    _fits(backend, calls, list[_ToolCall], "tool calls")
    return tuple(calls)


def logprobs(backend: str, said: dict[str, Any]) -> dict[str, Any]:
    """`said` as it is. Raises `BackendError` unless it is log-probabilities."""
    _fits(backend, said, _Logprobs, "log-probabilities")
    return said


def usage(backend: str, counts: Usage) -> Usage:
    """`counts` as they are. Raises `BackendError` for those that no answer can have."""
    for name in _NAMES:
        if not 0 <= (getattr(counts, name) or 0) <= MAX_COUNT:
            message = f"Backend '{backend}' sent a usage that cannot be: its {name} are not between 0 and {MAX_COUNT}."
            raise BackendError(message)
    return counts


def finite(number: float) -> float:
    """`number` itself. Raises `ValueError` for NaN and infinities, which JSON has no form for."""
    if not math.isfinite(number):
        raise ValueError("a number that is none")
    return number


def _fits(backend: str, value: Any, shape: Any, what: str) -> None:
    try:
        msgspec.convert(value, shape)
        msgspec.msgpack.encode(value)  # unknown fields may hold integers of any size, which nothing could keep
    except (msgspec.ValidationError, OverflowError) as error:
        message = f"Backend '{backend}' sent {what} of an unknown shape."
        raise BackendError(message) from error
