"""Records with their places in a text."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import msgspec

Alignment = Literal["match_exact", "match_greater", "match_lesser", "match_fuzzy"]
"""How LangExtract's aligner came to a place, in its words. `match_exact` does not mind upper and lower case; whether
the words are the very same is said by `verbatim`.
"""


class Grounded(msgspec.Struct, frozen=True, kw_only=True):
    """One record, and where it stands. Places are code points from the beginning of the document."""

    name: str
    """Its class."""
    text: str
    """As the model said it."""
    attributes: dict[str, Any] | None = None
    start: int | None = None
    """None, as `end`, where it was not found."""
    end: int | None = None
    alignment: Alignment | None = None
    group: int = 0
    """Records that the model named together have the same."""

    @property
    def place(self) -> tuple[int, int] | None:
        """From where to where."""
        return None if self.start is None or self.end is None else (self.start, self.end)

    def quote(self, document: str) -> str | None:
        """What stands there."""
        return None if self.place is None else document[self.start : self.end]

    def verbatim(self, document: str) -> bool:
        """Whether the document says it letter for letter."""
        return self.quote(document) == self.text


def merged(passes: Sequence[Sequence[Grounded]]) -> list[Grounded]:
    """The records of several passes over one document: all of the first, and of the others what overlaps with nothing
    before it. What was not found is always there, as LangExtract has it.
    """
    kept: list[Grounded] = list(passes[0]) if passes else []
    taken = _Taken()
    for record in kept:
        taken.add(record.place)
    for record in chain.from_iterable(passes[1:]):
        if not taken.overlaps(record.place):
            kept.append(record)
            taken.add(record.place)
    return kept


class _Taken:
    """Stretches that no further record may touch, as disjoint ones in their order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def overlaps(self, place: tuple[int, int] | None) -> bool:
        """Whether any of them has something in common with this one."""
        if place is None:
            return False
        after = bisect_right(self._ends, place[0])
        return after < len(self._starts) and self._starts[after] < place[1]

    def add(self, place: tuple[int, int] | None) -> None:
        """This one too."""
        if place is None:
            return
        start, end = place
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]
