"""What went wrong in; what a client is told of it out: a status, OpenAI's envelope, and headers that go with it."""

import logging
from collections.abc import Mapping
from math import ceil
from typing import Any, Final, Literal

import msgspec

from gateway.errors import BackendError, NotKept, RequestError, envelope
from gateway.routes.leaving import ClientLeft
from storage.errors import AskonceError

_LOG = logging.getLogger("askonce")
_NONE: Final[Mapping[str, str]] = {}
_HINTS: Final = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}, 503: {"retry-after": "1"}}
"""Headers that go with a status."""


class Refusal(msgspec.Struct, frozen=True):
    """A reply to what cannot be answered."""

    status: int
    content: dict[str, Any]
    """The envelope."""
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """What the metrics count it under."""
        return str(self.content["error"]["code"])


def refusal(error: Exception, doing: str) -> Refusal:
    """What `error` means for who asked. What nobody foresaw is told to the log, where `doing` says what it stopped."""
    if isinstance(error, RequestError):
        found: Literal["bypass", "miss"] = "miss" if isinstance(error, NotKept) else "bypass"
        return refused(error.status, envelope(error), found, error.headers)
    if isinstance(error, BackendError):  # no kept answer helped: a miss, whose backend had none either
        after = {"retry-after": str(ceil(error.retry_after_s))} if error.retry_after_s else {}
        return refused(error.status, envelope(error), "miss", {**error.headers, **after})
    if isinstance(error, ClientLeft):  # nobody reads this; 499 is what access logs use for it
        return refused(499, in_envelope("The client left.", "client_left"))
    _LOG.error("%s failed", doing, exc_info=error)
    named = error if isinstance(error, AskonceError) else None
    message = str(named or "askonce made a mistake; its log has the details.")
    return refused(500, in_envelope(message, "internal_error", "server_error"))


def refused(
    status: int,
    content: dict[str, Any],
    cache: Literal["bypass", "miss"] = "bypass",
    headers: Mapping[str, str] = _NONE,
) -> Refusal:
    """A refusal of this status; `headers` beside those that go with it."""
    return Refusal(status, content, {"x-askonce-cache": cache} | _HINTS.get(status, {}) | dict(headers))


def in_envelope(message: str, code: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """OpenAI's error object for what is no error of this tree."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
