"""How one request is to be answered: `cache-control` and `x-askonce-*` headers -> `Steering`."""

import re
from typing import Final, Protocol, get_args

import msgspec

from gateway.config import SemanticMode
from gateway.errors import InvalidRequest

TAGS: Final = "x-askonce-tags"
MAX_TAGS: Final = 16
REPLAY: Final = "x-askonce-replay"
SEMANTIC: Final = "x-askonce-semantic"
_TAG: Final = re.compile(r"[\w.:/-]{1,64}", re.ASCII)
_SECONDS: Final = re.compile(r'"?(\d+)"?', re.ASCII)
_MODES: Final[tuple[SemanticMode, ...]] = get_args(SemanticMode)
_LONGEST_S: Final = 2.0**31
"""RFC 9111 lets a longer time be taken for this one."""


class Headers(Protocol):
    """A request's headers, each of which may occur more than once."""

    def getall(self, key: str, default: list[str], /) -> list[str]:
        """Every value of a header."""
        ...


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
    semantic: SemanticMode | None = None
    """Whether the answer to a question that means the same will do; None leaves that to the policy."""


def read(headers: Headers) -> Steering:
    """The wishes in a request's headers. Directives nobody here knows mean nothing, as RFC 9111 wants.

    Raises `InvalidRequest` for a `max-age` without seconds, for `no-cache` with `only-if-cached`, which nothing can
    satisfy, for tags that cannot be tags, and for a pace or a mode that is none.
    """
    said = _directives(_joined(headers, "cache-control"))
    directives = {name for name, _ in said}
    if "no-cache" in directives and "only-if-cached" in directives:
        message = "'no-cache' asks the model and 'only-if-cached' forbids it; send one of them."
        raise InvalidRequest(message, param="cache-control", code="invalid_value")
    return Steering(
        no_cache="no-cache" in directives,
        no_store="no-store" in directives,
        only_if_cached="only-if-cached" in directives,
        max_age_s=min((_seconds(value) for name, value in said if name == "max-age"), default=None),
        tags=_tags(_joined(headers, TAGS)),
        paced=_is_paced(_joined(headers, REPLAY) or "instant"),
        semantic=_mode(_joined(headers, SEMANTIC)),
    )


def is_tag(text: str) -> bool:
    """Whether an answer can have this tag."""
    return _TAG.fullmatch(text) is not None


def _joined(headers: Headers, name: str) -> str:
    """Several headers of one name are a list, as RFC 9110 has it."""
    return ",".join(headers.getall(name, []))


def _directives(text: str) -> list[tuple[str, str]]:
    parts = (part.strip().partition("=") for part in text.split(","))
    return [(name.strip().lower(), value.strip()) for name, _, value in parts]


def _seconds(text: str) -> float:
    if (found := _SECONDS.fullmatch(text)) is None:
        message = f"'max-age={text}' has no number of seconds; write max-age=60."
        raise InvalidRequest(message, param="cache-control", code="invalid_value")
    return min(float(found[1]), _LONGEST_S)


def _is_paced(text: str) -> bool:
    if text not in ("instant", "paced"):
        message = f"'{REPLAY}' is 'instant' or 'paced', not '{text[:40]}'."
        raise InvalidRequest(message, param=REPLAY, code="invalid_value")
    return text == "paced"


def _mode(text: str) -> SemanticMode | None:
    if not text:
        return None
    for mode in _MODES:
        if text == mode:
            return mode
    message = f"'{SEMANTIC}' is 'on', 'shadow' or 'off', not '{text[:40]}'."
    raise InvalidRequest(message, param=SEMANTIC, code="invalid_value")


def _tags(text: str) -> tuple[str, ...]:
    tags = tuple(sorted({tag.strip() for tag in text.split(",") if tag.strip()}))
    if len(tags) > MAX_TAGS or not all(is_tag(tag) for tag in tags):
        message = f"'{TAGS}' takes up to {MAX_TAGS} words of letters, digits and . : / _ -, of 64 characters at most."
        raise InvalidRequest(message, param=TAGS, code="invalid_value")
    return tags
