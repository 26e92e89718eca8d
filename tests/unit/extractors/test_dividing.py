"""Passages: all that is said, none too long, each exactly what its document says there."""

import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.dividing import MOST, by_length, divided

PIECES = st.sampled_from(
    ["a", "Wort ", "End. ", "終わり。", "\n", "\r\n", "\n\n", "\f", "# Head\n", "e\u0301", "👩‍👩‍👧", "\u2028", "x" * 70]
)


@given(st.lists(PIECES, max_size=200).map("".join), st.integers(1, 60))
def test_nothing_that_is_said_is_left_out_or_said_twice(text: str, most: int) -> None:
    """Whatever the text: what is between passages is white space."""
    spans = divided(text, most)
    assert [span for span in spans if not 0 < span.length <= most] == []
    assert spans == sorted(spans)
    assert all(one.end <= other.start for one, other in itertools.pairwise(spans))
    assert all(span.of(text) == span.of(text).strip() for span in spans)
    assert re.sub(r"\s", "", "".join(span.of(text) for span in spans)) == re.sub(r"\s", "", text)


def test_a_heading_stands_with_what_follows_it() -> None:
    """Not at the end of the passage before."""
    paragraphs = [f"## Part {number}\n\n{'word ' * 90}." for number in range(12)]
    text = "\n\n".join(paragraphs)
    for span in divided(text):
        assert span.of(text).startswith("## Part")


@pytest.mark.parametrize(("end", "joint"), [(".", " "), ("。", "")])
def test_a_long_line_is_divided_between_sentences(end: str, joint: str) -> None:
    """Each passage but the last ends with one."""
    text = joint.join(f"Sentence {number} says {'a lot ' * (number % 7)}of things{end}" for number in range(200))
    found = divided(text)
    assert len(found) > 5
    assert all(span.of(text).endswith(end) for span in found)


def test_a_line_without_sentences_is_divided_between_words() -> None:
    """And one without spaces anywhere."""
    words = "word " * 1000
    assert {word for span in divided(words) for word in span.of(words).split()} == {"word"}
    assert [span.length for span in divided("x" * 2500)] == [MOST, MOST, 500]


def test_an_edit_changes_few_passages() -> None:
    """Those that have it, and hardly a neighbour: the others need not be embedded again."""
    chance = random.Random(7)
    paragraphs = [" ".join(f"w{chance.randrange(999)}" for _ in range(chance.randint(5, 90))) for _ in range(200)]
    before = "\n\n".join(paragraphs)
    paragraphs[100] += " and one thing more"
    after = "\n\n".join(paragraphs)
    known = {span.of(before) for span in divided(before)}
    assert sum(span.of(after) not in known for span in divided(after)) <= 3


def test_no_passage_has_two_pages() -> None:
    """A page's end is one of a passage, so that each is on one page."""
    text = "Umbrella stand.\n\nAt the door.\fZeppelin parking.\f\fThe end."
    assert [span.of(text) for span in divided(text)] == [
        "Umbrella stand.\n\nAt the door.",
        "Zeppelin parking.",
        "The end.",
    ]


def test_by_length_everything_is_there() -> None:
    """Of a text that nobody could divide otherwise in time."""
    text = "word " * 1000
    found = by_length(text, 700)
    assert "".join(span.of(text) for span in found).replace(" ", "") == text.replace(" ", "")
    assert max(span.length for span in found) <= 700
