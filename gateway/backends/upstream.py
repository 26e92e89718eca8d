"""What talking to any backend has in common: its refusals as our errors, its replies decoded."""

import re
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

import msgspec

from gateway.canonical import Vector
from gateway.errors import BackendError, BackendRefused, BackendUnavailable
from storage.vector import packed

T = TypeVar("T")

MISREAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding bytes that are not the expected JSON can raise."""

_SIGNS = {
    "too large to process": "context_length_exceeded",
    "exceeds the available context size": "context_length_exceeded",
    "maximum context length": "context_length_exceeded",
    "image input is not supported": "unsupported_content",
    "Jinja": "template_refused",
    "must alternate": "template_refused",
}
"""Words by which engines say that the request is at fault; llama.cpp gives some of them a 500."""

_ENCODER = "does not support logits"
"""What llama.cpp says, with a 500, when a model that only embeds is asked for an answer."""

_JINJA = re.compile(r"Jinja Exception: ([^\n]*)|(?:answered \d+: )([^\n]*must alternate[^\n]*)")
_BATCH = re.compile(r"input \((\d+) tokens\) is too large to process.*current batch size: (\d+)", re.DOTALL)

_UNAUTHORIZED = (401, 403)

_LONGEST_REST_S = 60.0
"""No backend is left alone for longer than this because it said so once."""

PASSED_ON = frozenset({400, 404, 413, 415, 422, 429})
"""Refusals that tell the client about its own request."""


def refuse(name: str, status: int, content: bytes, retry_after: str | None = None) -> NoReturn:
    """Raise what a failed reply means for the client: its own mistake, an overload, or our trouble.

    `retry_after` is the reply's header of that name.
    """
    error = _refusal(name, status, content)
    error.retry_after_s = _seconds(retry_after)
    raise error


def refuse_midway(name: str, error: Any) -> NoReturn:
    """Raise what an error in a stream means. vLLM says so what it refuses, after a head that says that all is well."""
    code = error.get("code") if isinstance(error, dict) else None
    status = int(code) if isinstance(code, (int, str)) and str(code).isdecimal() else 0
    if 400 <= status < 500:
        refuse(name, status, msgspec.json.encode({"error": error}))
    raise BackendError(reason(error))


def _refusal(name: str, status: int, content: bytes) -> BackendError:
    if status in _UNAUTHORIZED:  # its words may quote the key
        message = f"Backend '{name}' refused the gateway's credentials ({status}); its api_key has to be set right."
        return BackendError(message)
    try:
        said = msgspec.json.decode(content)
    except MISREAD:
        said = content[:200].decode(errors="replace")
    message = f"Backend '{name}' answered {status}: {reason(said)}"
    if _ENCODER in message:
        message = f"The model of backend '{name}' only embeds texts; ask another one."
        return BackendRefused(message, status=404, code="model_does_not_answer", param="model")
    for sign, code in _SIGNS.items():
        if sign in message:
            return BackendRefused(_helpful(name, code, message), status=400, code=code)
    if status in PASSED_ON:
        error = said.get("error") if isinstance(said, dict) else None
        param, code = (error.get("param"), error.get("code")) if isinstance(error, dict) else (None, None)
        return BackendRefused(
            message,
            status=status,
            code=code if code in _SIGNS.values() else None,  # OpenAI's own name for it, or another askonce's
            param=param if isinstance(param, str) else None,
        )
    if status == 503:
        return BackendUnavailable(message)
    return BackendError(message)


def _helpful(name: str, code: str, message: str) -> str:
    """`message` in words for the client where the engine's are for whoever runs it."""
    if code == "template_refused":
        found = _JINJA.search(message)
        why = (found[1] or found[2]) if found else message.splitlines()[0]
        return f"The chat template of backend '{name}' does not take these messages: {why}"
    if found := _BATCH.search(message):
        return (
            f"This input has {found[1]} tokens, and backend '{name}' takes at most {found[2]} at once; "
            "shorten it, or split it."
        )
    return message


def _seconds(retry_after: str | None) -> float | None:
    """What `Retry-After` says. Its other form, a date, is hardly ever sent and needs equal clocks."""
    text = (retry_after or "").strip()
    return min(float(text), _LONGEST_REST_S) if text.isdecimal() else None


def reason(said: Any) -> str:
    """The sentence in whatever a backend sent as an error."""
    if isinstance(said, dict):
        for name in ("message", "error", "detail"):
            if name in said:
                return reason(said[name])
    return str(said)


def decoded(name: str, content: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """`content` as JSON of the expected shape. Raises `BackendError`."""
    try:
        return decoder.decode(content)
    except MISREAD as error:
        message = f"Backend '{name}' sent something else than the documented reply."
        raise BackendError(message) from error


def vectors(
    name: str, rows: Sequence[Sequence[float]], prompt_tokens: int, dimensions: int | None = None
) -> list[Vector]:
    """Rows of numbers as vectors; the backend counts tokens for all of them together, so each gets its share.

    Raises `BackendError` for numbers that 32 bits cannot hold, and for rows of different lengths or not of as many
    `dimensions` as were asked for.
    """
    if len(lengths := {len(row) for row in rows} | ({dimensions} if dimensions else set[int]())) > 1:
        shown = ", ".join(str(length) for length in sorted(lengths))
        message = f"Backend '{name}' returned embeddings whose lengths are not those asked for: {shown}."
        raise BackendError(message)
    share, rest = divmod(prompt_tokens, len(rows))
    try:
        return [Vector(packed(row), share + (i < rest)) for i, row in enumerate(rows)]
    except ValueError as error:
        message = f"Backend '{name}' returned an embedding with values that are no numbers of 32 bits."
        raise BackendError(message) from error
