"""Chunks have all that is said, in order, none too long; where a line has to be divided LangExtract does it."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langextract.chunking import ChunkIterator
from langextract.core.tokenizer import UnicodeTokenizer

from extractors.chunking import chunks, plain

LETTERS = st.sampled_from(
    ["a", "B", "é", "e\u0301", "阿", "👩‍⚕️", ".", "!", "1", " ", "\t", "\n", "\r\n", "\n\n", "\u2028", "\u00a0"]
)
TEXTS = st.lists(LETTERS, max_size=200).map("".join)


@given(text=TEXTS, most=st.integers(5, 80))
def test_nothing_that_is_said_is_left_out(text: str, most: int) -> None:
    """Between chunks there is white space alone; each says its number, its place and its digest."""
    at = 0
    for number, chunk in enumerate(chunks(text, most)):
        assert not text[at : chunk.start].strip()
        assert chunk.index == number
        assert chunk.of(text) == chunk.of(text).strip() != ""
        assert chunk.sha256 == hashlib.sha256(chunk.of(text).encode()).digest()
        at = chunk.end
    assert not text[at:].strip()


@given(
    text=st.lists(st.sampled_from(["One two. ", "three ", "four!\n", "\n\n", "阿司匹林 "]), max_size=60).map("".join)
)
def test_no_chunk_is_too_long_where_words_are_not(text: str) -> None:
    """Lines are divided between sentences, or between words."""
    assert all(chunk.end - chunk.start <= 30 for chunk in chunks(text, 30))


@given(text=TEXTS, most=st.integers(5, 80))
def test_where_a_text_has_its_ends_langextract_is_not_needed(text: str, most: int) -> None:
    """And the chunks are the same."""
    assert plain(text, most) in (None, chunks(text, most))


@given(text=TEXTS)
def test_what_fits_is_one_chunk_to_langextract_too(text: str) -> None:
    """So that its prompt is the one that LangExtract would make."""
    said = text.strip()
    if not said or (found := plain(text, 1000)) is None:
        return
    (ours,) = found
    theirs = list(ChunkIterator(text, 1000, UnicodeTokenizer()))
    assert [ours.of(text)] == [chunk.chunk_text for chunk in theirs]


def test_a_line_that_is_too_long_is_langextracts_to_divide() -> None:
    """At its sentences."""
    line = "The first sentence is here. The second one follows it. And a third comes last."
    assert plain(line, 40) is None
    assert [chunk.of(line) for chunk in chunks(line, 40)] == [
        chunk.chunk_text for chunk in ChunkIterator(line, 40, UnicodeTokenizer())
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\n\t"])
def test_where_nothing_is_said_there_is_no_chunk(text: str) -> None:
    """And nothing to ask."""
    assert chunks(text, 100) == []
