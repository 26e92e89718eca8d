"""Prefix blocks and replicas in, the replica that has most of them in its KV cache out, unless it is overloaded.

Two ideas are joined. What this process has sent where is remembered, and corrected by what the backends say they found
in their caches: whoever holds most of a prompt computes least of it. And what nobody is known to hold goes where
rendezvous hashing of the first such block says (Thaler and Ravishankar, 1998), so that processes that do not know of
each other choose alike. Neither may load one replica with more than its share: that is consistent hashing with bounded
loads (Mirrokni, Thorup and Zadimoghaddam, 2016), of requests under way and of those of late.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from gateway.routing import prefixes
from gateway.routing.prefixes import Blocks

_BOUND: Final = 1.25
"""How many times its share of requests under way a replica may have."""
_MORE_UNDER_WAY: Final = 4
"""Requests under way that nobody minds: with few of them, shares are no more than chance."""
_RECENT_BOUND: Final = 1.1
"""How many times its share of the requests of late."""
_WINDOW: Final = 512.0
"""How many requests "of late" are, about."""
_MORE_RECENT: Final = 4.0
"""Requests of late that nobody minds."""
_MORE_NEW: Final = 2.0
"""Requests of late that one may have more than the others, to be given what is new."""
_UNLIMITED: Final = 1e15
_LESS: Final = 0.9
_MORE: Final = 1.1
_TELLING_BYTES: Final = 1024
"""How much a replica must have been sent before for it to matter that it has not kept it."""
_MAX_BLOCKS: Final = 65_536
"""Blocks remembered of a replica: some 16 MB of prompts, and of memory here 8 MB."""


class Candidate(Protocol):
    """A replica that could be asked."""

    name: str
    outstanding: int
    """How many requests it has under way."""
    weight: float


class Chosen(msgspec.Struct, frozen=True):
    """Where a prompt goes, and what is believed of it there."""

    name: str
    held: int = 0
    """How many of its blocks that replica is believed to hold."""
    seen: int = 0
    """How many of them it was sent before, held or not."""
    age_bytes: float = 0.0
    """How much has come to that replica since it was last sent those that it has seen."""
    under_way: int = 0
    """How many others it had then."""


class _Replica:
    """What is known of one: which blocks came when, by a clock of the bytes that it has computed.

    They are in two dicts, as keeping one in the order of use takes long: when the younger one is full, the older one is
    forgotten, none of whose blocks has come since.
    """

    def __init__(self, max_blocks: int) -> None:
        self.recent = 0.0
        self.capacity_bytes = _UNLIMITED
        """What its cache is thought to have room for."""
        self._clock = 1
        self._most = max_blocks // 2
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def length(self, blocks: Blocks, younger_than: float) -> int:
        """How many of `blocks` it was sent of late, from the first on: whoever was sent one was sent those before."""
        young, old, oldest = self._young.get, self._old.get, self._clock - younger_than
        low, high = 0, len(blocks)
        if not high or not (came := young(blocks[0]) or old(blocks[0])) or came <= oldest:
            return 0  # most prompts, at most replicas
        while low < high:
            middle = (low + high) // 2
            block = blocks[middle]
            if (came := young(block) or old(block)) and came > oldest:
                low = middle + 1
            else:
                high = middle
        return low

    def held(self, blocks: Blocks) -> int:
        """How many of `blocks` it is believed to hold."""
        return self.length(blocks, self.capacity_bytes)

    def age_bytes(self, block: int) -> float:
        """How many bytes it has computed since it was sent `block`; infinity when it never was."""
        came = self._young.get(block) or self._old.get(block)
        return self._clock - came if came else math.inf

    def hold(self, blocks: Blocks, held: int) -> None:
        """It is sent `blocks`, of which it held the first `held`."""
        self.computed(prefixes.end_of(len(blocks)) - prefixes.end_of(held))
        self._young |= dict.fromkeys(blocks, self._clock)
        if len(self._young) > self._most:
            self._young, self._old = {}, self._young

    def computed(self, size_bytes: float) -> None:
        """So many bytes had to be computed there."""
        self._clock += max(0, int(size_bytes))


_Known = tuple[Candidate, _Replica]


class Affinity:
    """Chooses among the replicas of one model. Nothing here waits; a choice takes microseconds."""

    def __init__(self, *, max_blocks: int = _MAX_BLOCKS) -> None:
        self._max_blocks = max_blocks
        self._replicas: dict[str, _Replica] = {}

    def choose(self, blocks: Blocks, candidates: Sequence[Candidate]) -> Chosen:
        """The best of `candidates`, of which there is at least one; it counts as sent there."""
        best, replica, longest = self._best(blocks, candidates)
        seen = replica.length(blocks, _UNLIMITED) if replica.capacity_bytes < _UNLIMITED else longest
        age_bytes = replica.age_bytes(blocks[seen - 1]) if seen else 0.0
        chosen = Chosen(best.name, longest, seen, age_bytes, best.outstanding)
        self._count(replica)
        replica.hold(blocks, longest)
        return chosen

    def preferred(self, blocks: Blocks, candidates: Sequence[Candidate]) -> str:
        """Who would be chosen now. Nothing is sent there yet."""
        return self._best(blocks, candidates)[0].name

    def _best(self, blocks: Blocks, candidates: Sequence[Candidate]) -> tuple[Candidate, _Replica, int]:
        """And how many blocks it holds."""
        allowed = _allowed([(one, self._of(one.name)) for one in candidates])
        lengths = [replica.held(blocks) for _, replica in allowed]
        longest = max(lengths)
        equal = [one for one, length in zip(allowed, lengths, strict=True) if length == longest]
        return *(equal[0] if len(equal) == 1 else _first(equal, blocks[longest : longest + 1])), longest

    def sent(self, name: str, blocks: Blocks, held: int) -> None:
        """Another process has sent a prompt to the replica `name`, which held the first `held` of its blocks."""
        replica = self._of(name)
        self._count(replica)
        replica.hold(blocks, max(0, min(held, len(blocks))))

    def told(self, chosen: Chosen, prompt_bytes: int, prompt_tokens: int, cached_tokens: int) -> None:
        """How many of a prompt's tokens the backend found in its cache: so one learns how much that has room for.

        As engines count in blocks of their own, and tokens are not bytes, half of what was sent there before is enough,
        and what is short says nothing. Nor does it that a prompt was not found which came so shortly before that it may
        have been under way itself.
        """
        replica = self._replicas.get(chosen.name)
        seen_bytes = prefixes.end_of(chosen.seen)
        if replica is None or seen_bytes < _TELLING_BYTES or prompt_tokens <= 0:
            return
        found_bytes = prompt_bytes * cached_tokens / prompt_tokens
        if found_bytes >= seen_bytes / 2:
            replica.capacity_bytes = max(replica.capacity_bytes, chosen.age_bytes * _MORE, seen_bytes)
        else:
            if chosen.age_bytes >= chosen.under_way * prompt_bytes:
                replica.capacity_bytes = min(replica.capacity_bytes, chosen.age_bytes * _LESS)
            replica.computed(prefixes.end_of(chosen.held) - found_bytes)

    def forget(self, name: str) -> None:
        """Its cache is gone: it was started anew."""
        self._replicas.pop(name, None)

    def _of(self, name: str) -> _Replica:
        replica = self._replicas.get(name)
        if replica is None:
            replica = _Replica(self._max_blocks)
            # As if it had been there: else all would be sent to it until it had had as much as the others.
            replica.recent = sum(one.recent for one in self._replicas.values()) / max(1, len(self._replicas))
            self._replicas[name] = replica
        return replica

    def _count(self, chosen: _Replica) -> None:
        for replica in self._replicas.values():
            replica.recent *= 1 - 1 / _WINDOW
        chosen.recent += 1


def _allowed(candidates: Sequence[_Known]) -> Sequence[_Known]:
    """Those that have not more than their share; the least loaded one when all have.

    What was asked of late is nothing to one that has nothing to do now: a single conversation stays where it is.
    """
    weights, under_way, recent = 0.0, 1, 0.0
    for one, replica in candidates:
        weights += one.weight
        under_way += one.outstanding
        recent += replica.recent
    most, recent_most = _BOUND * under_way / weights, _RECENT_BOUND * recent / weights
    allowed = [
        (one, replica)
        for one, replica in candidates
        if not one.outstanding
        or (
            one.outstanding < math.ceil(most * one.weight) + _MORE_UNDER_WAY
            and replica.recent <= recent_most * one.weight + _MORE_RECENT
        )
    ]
    return allowed or [min(candidates, key=lambda known: known[0].outstanding / known[0].weight)]


def _first(equal: Sequence[_Known], block: Blocks) -> _Known:
    """Of those that hold as much of a prompt: by its first block that none of them holds, or else the idlest.

    What is new is given to nobody who has had more than a share of late: whatever follows it will go there too, and
    would have to be sent away.
    """
    if not block:
        return min(equal, key=lambda known: (known[0].outstanding / known[0].weight, _load(known)))
    most = sum(map(_load, equal)) / len(equal) + _MORE_NEW
    return min((known for known in equal if _load(known) <= most), key=lambda known: _rank(known[0], block[0]))


def _load(known: _Known) -> float:
    one, replica = known
    return replica.recent / one.weight


def _rank(candidate: Candidate, block: int) -> float:
    """Weighted rendezvous: the least one wins, and each wins in proportion to its weight."""
    digest = hashlib.blake2b(block.to_bytes(8, "big"), digest_size=8, key=candidate.name.encode()[:64]).digest()
    return -math.log((int.from_bytes(digest, "big") + 1) / 2**64) / candidate.weight
