"""What trials have found -> for each threshold, how many answers would have been given, and how many of them wrongly.

Pure. A label of a person's counts before the likeness of the two answers.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from gateway.semantic.guard import LEFT_TO_JUDGE
from storage.trials import Outcome

THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99)
ALIKE: Final = 0.9
"""From which cosine of their vectors on two answers are taken for the same, where nobody has said."""
_Z: Final = 1.959964
"""Of a normal distribution, 95 % lies within so many standard deviations."""
Judged = Literal["label", "answers", "nobody"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What would come of one threshold."""

    threshold: float
    asked: int
    """How many questions the model was asked."""
    served: int
    by_label: int
    """How many of the served ones a person has judged."""
    by_answers: int
    """How many others are judged by the likeness of the answers."""
    false: int
    """How many of both are wrong."""
    low: float | None
    """Between this share of those judged that are wrong, and"""
    high: float | None
    """this one the truth lies, with 95 %. None where none is judged."""

    @property
    def judged(self) -> int:
        """How many of the served ones are judged."""
        return self.by_label + self.by_answers

    @property
    def rate(self) -> float | None:
        """The share of those judged that are wrong."""
        return self.false / self.judged if self.judged else None


def lines(outcomes: Sequence[Outcome], alike: float = ALIKE, thresholds: Iterable[float] = THRESHOLDS) -> list[Line]:
    """One for each threshold."""
    passing = [one for one in outcomes if passes(one)]
    return [_line(threshold, len(outcomes), passing, alike) for threshold in thresholds]


def passes(one: Outcome) -> bool:
    """Whether nothing but the threshold speaks against it: neither the guard nor, where there is one, the judge."""
    if one.similarity is None or not LEFT_TO_JUDGE.issuperset(one.reasons):
        return False
    return not one.reasons if one.judged_same is None else one.judged_same


def judged(one: Outcome, alike: float) -> tuple[Judged, bool]:
    """Who judges it, and whether it is wrong."""
    if one.label is not None:
        return "label", one.label == "different"
    if one.same_answer:
        return "answers", False
    if one.answers_similarity is None:
        return "nobody", False
    return "answers", one.answers_similarity < alike


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Between which shares the truth lies with 95 %, where so many of so many were seen. `of` is at least 1."""
    share, square = hits / of, _Z * _Z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = _Z / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return (0.0 if not hits else low), (1.0 if hits == of else high)


def _line(threshold: float, asked: int, passing: Sequence[Outcome], alike: float) -> Line:
    served = [one for one in passing if one.similarity is not None and one.similarity >= threshold]
    told = [judged(one, alike) for one in served]
    by = {name: sum(who == name for who, _ in told) for name in ("label", "answers")}
    false = sum(wrong for _, wrong in told)
    low, high = wilson(false, sum(by.values())) if sum(by.values()) else (None, None)
    return Line(
        threshold=threshold,
        asked=asked,
        served=len(served),
        by_label=by["label"],
        by_answers=by["answers"],
        false=false,
        low=low,
        high=high,
    )
