"""Several rankings of the same things -> one, by the places that each thing has in them. Pure.

Scores of different rankings say nothing to each other, and their places do: this is reciprocal rank fusion.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from storage.search import Candidate, Place

_K: Final = 60
"""As in the paper that found it (Cormack and others, 2009): first places count little more than those after."""


class Standing(msgspec.Struct, frozen=True):
    """Where something stands in one ranking."""

    rank: int
    """From 1 on."""
    score: float


class Fused(msgspec.Struct, frozen=True):
    """Something that was found, and where."""

    place: Place
    score: float
    standings: Mapping[str, Standing]
    """By the names of the rankings that have it."""

    def share(self, rankings: int) -> float:
        """How much it has of the best score that there can be: 1 for what is first in all of so many rankings."""
        return round(self.score * (_K + 1) / max(1, rankings), 6)


def fused(rankings: Mapping[str, Sequence[Candidate]]) -> list[Fused]:
    """All that stands in any of them, the best first. Those that stand alike stay in the order they came in."""
    standings: defaultdict[Place, dict[str, Standing]] = defaultdict(dict)
    for name, ranking in rankings.items():
        for rank, one in enumerate(ranking, 1):
            standings[one.place].setdefault(name, Standing(rank, one.score))
    found = [
        Fused(place, sum(1 / (_K + one.rank) for one in known.values()), known) for place, known in standings.items()
    ]
    return sorted(found, key=lambda one: -one.score)
