"""The labelled pairs: enough of every kind, the same ones each time, and no wording in both halves."""

from collections import Counter

import pytest

from tests.semantic.pairs import DIFFERENCES, PARAPHRASE, Half, items, pairs

HALVES: tuple[Half, ...] = ("tuning", "held_out")


@pytest.mark.parametrize("half", HALVES)
def test_there_are_enough_of_every_kind(half: Half) -> None:
    """At least 200 paraphrases, 800 others, and three of each difference; kinds have known names."""
    found = Counter(pair.kind for pair in pairs(half) if not pair.is_same)
    assert sum(pair.kind == PARAPHRASE for pair in pairs(half)) >= 200
    assert found.total() >= 800
    assert set(found) == DIFFERENCES
    assert min(found.values()) >= 3


@pytest.mark.parametrize("half", HALVES)
def test_pairs_are_two_and_labelled_once(half: Half) -> None:
    """No text is paired with itself, and no pair stands there twice, which could be with two labels."""
    made = pairs(half)
    assert [pair for pair in made if pair.left == pair.right] == []
    assert len({frozenset((pair.left, pair.right)) for pair in made}) == len(made)
    assert pairs(half) == made


def test_the_halves_share_no_text() -> None:
    """What judges has not been seen while choosing."""
    tuning, held_out = (
        {text for item in items(half) for text in (*item.same, *(near for _, near in item.near))} for half in HALVES
    )
    assert tuning & held_out == set()
