"""A text in, the chunks that a model is asked about out: parts of `splitting`, without white space at their ends.

A part that is one line and too long is divided by LangExtract's chunker, between sentences or between words. That takes
LangExtract, which is imported only then: see `plain`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from extractors.splitting import Span, split

CHUNKER: Final = "askonce/1"
"""The version of all that decides where chunks begin and end."""


class Chunk(msgspec.Struct, frozen=True):
    """One stretch of a text, in code points."""

    index: int
    start: int
    end: int
    sha256: bytes
    """Of its words as UTF-8."""

    def of(self, text: str) -> str:
        """What stands there."""
        return text[self.start : self.end]


def plain(text: str, most: int) -> list[Chunk] | None:
    """What `chunks` gives, where the text has all the ends that it needs, and None where it takes LangExtract.

    Raises `ValueError` unless `most` is positive.
    """
    parts = _parts(text, most)
    return _chunks(text, parts) if all(part.length <= most for part in parts) else None


def chunks(text: str, most: int) -> list[Chunk]:
    """The chunks of `text`, of `most` code points at most unless one word is longer; none where nothing is said.

    Raises `ValueError` unless `most` is positive.
    """
    return _chunks(text, _spans(text, most))


def _chunks(text: str, spans: Iterable[Span]) -> list[Chunk]:
    return [_chunk(index, span, text) for index, span in enumerate(spans)]


def _chunk(index: int, span: Span, text: str) -> Chunk:
    said = span.of(text).encode(errors="surrogatepass")
    return Chunk(index, span.start, span.end, hashlib.sha256(said).digest())


def _spans(text: str, most: int) -> Iterator[Span]:
    for part in _parts(text, most):
        if part.length <= most:
            yield part
        else:
            yield from _divided(text, part, most)


def _parts(text: str, most: int) -> list[Span]:
    trimmed = (_trimmed(part, text) for part in split(text, most))
    return [part for part in trimmed if part.length]


def _trimmed(span: Span, text: str) -> Span:
    said = span.of(text)
    start = span.start + len(said) - len(said.lstrip())
    return Span(start, max(start, span.start + len(said.rstrip())))


def _divided(text: str, part: Span, most: int) -> Sequence[Span]:
    from langextract.chunking import ChunkIterator  # noqa: PLC0415 -- it takes a second, and is seldom needed
    from langextract.core.tokenizer import UnicodeTokenizer  # noqa: PLC0415

    found: Any = [chunk.char_interval for chunk in ChunkIterator(part.of(text), most, UnicodeTokenizer())]
    return [Span(part.start + place.start_pos, part.start + place.end_pos) for place in found]
