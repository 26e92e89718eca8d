"""A text in, the passages that are searched out: parts of `splitting`, without white space at their ends.

Unlike the chunks that a model is asked about, no passage is ever too long for a model that embeds, and none takes
LangExtract: a long line is divided between sentences, between words where there is no sentence's end, and anywhere
where there is no space either. A page's end is always one. A heading stands in the passage of what follows it. Nothing
is repeated: what a passage says is what its document says at that place.
"""

import re
from collections.abc import Iterator
from typing import Final

from extractors.splitting import Span, split

DIVIDER: Final = "passages/2"
"""The version of all that decides where passages begin and end."""
MOST: Final = 1000
"""Code points of a passage: about 250 tokens, of which sentence models read 256 or 512."""
_LEAST: Final = 0.4
"""A line is divided no sooner than after so much of what a passage may have."""
_PAGE_END: Final = "\f"
_SENTENCE: Final = re.compile(r"[.!?…]['\"”’»)\]]*\s+|[。！？]['\"”’»」』）]*\s*")
_WORD: Final = re.compile(r"\s+")


def divided(text: str, most: int = MOST) -> list[Span]:
    """The passages of `text`, in its order, none longer than `most` code points; none where nothing is said.

    Raises `ValueError` unless `most` is positive.
    """
    parts = (_trimmed(piece, text) for part in _parts(text, most) for piece in _pieces(text, part, most))
    return [part for part in parts if part.length]


def by_length(text: str, most: int = MOST) -> list[Span]:
    """Passages that end wherever they are long enough: for a text that takes too long to be looked at."""
    parts = (_trimmed(Span(start, min(start + most, len(text))), text) for start in range(0, len(text), most))
    return [part for part in parts if part.length]


def _parts(text: str, most: int) -> Iterator[Span]:
    """The parts of each page."""
    start = 0
    while start <= len(text):
        end = text.find(_PAGE_END, start)
        end = len(text) if end < 0 else end
        page = text[start:end] if start or end < len(text) else text
        yield from (Span(start + part.start, start + part.end) for part in split(page, most))
        start = end + 1


def _pieces(text: str, part: Span, most: int) -> Iterator[Span]:
    """A part, divided where it is one line that is too long."""
    start = part.start
    while part.end - start > most:
        end = _end(text, start, most)
        yield Span(start, end)
        start = end
    yield Span(start, part.end)


def _end(text: str, start: int, most: int) -> int:
    """Where what begins at `start` is best divided."""
    first, last = start + max(1, int(_LEAST * most)), start + most
    for ends in (_SENTENCE, _WORD):
        if found := [one.end() for one in ends.finditer(text, first, last)]:
            return found[-1]
    return last


def _trimmed(span: Span, text: str) -> Span:
    said = span.of(text)
    start = span.start + len(said) - len(said.lstrip())
    return Span(start, max(start, span.start + len(said.rstrip())))
