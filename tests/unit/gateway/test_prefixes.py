"""Prefix blocks: what two prompts share, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import prefixes

TEXTS = st.binary(max_size=6000)


def shared(one: bytes, other: bytes) -> int:
    """How many blocks two prompts have in common, from the first on."""
    pairs = zip(prefixes.blocks(one, b""), prefixes.blocks(other, b""), strict=False)
    return next((number for number, (left, right) in enumerate(pairs) if left != right), min(lengths(one, other)))


def lengths(*prompts: bytes) -> list[int]:
    """How many blocks each has."""
    return [len(prefixes.blocks(prompt, b"")) for prompt in prompts]


@given(TEXTS, TEXTS, TEXTS)
def test_prompts_share_the_whole_blocks_of_their_common_beginning(beginning: bytes, one: bytes, other: bytes) -> None:
    """However they go on."""
    left, right = beginning + b"1" + one, beginning + b"2" + other  # they part right after it
    assert shared(left, right) == prefixes.within(len(beginning))


@given(TEXTS, st.binary(min_size=1, max_size=50), st.binary(min_size=1, max_size=50))
def test_other_seeds_share_nothing(prompt: bytes, one: bytes, other: bytes) -> None:
    """Another tenant's cache is no use."""
    if one == other:
        return
    assert not set(prefixes.blocks(prompt, one)) & set(prefixes.blocks(prompt, other))


@given(st.integers(0, 3_000_000))
def test_blocks_and_bytes_are_counted_alike(length: int) -> None:
    """What is within a length ends within it, and one block more would not."""
    count = prefixes.within(length)
    assert prefixes.end_of(count) <= length
    assert prefixes.within(prefixes.end_of(count)) == count
    assert length >= 2**20 or prefixes.end_of(count + 1) > length


def test_a_very_long_prompt_has_few_blocks() -> None:
    """A choice among replicas must not cost what reading the prompt does."""
    assert lengths(bytes(2**20), bytes(2**22)) == [prefixes.within(2**20)] * 2
    assert prefixes.within(2**20) < 400
