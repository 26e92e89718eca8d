"""What an engine says of a request that it refuses -> the field at fault, and a sentence that helps."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from gateway.backends.parameters import PARAMETERS
from gateway.canonical import Request
from gateway.errors import BackendRefused
from storage.entry import Kind

_TEXT: Final[Mapping[Kind, str]] = {"chat": "messages", "completion": "prompt", "embedding": "input"}
"""Where the text of a request is."""
_ABOUT_TEXT: Final = frozenset({"context_length_exceeded", "unsupported_content", "template_refused"})
_ABOUT_TOKENS: Final = re.compile(r"invalid tokens|out.of.vocab", re.IGNORECASE)
_NAMES: Final = re.compile(r"Field '(?P<a>\w+)'|parameter=(?P<b>\w+)|\b(?P<c>\w+)'? (?:must be|requires)\b")


@contextmanager
def naming(request: Request) -> Generator[None]:
    """Have refusals that come by name the field at fault, where the engine's words tell which that is."""
    try:
        yield
    except BackendRefused as refused:
        if refused.code in _ABOUT_TEXT:
            refused.param = _TEXT[request.kind]
        elif refused.param is None and refused.status in {400, 422}:
            refused.param = _named(str(refused), request)
        raise


def _named(words: str, request: Request) -> str | None:
    """The field that the words are about."""
    if _ABOUT_TOKENS.search(words):
        return "logit_bias" if "logit_bias" in words else _TEXT[request.kind]
    found = (match["a"] or match["b"] or match["c"] for match in _NAMES.finditer(words))
    return next((name for name in found if name in PARAMETERS), None)
