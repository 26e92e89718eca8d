"""The nearest tier: bounded, and never changed."""

from hypothesis import given
from hypothesis import strategies as st

from storage import entry
from storage.entry import Encoded
from storage.memory import MemoryTier
from tests.suites.entries import made


def test_the_first_answer_stays() -> None:
    """A second answer to the same question is not kept."""
    tier = MemoryTier(10_000)
    tier.put(Encoded.of(made("a", "first")))
    tier.put(Encoded.of(made("a", "second")))
    found = tier.get(made("a").query.key)
    assert found is not None
    assert found.text() == "first"


def test_what_is_larger_than_everything_is_not_kept() -> None:
    """And nothing else has to go for it."""
    tier = MemoryTier(2_000)
    tier.put(Encoded.of(made("small", "x")))
    tier.put(Encoded.of(made("large", "x" * 5_000)))
    assert tier.get(made("small").query.key) is not None
    assert tier.get(made("large").query.key) is None


def test_bytes_that_are_no_entry_are_let_go_of() -> None:
    """Whoever relied on them hears of it; another one may take their place."""
    tier, whole = MemoryTier(10_000), Encoded.of(made("a", "x"))
    for data in (whole.data[: entry.HEAD_BYTES] + b"damaged", Encoded.of(made("b", "x")).data):
        damaged = Encoded(whole.key, data)
        tier.put(damaged)
        before = tier.replaced
        assert tier.get(whole.key) is None
        assert not tier.has(whole.key, damaged.data)
        assert tier.replaced > before
    tier.put(whole)
    assert tier.get(whole.key) == made("a", "x")


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3_000)), max_size=60))
def test_the_bound_holds(puts: list[tuple[int, int]]) -> None:
    """Whatever comes, in whatever sizes."""
    tier = MemoryTier(10_000)
    for number, length in puts:
        tier.put(Encoded.of(made(str(number), "x" * length)))
        kept = [found for n in range(31) if (found := tier.get(made(str(n)).query.key)) is not None]
        assert sum(len(entry.encode(found)) for found in kept) <= 10_000


def test_the_least_recently_used_goes_first() -> None:
    """Reading counts as use."""
    items = [made(str(number), "x" * 500) for number in range(3)]
    tier = MemoryTier(2 * (len(entry.encode(items[0])) + 250))
    tier.put(Encoded.of(items[0]))
    tier.put(Encoded.of(items[1]))
    assert tier.get(items[0].query.key) == items[0]
    tier.put(Encoded.of(items[2]))
    assert tier.get(items[1].query.key) is None
    assert tier.get(items[0].query.key) == items[0]


def test_what_was_seen_not_to_count_gives_way() -> None:
    """Though its number is larger: it may be one that another database gave, or have tags that the new one has not."""
    tier, dead = MemoryTier(10_000), made("a", "dead", epoch=9)
    tier.put(Encoded.of(dead))
    tier.put(Encoded.of(made("a", "new", epoch=5), over=[entry.head(made("a", "another", epoch=8))]))
    assert tier.get(dead.query.key) == dead
    tier.put(Encoded.of(made("a", "new", epoch=5), over=[entry.head(dead)]))
    found = tier.get(dead.query.key)
    assert found is not None
    assert found.text() == "new"
