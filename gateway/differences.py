"""Two queries in, the fields they differ in out; and of many, the one that differs least. Pure."""

import json
from collections.abc import Generator, Iterable
from typing import Any, Final

import msgspec

from storage.entry import Query
from storage.near import Kept

_NAMES: Final = ("model", "model_version", "engine", "engine_version")
_AROUND: Final = 30
"""Characters shown on either side of where two texts part."""
_SHORT: Final = 3 * _AROUND


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field. Without `asked` the request does not have it, without `kept` the kept one does not."""

    field: str
    """As a path: `messages[1].content`."""
    asked: Any = msgspec.UNSET
    kept: Any = msgspec.UNSET
    at: int | msgspec.UnsetType = msgspec.UNSET
    """The first character that differs, in texts too long to be shown whole: then each is what is around it."""


class Nearest(msgspec.Struct, frozen=True):
    """A kept answer to another question, and what would have to be the same for it to have been given."""

    key: str
    created_at: float
    differs: tuple[Difference, ...]


def nearest(asked: Query, candidates: Iterable[Kept]) -> Nearest | None:
    """The candidate that differs in the fewest fields, then in the least of its texts, then the latest."""
    fields = _fields(asked)
    scored = [(_distance(fields, _fields(one.query)), -one.created_at, one) for one in candidates]
    if not scored:
        return None
    one = min(scored, key=lambda each: each[:2])[2]
    found = tuple(_shown(path, *values) for path, *values in _differing(fields, _fields(one.query)))
    return Nearest(one.query.key.hex(), one.created_at, found)


def _fields(query: Query) -> dict[str, Any]:
    """Everything that is in the key, by path."""
    params = json.loads(query.params)
    if isinstance(seed := params["known"].get("seed"), str):
        params["known"]["seed"] = int(seed)  # as it was sent; `key.py` says why it is kept otherwise
    fields = {name: getattr(query, name) for name in _NAMES}
    for part in (json.loads(query.prompt), params["known"], params["extra"]):
        fields |= dict(_leaves("", part))
    return fields


def _leaves(path: str, value: Any) -> Generator[tuple[str, Any]]:
    """The values in a JSON value that hold no others, empty objects and lists among them."""
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _leaves(f"{path}.{name}" if path else name, below)
    elif isinstance(value, list) and value:
        for place, below in enumerate(value):
            yield from _leaves(f"{path}[{place}]", below)
    else:
        yield path, value


def _differing(asked: dict[str, Any], kept: dict[str, Any]) -> Generator[tuple[str, Any, Any]]:
    for path in [*asked, *(path for path in kept if path not in asked)]:
        one, other = asked.get(path, msgspec.UNSET), kept.get(path, msgspec.UNSET)
        if (type(one), one) != (type(other), other):
            yield path, one, other


def _distance(asked: dict[str, Any], kept: dict[str, Any]) -> tuple[int, float]:
    differing = list(_differing(asked, kept))
    return len(differing), sum(_apart(one, other) for _, one, other in differing)


def _apart(one: Any, other: Any) -> float:
    """From 0, nearly the same, to 1: the part of two texts that is between their common beginning and end."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return 1.0
    longest = max(len(one), len(other))
    begin = _shared(one, other)
    end = _shared(one[begin:][::-1], other[begin:][::-1])
    return (longest - begin - end) / longest


def _shared(one: str, other: str) -> int:
    """How many characters they begin with both."""
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )


def _shown(path: str, asked: Any, kept: Any) -> Difference:
    if isinstance(asked, str) and isinstance(kept, str) and max(len(asked), len(kept)) > _SHORT:
        at = _shared(asked, kept)
        part = slice(max(0, at - _AROUND), at + _AROUND)
        return Difference(path, asked[part], kept[part], at)
    return Difference(path, *(_cut(value) for value in (asked, kept)))


def _cut(value: Any) -> Any:
    return value[:_SHORT] + "…" if isinstance(value, str) and len(value) > _SHORT else value
