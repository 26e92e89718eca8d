"""What is another tenant's is not there, and takes as long to be not there."""

import msgspec
import pytest

from storage.entry import Encoded, Entry, Held
from storage.guard import GuardedTier
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.suites.entries import made
from tests.suites.marks import nothing_invalidated


class Walked:
    """A lower tier that counts how often it is asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = 0
        self.kept: dict[bytes, Entry] = {}

    async def get(self, keys: list[bytes]) -> list[Held | None]:
        """Count."""
        self.asked += 1
        return [Held(self.kept[key], Encoded.of(self.kept[key])) if key in self.kept else None for key in keys]

    async def put(self, items: list[Encoded]) -> None:
        """Keep."""
        self.kept |= {item.key: item.entry() for item in items}

    async def ping(self) -> None:
        """Well."""

    async def aclose(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("tier", ["memory", "redis", "postgres", "none"])
async def test_anothers_answer_is_looked_for_as_far_as_none(tier: str) -> None:
    """In whichever tier it is; and it is not called stale either."""
    memory, lower = MemoryTier(2**20), [Walked("redis"), Walked("postgres")]
    guarded = [GuardedTier(one, 5, lambda *_: None) for one in lower]
    tiers = Tiers(memory, guarded, nothing_invalidated(), lambda _: None)
    item = made("a", "text")
    if tier == "memory":
        memory.put(Encoded.of(item))
    for one in lower:
        if one.name == tier:
            await one.put([Encoded.of(item)])
    looked = await tiers.find(item.query.key, scope="rival")
    assert (looked.found, looked.stale) == (None, False)
    assert [one.asked for one in lower] == [1, 1]
    own = await tiers.find(item.query.key, scope="default")
    assert (own.found.tier if own.found else "none") == tier
    other = msgspec.structs.replace(item, created_at=0.0)
    assert (await tiers.find(other.query.key, 1e-9, scope="rival")).stale is False
    await tiers.aclose()
