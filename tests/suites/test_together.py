"""Where hardly anything is found nearby, tiers are asked at the same time; where something is, one after the other."""

import asyncio

from storage.entry import Entry
from storage.guard import GuardedTier
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.suites.entries import made
from tests.suites.marks import nothing_invalidated
from tests.suites.test_walk import Store


class Order(Store):
    """Says when it is asked, and when it answers."""

    said: list[str]

    async def ping(self) -> None:
        """Take its time."""
        self.said.append(f"{self.name} is asked")
        await asyncio.sleep(0.01)
        self.said.append(f"{self.name} answers")
        if self.state == "down":
            raise OSError("down")

    def down(self) -> None:
        """Answer no more."""
        self.state = "down"


def stores() -> tuple[Order, Order]:
    """Two, which say it to the same list."""
    near, far = Order("redis"), Order("postgres")
    near.said = far.said = []
    return near, far


def above(*lower: Order) -> Tiers:
    """All tiers."""
    guarded = [GuardedTier(store, 5, lambda *_: None) for store in lower]
    return Tiers(MemoryTier(0), guarded, nothing_invalidated(), lambda _: None)


async def asked(tiers: Tiers, *items: Entry) -> list[str]:
    """Which tier had each of them."""
    found = [await tiers.find(item.query.key) for item in items]
    return [looked.found.tier if looked.found else "" for looked in found]


async def test_both_are_asked_at_once_where_nothing_is_near() -> None:
    """After a while of misses; what only the record has is found in it."""
    near, far = stores()
    tiers = above(near, far)
    kept = made("kept")
    far.kept[kept.query.key] = kept
    await asked(tiers, *(made(str(number)) for number in range(150)))
    near.said.clear()
    assert await asked(tiers, kept) == ["postgres"]
    assert near.said == ["redis is asked", "postgres is asked", "redis answers", "postgres answers"]
    await tiers.aclose()


async def test_one_is_asked_after_the_other_where_something_is_near() -> None:
    """The nearest is the one that gives it; one that was found is enough to ask in order again."""
    near, far = stores()
    tiers = above(near, far)
    kept = made("kept")
    near.kept[kept.query.key] = far.kept[kept.query.key] = kept
    await asked(tiers, *(made(str(number)) for number in range(150)))
    assert await asked(tiers, kept) == ["redis"]
    near.said.clear()
    assert await asked(tiers, kept, made("none")) == ["redis", ""]
    assert near.said == [
        f"{name} {does}" for name in ("redis", "redis", "postgres") for does in ("is asked", "answers")
    ]
    await tiers.aclose()


async def test_a_tier_that_is_down_is_passed_over() -> None:
    """Whichever it is; what was asked of it for nothing is no fault of anybody's."""
    for broken, holding in ((0, "postgres"), (1, "redis")):
        both = stores()
        tiers = above(*both)
        kept = made("kept")
        for store in both:
            store.kept[kept.query.key] = kept
        await asked(tiers, *(made(str(number)) for number in range(150)))
        both[broken].down()
        assert await asked(tiers, kept) == [holding]
        await tiers.aclose()
