"""Query -> Entry: the ordered walk through the tiers, nearest first, and the way back up."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile

import msgspec

from storage.entry import Encoded, Entry
from storage.errors import StorageError
from storage.guard import GuardedTier
from storage.memory import MemoryTier
from storage.writer import GATHER_S, Writer

FLUSH_S = 5.0
RECORD_GATHER_S = 0.2
"""How long tiers beyond the first gather: nobody waits for them, and one transaction does for many answers."""
MAX_WAITING_BYTES = 64 * 2**20
"""What may wait for each tier: minutes of answers for a tier that is away, and a bound a worker can afford."""


class Found(msgspec.Struct, frozen=True):
    """An entry and the tier that had it."""

    entry: Entry
    tier: str


class Tiers:
    """Memory, then each lower tier. A fault below costs its deadline, never the answer."""

    def __init__(self, memory: MemoryTier, lower: Sequence[GuardedTier], on_drop: Callable[[str], None]) -> None:
        self._memory = memory
        self._lower = lower
        self._writers = [
            Writer(tier, MAX_WAITING_BYTES, on_drop, GATHER_S if tier is lower[0] else RECORD_GATHER_S)
            for tier in lower
        ]

    async def get(self, key: bytes) -> Found | None:
        """The nearest entry of `key`; it is promoted to every tier above the one that had it."""
        found = await self.find(key)
        if found is not None and found.tier != self._memory.name:
            self._keep(found.entry, takewhile(lambda writer: writer.name != found.tier, self._writers))
        return found

    async def find(self, key: bytes) -> Found | None:
        """The nearest entry of `key`, left where it is."""
        if (entry := self._memory.get(key)) is not None:
            return Found(entry, self._memory.name)
        for tier in self._lower:
            if (entry := await tier.get(key)) is not None:
                return Found(entry, tier.name)
        return None

    def put(self, entry: Entry) -> None:
        """Keep `entry`: in memory now, below soon."""
        self._keep(entry, self._writers)

    def _keep(self, entry: Entry, writers: Iterable[Writer]) -> None:
        item = Encoded.of(entry)
        self._memory.put(item)
        for writer in writers:
            writer.put(item)

    async def health(self) -> dict[str, str]:
        """`ok` or what is wrong, for each lower tier."""
        return dict(await asyncio.gather(*(_health(tier) for tier in self._lower)))

    async def aclose(self) -> None:
        """Keep what is waiting, then let go of connections."""
        await asyncio.gather(*(writer.aclose(FLUSH_S) for writer in self._writers))
        await asyncio.gather(*(tier.aclose() for tier in self._lower))


async def _health(tier: GuardedTier) -> tuple[str, str]:
    try:
        await tier.ping()
    except StorageError as error:
        return tier.name, str(error)
    return tier.name, "ok"
