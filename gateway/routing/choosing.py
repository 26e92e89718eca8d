"""Replicas that could answer in, the one that shall out."""

import random
from collections.abc import Sequence
from typing import Protocol

from gateway.canonical import Request
from gateway.routing.replica import Replica
from storage.entry import Usage

Prefix = tuple[bytes, ...]
"""The beginning of a prompt as hashes, each over one block more than the one before; empty where it says nothing."""


class Chooser(Protocol):
    """Who of several equal replicas is asked."""

    def prefix(self, request: Request, scope: str) -> Prefix:
        """What `choose` wants to know of a request, worked out once for all attempts."""
        ...

    def choose(self, candidates: Sequence[Replica], prefix: Prefix) -> Replica:
        """One of `candidates`, of which there is at least one; all have room."""
        ...

    def told(self, replica: Replica, prefix: Prefix, usage: Usage) -> None:
        """What came of it: `replica` answered, and says how much of the prompt it had in its cache."""
        ...


class LeastOutstanding:
    """Whoever has least to do for its weight; of equals, any, and the heavier more often."""

    def prefix(self, request: Request, scope: str) -> Prefix:
        """Nothing: all replicas are alike."""
        del request, scope
        return ()

    def choose(self, candidates: Sequence[Replica], prefix: Prefix) -> Replica:
        """The one with the least to do."""
        del prefix
        if len(candidates) == 1:
            return candidates[0]
        best: list[Replica] = []
        least, weight = float("inf"), 0.0
        for replica in candidates:
            load = replica.outstanding / replica.weight
            if load < least:
                least, best, weight = load, [replica], replica.weight
            elif load == least:
                best.append(replica)
                weight += replica.weight
        if len(best) == 1:
            return best[0]
        drawn = random.random() * weight  # noqa: S311 -- no secret depends on it
        for replica in best:
            drawn -= replica.weight
            if drawn < 0:
                return replica
        return best[-1]

    def told(self, replica: Replica, prefix: Prefix, usage: Usage) -> None:
        """Nothing to learn."""
