"""Records that should have been found and those that were in; precision, recall and F1 out, in three ways."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from extractors.grounded import Grounded

_EXACT: Final = 2.0**53
"""Below it every whole number is a float of its own."""


class Score(msgspec.Struct, frozen=True):
    """How many should have been found, were found, and are both. Those of several documents add up."""

    wanted: int = 0
    found: int = 0
    right: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(self.wanted + other.wanted, self.found + other.found, self.right + other.right)

    @property
    def precision(self) -> float:
        """Of what was found, how much is right; 1 where nothing was."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Of what should have been found, how much was; 1 where there is nothing."""
        return self.right / self.wanted if self.wanted else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        total = self.wanted + self.found
        return 2 * self.right / total if total else 1.0


class Scores(msgspec.Struct, frozen=True):
    """The same records, looked at in three ways."""

    strict: Score = Score()
    """The same class at the very same place."""
    overlap: Score = Score()
    """The same class, at places that overlap; each record counts for one other."""
    attributes: Score = Score()
    """Attributes with their values, of records of the same class and place; empty ones say nothing."""

    def __add__(self, other: "Scores") -> "Scores":
        return Scores(self.strict + other.strict, self.overlap + other.overlap, self.attributes + other.attributes)


def scores(wanted: Sequence[Grounded], found: Sequence[Grounded]) -> Scores:
    """Of one document. What has no place was found nowhere, and is wrong."""
    return Scores(
        _score(map(_where, wanted), map(_where, found)),
        Score(len(wanted), len(found), _overlapping(wanted, found)),
        _score(_said(wanted), _said(found)),
    )


def _score(wanted: Iterable[object], found: Iterable[object]) -> Score:
    one, other = Counter(wanted), Counter(found)
    return Score(one.total(), other.total(), (one & other).total())


def _where(record: Grounded) -> object:
    return (record.name, record.place or object())


def _said(records: Iterable[Grounded]) -> Iterable[object]:
    for record in records:
        for name, value in (record.attributes or {}).items():
            if value not in (None, "", [], {}):
                yield (_where(record), name, msgspec.json.encode(plain(value), order="deterministic"))


def plain(value: Any) -> Any:
    """`value` with whole numbers as such: 5 and 5.0 are the same to JSON, and to those who read it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, list):
        return [plain(one) for one in value]
    return {name: plain(one) for name, one in value.items()} if isinstance(value, dict) else value


def _overlapping(wanted: Sequence[Grounded], found: Sequence[Grounded]) -> int:
    """How many pairs there are at most. Who ends first takes the first to end of those it overlaps with: nobody who
    comes later could do more with it.
    """
    free, count = _by_end(found), 0
    for end, start, name in _by_end(wanted):
        for place, (other_end, other_start, other) in enumerate(free):
            if other == name and other_start < end and start < other_end:
                del free[place]
                count += 1
                break
    return count


def _by_end(records: Iterable[Grounded]) -> list[tuple[int, int, str]]:
    return sorted((place[1], place[0], record.name) for record in records if (place := record.place) is not None)
