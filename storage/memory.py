"""The nearest tier: entries of one process, bounded in bytes, least recently used first out."""

import math

import cachetools
import msgspec

from storage import entry
from storage.entry import OVERHEAD_BYTES, Encoded, Entry


class MemoryTier:
    """Encoded entries in a map. Encoded, so that the bound is true and a reader can never change what is kept."""

    name = "memory"

    def __init__(self, max_bytes: int, ttl_s: float = math.inf) -> None:
        self._entries: cachetools.TTLCache[bytes, bytes] = cachetools.TTLCache(max_bytes, ttl_s, getsizeof=_size)
        self.replaced = 0
        """How often an entry has taken the place of another."""

    def get(self, key: bytes) -> Entry | None:
        """The entry of `key`, if it is still here. Bytes that are none are let go of."""
        data = self._entries.get(key)
        if data is None:
            return None
        try:
            found = entry.opened(data)
        except msgspec.DecodeError:
            found = None
        if (
            found is None or found.query.key != key
        ):  # it came from another tier unread, with a reply that was made of it
            del self._entries[key]
            self.replaced += 1
            return None
        return found

    def has(self, key: bytes, data: bytes) -> bool:
        """Whether what is kept under `key` is this very object; it counts as used."""
        return self._entries.get(key) is data

    def data(self, key: bytes) -> bytes | None:
        """What is kept under `key`, as it is."""
        return self._entries.get(key)

    def put(self, item: Encoded) -> bytes | None:
        """Keep `item`, unless its key is kept already, by what it does not outrank, or it alone is larger than the
        bound. What is kept under its key now.
        """
        kept = self._entries.get(item.key)
        if (kept is not None and not item.outranks(kept)) or item.size > self._entries.maxsize:
            return kept
        self._entries[item.key] = item.data
        self.replaced += kept is not None
        return item.data

    def __contains__(self, key: bytes) -> bool:
        """Whether there is an entry of `key`."""
        return key in self._entries

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.replaced += 1


def _size(data: bytes) -> int:
    return len(data) + OVERHEAD_BYTES
