"""Precision, recall and F1, by hand and by property."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.grounded import Grounded
from extractors.scoring import Score, Scores, scores


def record(name: str, start: int | None, end: int | None, **attributes: Any) -> Grounded:
    """One."""
    return Grounded(name=name, text="x", start=start, end=end, attributes=attributes)


def test_a_number_is_the_same_however_it_is_written() -> None:
    """Also within lists and objects; what is true is no number."""
    good = [record("a", 0, 5, n=5, many=[1, {"x": 2.0}], sure=True, big=2**60)]
    same = [record("a", 0, 5, n=5.0, many=[1.0, {"x": 2}], sure=True, big=2**60)]
    assert scores(good, same).attributes.f1 == 1.0
    for wrong in ({"n": 5.5}, {"n": "5"}, {"sure": 1}, {"big": 2.0**60}):
        assert scores(good, [record("a", 0, 5, **((same[0].attributes or {}) | wrong))]).attributes.right == 3


RECORDS = st.lists(
    st.builds(
        lambda name, start, length, dose: record(name, start, start + length, dose=dose),
        st.sampled_from("ab"),
        st.integers(0, 30),
        st.integers(1, 5),
        st.sampled_from(["", "1", "2"]),
    ),
    max_size=8,
)


def test_by_hand() -> None:
    """One at its place, one beside it, one of another class, one too many, one nowhere."""
    wanted = [record("a", 0, 5, dose="1", way=""), record("a", 10, 15, dose="2"), record("b", 20, 25)]
    found = [
        record("a", 0, 5, dose="1", way="x"),
        record("a", 11, 15, dose="2"),
        record("c", 20, 25),
        record("a", 12, 14),
        record("b", None, None),
    ]
    made = scores(wanted, found)
    assert made == Scores(Score(3, 5, 1), Score(3, 5, 2), Score(2, 3, 1))
    assert (made.strict.precision, made.strict.recall) == (0.2, pytest.approx(1 / 3))
    assert made.strict.f1 == pytest.approx(0.25)
    assert Scores().strict.f1 == 1.0
    assert (made + made).overlap == Score(6, 10, 4)


def pairs(wanted: list[Grounded], found: list[Grounded]) -> int:
    """The most pairs that overlap, by trying."""
    taken: dict[int, int] = {}

    def finds(number: int, tried: set[int]) -> bool:
        one = wanted[number]
        for place, other in enumerate(found):
            if place in tried or one.name != other.name or not (one.start < other.end and other.start < one.end):
                continue
            tried.add(place)
            if place not in taken or finds(taken[place], tried):
                taken[place] = number
                return True
        return False

    return sum(finds(number, set()) for number in range(len(wanted)))


@given(RECORDS, RECORDS)
def test_as_many_overlap_as_can(wanted: list[Grounded], found: list[Grounded]) -> None:
    """Whichever takes which."""
    assert scores(wanted, found).overlap.right == pairs(wanted, found)


@given(RECORDS, RECORDS)
def test_it_is_a_score(wanted: list[Grounded], found: list[Grounded]) -> None:
    """Whole for the same, the same in both directions, and never more for a stricter look."""
    assert all(one.f1 == 1.0 for one in (scores(wanted, wanted).strict, scores(wanted, wanted).overlap))
    made, turned = scores(wanted, found), scores(found, wanted)
    assert (made.strict.f1, made.attributes.f1) == (turned.strict.f1, turned.attributes.f1)
    assert 0 <= made.strict.right <= made.overlap.right <= min(len(wanted), len(found))
