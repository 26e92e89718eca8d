"""Records with their places in a text."""

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
    for record in chain.from_iterable(passes[1:]):
        if not any(_overlap(record, other) for other in kept):
            kept.append(record)
    return kept


def _overlap(one: Grounded, other: Grounded) -> bool:
    if one.place is None or other.place is None:
        return False
    return one.place[0] < other.place[1] and other.place[0] < one.place[1]
