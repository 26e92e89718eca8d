"""Query -> Entry: the ordered walk through the tiers, nearest first, and the way back up."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile

import cachetools
import msgspec

from storage.entry import Encoded, Entry, Query, head
from storage.errors import StorageError
from storage.guard import GuardedTier
from storage.invalidations import Invalidations
from storage.memory import MemoryTier
from storage.writer import GATHER_S, Writer

FLUSH_S = 5.0
RECORD_GATHER_S = 0.2
"""How long tiers beyond the first gather: nobody waits for them, and one transaction does for many answers."""
MAX_WAITING_BYTES = 64 * 2**20
"""What may wait for each tier: minutes of answers for a tier that is away, and a bound a worker can afford."""
SUPERSEDE_S = 1.0
_LATELY = 32
_RARE = 1 / 64
"""Where the first lower tier has less than this of what is looked up, the others are asked at the same time."""
_OVERRULED = 1024
"""How many keys' entries are remembered that were seen not to count, until others take their place."""


class Found(msgspec.Struct, frozen=True):
    """An entry and the tier that had it."""

    entry: Entry
    tier: str
    encoded: Encoded | None = None
    """Its bytes, where it is not in memory yet."""


class Looked(msgspec.Struct, frozen=True):
    """What came of looking."""

    found: Found | None = None
    stale: bool = False
    """Some tier had an entry that no longer counts: what is kept now must take its place."""


class Tiers:
    """Memory, then each lower tier. A fault below costs its deadline, never the answer."""

    def __init__(
        self,
        memory: MemoryTier,
        lower: Sequence[GuardedTier],
        invalidations: Invalidations,
        on_drop: Callable[[str], None],
    ) -> None:
        self._memory = memory
        self._lower = lower
        self._invalidations = invalidations
        self._nearby = 1.0
        """Of what was looked up lately in the first lower tier, how much it had."""
        self._overruled: cachetools.LRUCache[bytes, set[bytes]] = cachetools.LRUCache(_OVERRULED)
        self._writers = [
            Writer(tier, MAX_WAITING_BYTES, on_drop, GATHER_S if tier is lower[0] else RECORD_GATHER_S)
            for tier in lower
        ]

    @property
    def epoch(self) -> int:
        """The last invalidation known: what an entry must carry that is asked for from now on."""
        return self._invalidations.epoch

    async def get(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """The nearest entry of `key` that counts; it is promoted to every tier above the one that had it."""
        looked = await self.find(key, max_age_s)
        if (found := looked.found) is not None and found.encoded is not None:
            item = found.encoded.replacing(self._overruled.pop(key, ())) if looked.stale else found.encoded
            self._memory.put(item)
            for writer in takewhile(lambda writer: writer.name != found.tier, self._writers):
                writer.put(item)
        return looked

    def in_memory(self, key: bytes, max_age_s: float | None = None) -> Entry | None:
        """The entry of `key` that counts, if this process has it."""
        entry = self._memory.get(key)
        return entry if entry and self._counts_here(entry, max_age_s) else None

    def _counts_here(self, entry: Entry, max_age_s: float | None) -> bool:
        # What is in this process's memory was put there while it knew as much as it does now, or less.
        return self._invalidations.allows(entry, unread=True) and _young(entry, max_age_s)

    async def find(self, key: bytes, max_age_s: float | None = None, *, scope: str | None = None) -> Looked:
        """The nearest entry of `key` that counts, left where it is.

        With `scope`, what is in another is not there: it is walked past in the same way, and takes as long.
        """
        overruled: set[bytes] = set()
        if (entry := self._memory.get(key)) is not None and _within(entry, scope):
            if self._counts_here(entry, max_age_s):
                return Looked(Found(entry, self._memory.name))
            overruled.add(head(entry))
        at_once = [tier.sought(key) for tier in self._lower] if self._nearby < _RARE else None
        for depth, tier in enumerate(self._lower):
            held = await (at_once[depth] if at_once else tier.sought(key))
            if not depth:
                self._nearby += ((held is not None) - self._nearby) / _LATELY
            if held is None or not _within(entry := held.entry, scope):
                continue
            numbered = await self._invalidations.numbered(entry)
            if numbered and self._invalidations.allows(entry) and _young(entry, max_age_s):
                return Looked(Found(entry, tier.name, held.encoded), self._overrule(key, overruled))
            overruled.add(head(entry))
        entry = self.in_memory(key, max_age_s)
        if entry is not None and _within(entry, scope):  # it has come while the others were looked at
            return Looked(Found(entry, self._memory.name))
        return Looked(None, self._overrule(key, overruled))

    def _overrule(self, key: bytes, heads: set[bytes]) -> bool:
        """Remember that these entries of `key` do not count; whether there are any."""
        if heads:
            self._overruled[key] = heads
        return bool(heads)

    def put(self, entry: Entry) -> bool:
        """Keep `entry`: in memory now, below soon. False when it was taken back while it was under way."""
        if counts := self._invalidations.allows(entry, unread=True):
            self._keep(entry, self._writers)
        return counts

    def _keep(self, entry: Entry, writers: Iterable[Writer[Encoded]]) -> None:
        item = Encoded.of(entry, self._overruled.pop(entry.query.key, ()) if entry.replaces else ())
        self._memory.put(item)
        for writer in writers:
            writer.put(item)

    def closed(self, query: Query) -> int:
        """What the epoch of an answer to `query` must be at least."""
        return self._invalidations.closed(query)

    async def supersede(self, keys: Sequence[bytes], scope: str) -> int | None:
        """What is kept under `keys` counts no longer, anywhere; the number from which on entries do.

        None when others cannot be told, because the database is down: then what is kept has to stay.
        """
        try:
            return await self._invalidations.add_keys(scope, keys, SUPERSEDE_S)
        except StorageError:
            return None

    async def health(self) -> dict[str, str]:
        """`ok` or what is wrong, for each lower tier."""
        return dict(await asyncio.gather(*(_health(tier) for tier in self._lower)))

    async def aclose(self) -> None:
        """Keep what is waiting, then let go of connections."""
        await asyncio.gather(*(writer.aclose(FLUSH_S) for writer in self._writers))
        await asyncio.gather(*(tier.aclose() for tier in self._lower))


def _young(entry: Entry, max_age_s: float | None) -> bool:
    return max_age_s is None or time.time() - entry.created_at <= max_age_s


def _within(entry: Entry, scope: str | None) -> bool:
    return scope is None or entry.query.scope == scope


async def _health(tier: GuardedTier) -> tuple[str, str]:
    try:
        await tier.ping()
    except StorageError as error:
        return tier.name, str(error)
    return tier.name, "ok"
