"""Parts of a text: all of it, none too long, and the same ones after an edit elsewhere."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.splitting import split

MOST = 1000
PIECES = st.sampled_from(
    ["a", "Wort ", "\n", "\r\n", "\n\n", "\f", "# Head\n", "é", "e\u0301", "👩‍👩‍👧", "\u2028", "\ud800", "長い"]
)


def parts(text: str, most: int = MOST) -> list[str]:
    """What stands in each."""
    return [span.of(text) for span in split(text, most)]


def note(seed: int, paragraphs: int) -> list[str]:
    """Paragraphs of very different lengths, with a heading now and then."""
    chance = random.Random(seed)
    made: list[str] = []
    for number in range(paragraphs):
        if chance.random() < 0.1:
            made.append(f"## Visit {number}")
        words = chance.randint(3, 120)
        made.append(" ".join(f"w{chance.randrange(5000)}" for _ in range(words)) + ".")
    return made


@given(st.lists(PIECES, max_size=300).map("".join), st.integers(1, 60))
def test_nothing_is_left_out(text: str, most: int) -> None:
    """Whatever the text; and a part is too long only where there is nothing to divide it at."""
    spans = split(text, most)
    assert "".join(span.of(text) for span in spans) == text
    for part in (span.of(text).strip() for span in spans):
        assert len(part) <= most or sum(bool(line.strip()) for line in re.split(r"[\r\n\f]", part)) <= 1


def test_parts_are_neither_too_long_nor_many_more_than_they_must_be() -> None:
    """On average they are more than half full."""
    text = "\n\n".join(note(1, 500))
    assert len(text) > 150_000
    spans = split(text, MOST)
    assert max(span.length for span in spans) <= MOST
    assert len(spans) < 2 * len(text) / MOST


def test_a_part_begins_with_its_heading() -> None:
    """Where there is one nearby."""
    made = note(2, 500)
    text = "\n\n".join(made)
    begin = [part for part in parts(text) if part.startswith("## ")]
    assert len(begin) > 0.5 * sum(one.startswith("## ") for one in made)


def edited(made: list[str], at: int, how: str) -> list[str]:
    """The same paragraphs, one of them changed."""
    words = made[at].split(" ")
    words[len(words) // 2] = "changed"
    new = {
        "a word": [" ".join(words)],
        "more": [made[at] + " And one more thing."],
        "new": ["Something else."],
        "none": [],
    }
    return made[:at] + new[how] + made[at + 1 :]


@pytest.mark.parametrize(("how", "share"), [("a word", 0.96), ("more", 0.98), ("new", 0.8), ("none", 0.85)])
def test_who_edits_a_paragraph_changes_two_parts_at_most(how: str, share: float) -> None:
    """In a text of 200 KB: nearly always, and where all of a paragraph is another one, mostly."""
    changed: list[int] = []
    for seed in range(5):
        made, chance = note(seed, 600), random.Random(seed)
        before = set(parts("\n\n".join(made)))
        for _ in range(20):
            after = edited(made, chance.randrange(len(made)), how)
            changed.append(len(set(parts("\n\n".join(after))) - before))
    assert sum(count <= 2 for count in changed) >= share * len(changed), changed
    assert max(changed) <= 6, changed


def test_white_space_at_the_beginning_is_no_part() -> None:
    """However much of it there is, nobody is asked about it."""
    assert parts("\n\n\n" + "a" * 8 + "\n\n" + "b" * 8, 10) == ["\n\n\n" + "a" * 8 + "\n\n", "b" * 8]
    for text in (" \n\n" * 500 + "word", "\n" * 50 + "# Head\n\nword"):
        assert all(part.strip() for part in parts(text, 3))


def test_a_text_that_was_never_divided_is_one_part() -> None:
    """However long it is: sentences are somebody else's affair."""
    assert parts("word " * 1000) == ["word " * 1000]
    assert parts("") == []
    assert parts(" \n\n ") == [" \n\n "]
    with pytest.raises(ValueError, match="at least one"):
        split("a", 0)


@pytest.mark.parametrize("part", [" ", "\n", " \n", "\r", "\f", "---", "A", "\n\n", "#", "\n\n---   ", "1."])
def test_no_text_takes_long(part: str) -> None:
    """However often the same comes again."""
    assert "".join(parts(part * 200_000)) == part * 200_000


def test_lines_are_ends_where_a_paragraph_is_too_long() -> None:
    """A table, say, whatever ends its lines."""
    for end in ("\n", "\r\n", "\r"):
        text = end.join(f"| row {number} | {number * 7} |" for number in range(200))
        assert max(map(len, parts(text))) <= MOST
        assert all(part.startswith("| row") for part in parts(text))
