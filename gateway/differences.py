"""Two queries in, the fields they differ in out; and of many, the one that differs least. Pure.

The work is bounded whatever is asked and kept: values are gone through up to a number, and what holds more than is left
of it is compared whole.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from storage.entry import Query
from storage.near import Kept

MAX_VALUES: Final = 2000
"""How many values of two requests are gone through."""
MAX_STEPS: Final = 16_000
"""The same for all candidates together: some tens of milliseconds."""
MAX_SHOWN: Final = 20
"""How many differences are shown."""
_BYTES_A_STEP: Final = 64
"""Of what is compared whole: as many cost about as much as going to one value."""

_AROUND: Final = 30
"""Characters shown on either side of where two texts part."""
_SHORT: Final = 3 * _AROUND
_LONGEST_NAME: Final = 80
_LONGEST_PATH: Final = 400
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEED: Final = re.compile(r"-?[0-9]{1,19}")

Path = tuple[str | int, ...]
"""Where a value is: first which part of the request, then names and places."""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field. Without `asked` the request does not have it, without `kept` the kept one does not."""

    field: str
    """As a path: `messages[1].content`, `extra["a.b"]`."""
    asked: Any = msgspec.UNSET
    kept: Any = msgspec.UNSET
    at: int | msgspec.UnsetType = msgspec.UNSET
    """The first character that differs, in texts too long to be shown whole: then each is what is around it."""
    whole: bool = False
    """It holds too many values to be gone through, so that all of it was compared at once, by its digest."""


class Nearest(msgspec.Struct, frozen=True):
    """A kept answer to another question, and what would have to be the same for it to have been given."""

    key: str
    created_at: float
    differs: tuple[Difference, ...]
    more: int
    """How many differences are not shown."""


class Search(msgspec.Struct, frozen=True):
    """What came of looking through candidates."""

    nearest: Nearest | None
    looked_at: int
    """How many were compared: fewer than there are when they are large, or cannot be read."""


class _Part(msgspec.Struct, frozen=True):
    """Two values of one place that are not the same."""

    path: Path
    asked: Any
    kept: Any
    values: int = 1
    """How many values it may stand for."""


def nearest(asked: Query, candidates: Iterable[Kept]) -> Search:
    """The candidate that differs in the fewest fields, then in the least of its texts, then the latest."""
    parts, left, looked_at = _parts(asked), MAX_STEPS, 0
    best: tuple[tuple[int, float, float], Kept, Sequence[_Part]] | None = None
    for one in candidates:
        if left < MAX_VALUES:
            break
        walk = _Walk()
        try:
            walk.compare(asked, parts, one.query)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue  # a row that somebody has changed
        finally:
            left -= walk.steps + len(walk.found)
        looked_at += 1
        far = (sum(p.values for p in walk.found), sum(map(_apart, walk.found)), -one.created_at)
        if best is None or far < best[0]:
            best = far, one, walk.found
    return Search(_nearest(*best[1:]) if best else None, looked_at)


def _nearest(one: Kept, found: Sequence[_Part]) -> Nearest:
    shown = tuple(map(_shown, found[:MAX_SHOWN]))
    return Nearest(one.query.key.hex(), one.created_at, shown, len(found) - len(shown))


def _parts(query: Query) -> dict[str, Any]:
    """Everything that is in the key, in parts that share no names. Raises `ValueError` and `msgspec.DecodeError`."""
    match msgspec.json.decode(query.params), msgspec.json.decode(query.prompt):
        case {"known": dict(known), "extra": dict(extra), **rest}, dict(prompt):
            seed = known.get("seed")
            if isinstance(seed, str) and _SEED.fullmatch(seed):
                known["seed"] = int(seed)  # as it was sent; `key.py` says why it is kept otherwise
        case _:
            message = "This is no request."
            raise ValueError(message)
    identity = {name: getattr(query, name) for name in ("model", "model_version", "engine", "engine_version")}
    return {"identity": identity, "params": known | _retrieved(rest), "extra": extra, "prompt": prompt}


def _retrieved(rest: dict[str, Any]) -> dict[str, Any]:
    """What was found in documents for it: the same words may stand in several."""
    return {"context": rest["context"]} if "context" in rest else {}


class _Walk:
    """One comparison of two requests, and what it costs."""

    def __init__(self) -> None:
        self.found: list[_Part] = []
        self.steps = 0
        self._left = MAX_VALUES

    def compare(self, asked: Query, parts: dict[str, Any], other: Query) -> None:
        """Find what differs. Raises `ValueError`, `msgspec.DecodeError` and `RecursionError` for no request."""
        self.steps += 10
        others = _parts(other)
        for part, value in parts.items():
            if part != "prompt" or asked.prompt != other.prompt:
                self._walk((part,), value, others[part])

    def _walk(self, path: Path, one: Any, other: Any) -> None:
        if _alike(one, other):
            self._inside(path, one, other)
        elif _holds(one) or _holds(other):  # a list here, a word there: all of either is a difference
            self._walk(path, one, msgspec.UNSET)
            self._walk(path, msgspec.UNSET, other)
        elif (type(one), one) != (type(other), other):
            self.found.append(_Part(path, one, other))

    def _inside(self, path: Path, one: Any, other: Any) -> None:
        if _size(one) + _size(other) > self._left:
            self._whole(path, one, other)
            return
        names = _names(one, other)
        self._left -= len(names)
        self.steps += len(names)
        for name in names:
            self._walk((*path, name), _at(one, name), _at(other, name))

    def _whole(self, path: Path, one: Any, other: Any) -> None:
        texts = [b"" if value is msgspec.UNSET else msgspec.json.encode(value) for value in (one, other)]
        self.steps += sum(map(len, texts)) // _BYTES_A_STEP
        if texts[0] != texts[1]:
            digests = [f"sha256:{hashlib.sha256(text).hexdigest()}" if text else msgspec.UNSET for text in texts]
            self.found.append(_Part(path, *digests, values=max(_size(one), _size(other))))


def _alike(one: Any, other: Any) -> bool:
    """Whether the two can be gone into side by side."""
    if one is msgspec.UNSET or other is msgspec.UNSET:
        return _holds(one) or _holds(other)
    return isinstance(one, dict | list) and type(one) is type(other)


def _holds(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


def _names(one: Any, other: Any) -> list[Any]:
    if isinstance(one, list) or isinstance(other, list):
        return list(range(max(_size(one), _size(other))))
    first, second = one or {}, other or {}
    return [*first, *(name for name in second if name not in first)]


def _at(value: Any, name: Any) -> Any:
    if isinstance(value, dict):
        return value.get(name, msgspec.UNSET)
    return value[name] if isinstance(value, list) and name < len(value) else msgspec.UNSET


def _apart(part: _Part) -> float:
    """From 0, nearly the same, to 1: the part of two texts that is between their common beginning and end."""
    one, other = part.asked, part.kept
    if not (isinstance(one, str) and isinstance(other, str)):
        return 1.0
    longest, shortest = max(len(one), len(other)), min(len(one), len(other))
    begin = _shared(one, other)
    rest = shortest - begin
    end = _shared(one[len(one) - rest :][::-1], other[len(other) - rest :][::-1])
    return (longest - begin - end) / longest


def _shared(one: str, other: str) -> int:
    """How many characters they begin with both. Halves are compared, not characters: texts can be long."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _shown(part: _Part) -> Difference:
    field, asked, kept = _field(part.path), part.asked, part.kept
    if part.values > 1:
        return Difference(field, asked, kept, whole=True)
    if isinstance(asked, str) and isinstance(kept, str) and max(len(asked), len(kept)) > _SHORT:
        at = _shared(asked, kept)
        around = slice(max(0, at - _AROUND), at + _AROUND)
        return Difference(field, asked[around], kept[around], at)
    return Difference(field, _cut(asked), _cut(kept))


def _cut(value: Any) -> Any:
    return value[:_SHORT] + "…" if isinstance(value, str) and len(value) > _SHORT else value


def _field(path: Path) -> str:
    """A path as it is written, no two alike: unknown fields begin with `extra`, and what is no name is quoted."""
    names = path if path[0] == "extra" else path[1:]
    shown = "".join(map(_step, names)).removeprefix(".")
    return shown if len(shown) <= _LONGEST_PATH else shown[:_LONGEST_PATH] + "…"


def _step(name: str | int) -> str:
    if isinstance(name, int):
        return f"[{name}]"
    cut = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    return f".{cut}" if _PLAIN.fullmatch(cut) else f"[{json.dumps(cut, ensure_ascii=False)}]"
