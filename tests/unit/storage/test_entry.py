"""Entries as bytes, and back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import entry, vector
from storage.entry import Chunk, Entry, Usage
from tests.suites.entries import CHUNKS, ENTRIES, SPECIAL, USAGES, made


@given(ENTRIES)
def test_an_entry_comes_back_as_it_was(item: Entry) -> None:
    """Every field, whatever it holds."""
    assert entry.decode(entry.encode(item)) == item


@pytest.mark.parametrize("item", SPECIAL.values(), ids=SPECIAL)
def test_a_special_entry_comes_back_as_it_was(item: Entry) -> None:
    """NUL, huge texts and their like."""
    assert entry.decode(entry.encode(item)) == item


@given(st.lists(CHUNKS, max_size=5).map(tuple))
def test_steps_come_back_as_they_were(chunks: tuple[Chunk, ...]) -> None:
    """With their boundaries."""
    assert entry.decode_steps(entry.encode_steps(chunks)) == chunks


@given(st.binary(max_size=100))
def test_other_bytes_are_no_entry(data: bytes) -> None:
    """And are told apart by one kind of error."""
    with pytest.raises(msgspec.DecodeError):
        entry.decode(data)


@given(ENTRIES, st.data())
def test_a_damaged_entry_is_another_or_none(item: Entry, data: st.DataObject) -> None:
    """Flipped bytes raise nothing else either."""
    whole = bytearray(entry.encode(item))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        entry.decode(bytes(whole))
    except msgspec.DecodeError:
        return


def test_a_cut_entry_is_none() -> None:
    """At any length."""
    whole = entry.encode(made("x", "a", "b"))
    for length in range(len(whole)):
        with pytest.raises(msgspec.DecodeError):
            entry.decode(whole[:length])


@given(USAGES, USAGES, USAGES)
def test_usages_add_up(one: Usage, two: Usage, three: Usage) -> None:
    """In any grouping; unknown counts stay unknown only where nobody knew."""
    assert (one + two) + three == one + (two + three)
    assert one + Usage() == one


def test_token_ids_are_whole_or_none() -> None:
    """Never a partial list."""
    whole = (
        Chunk(content="a", token_ids=(1, 2)),
        Chunk(finish_reason="stop", token_ids=(3,)),
        Chunk(usage=Usage(1, 3)),
    )
    assert made("x", chunks=whole).token_ids() == [1, 2, 3]
    assert made("x", chunks=(*whole, Chunk(content="b"))).token_ids() is None
    assert made("x", chunks=whole).token_ids(1) is None


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_vectors_come_back_as_they_were(values: list[float]) -> None:
    """As float32s, four bytes each."""
    assert vector.unpacked(vector.packed(values)) == values
    assert len(vector.packed(values)) == 4 * len(values)


@pytest.mark.parametrize("value", [1e300, -1e39, float("inf"), float("-inf"), float("nan")])
def test_numbers_that_32_bits_cannot_hold_are_no_vector(value: float) -> None:
    """Wherever they stand, and though another may undo them in a sum."""
    with pytest.raises(ValueError, match="32 bits"):
        vector.packed([0.5, value, -value])
