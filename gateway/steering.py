"""How one request is to be answered: `cache-control` and `x-askonce-*` headers -> `Steering`."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.errors import InvalidRequest

TAGS: Final = "x-askonce-tags"
MAX_TAGS: Final = 16
REPLAY: Final = "x-askonce-replay"
_TAG: Final = re.compile(r"[\w.:/-]{1,64}", re.ASCII)
_SECONDS: Final = re.compile(r'"?(\d{1,10})"?')


class Steering(msgspec.Struct, frozen=True, kw_only=True):
    """A request's wishes about what is kept."""

    no_cache: bool = False
    """Ask the model, whatever is kept; the answer takes the place of the one kept before."""
    no_store: bool = False
    """Keep nothing of this; what is kept already may be given."""
    only_if_cached: bool = False
    """Never ask the model."""
    max_age_s: float | None = None
    """Give nothing older than this."""
    tags: tuple[str, ...] = ()
    """Words to find or delete the answer by."""
    paced: bool = False
    """Give a kept answer as slowly as the model gave it, step by step."""


def read(headers: Mapping[str, str]) -> Steering:
    """The wishes in a request's headers. Directives nobody here knows mean nothing, as RFC 9111 wants.

    Raises `InvalidRequest` for a `max-age` without seconds, for `no-cache` with `only-if-cached`, which nothing can
    satisfy, for tags that cannot be tags, and for a pace that is none.
    """
    directives = dict(_directives(headers.get("cache-control", "")))
    if "no-cache" in directives and "only-if-cached" in directives:
        message = "'no-cache' asks the model and 'only-if-cached' forbids it; send one of them."
        raise InvalidRequest(message, param="cache-control", code="invalid_value")
    return Steering(
        no_cache="no-cache" in directives,
        no_store="no-store" in directives,
        only_if_cached="only-if-cached" in directives,
        max_age_s=_seconds(directives["max-age"]) if "max-age" in directives else None,
        tags=_tags(headers.get(TAGS, "")),
        paced=_is_paced(headers.get(REPLAY, "instant")),
    )


def _directives(text: str) -> list[tuple[str, str]]:
    parts = (part.strip().partition("=") for part in text.split(","))
    return [(name.strip().lower(), value.strip()) for name, _, value in parts]


def _seconds(text: str) -> float:
    if (found := _SECONDS.fullmatch(text)) is None:
        message = f"'max-age={text}' has no number of seconds; write max-age=60."
        raise InvalidRequest(message, param="cache-control", code="invalid_value")
    return float(found[1])


def _is_paced(text: str) -> bool:
    if text not in ("instant", "paced"):
        message = f"'{REPLAY}' is 'instant' or 'paced', not '{text[:40]}'."
        raise InvalidRequest(message, param=REPLAY, code="invalid_value")
    return text == "paced"


def _tags(text: str) -> tuple[str, ...]:
    tags = tuple(sorted({tag.strip() for tag in text.split(",") if tag.strip()}))
    if len(tags) > MAX_TAGS or not all(_TAG.fullmatch(tag) for tag in tags):
        message = f"'{TAGS}' takes up to {MAX_TAGS} words of letters, digits and . : / _ -, of 64 characters at most."
        raise InvalidRequest(message, param=TAGS, code="invalid_value")
    return tags
