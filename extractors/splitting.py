"""A text in, the parts that a model is asked about out, one after the other and with nothing left out.

Parts end where the text has an end: before a heading, between paragraphs, between lines, where a part would be too long
otherwise. Which of these ends are taken is decided by what stands there and not by how far it is from the beginning, so
that who edits one paragraph changes the part that has it, and rarely its neighbour, and all others stay what they were.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

_BAND: Final = 0.3
_BEGINNING: Final = 24
_HEADING: Final = re.compile(r"#{1,6} |[=-]{3,}\s*$|(?:\d+\.)+\s+\S|[^\W\d_a-zà-ÿ][^a-zà-ÿ\n]{3,60}$", re.MULTILINE)
_PARAGRAPH: Final = re.compile(r"(?:\r\n|\n|\r)(?:[^\S\n\r]*(?:\r\n|\n|\r))+|\f\s*")
_LINE: Final = re.compile(r"\r\n|\n|\r")


class Span(msgspec.Struct, frozen=True, order=True):
    """A stretch of a text, in code points."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """What stands there."""
        return text[self.start : self.end]

    @property
    def length(self) -> int:
        """In code points."""
        return self.end - self.start


class _Cut(msgspec.Struct, frozen=True):
    """Where a text may be divided: the least of them are taken first."""

    weight: int
    digest: bytes
    at: int


def split(text: str, most: int) -> list[Span]:
    """Parts of `text` of at most `most` code points each, as far as it has ends to be divided at: a line that is longer
    is a part of its own. Together they are the whole text. What has nothing but white space is joined to the part
    before it, at the beginning to the one after it, and not counted.

    Raises `ValueError` unless `most` is positive.
    """
    if most < 1:
        message = "A part has at least one code point."
        raise ValueError(message)
    spans = list(_divided(Span(0, len(text)), _paragraphs(text), most))
    return _joined(text, [part for span in spans for part in _lines(text, span, most)])


def _divided(whole: Span, cuts: Sequence[_Cut], most: int) -> Iterator[Span]:
    """`whole`, divided at some of `cuts`, which are in their order."""
    waiting = [(whole, cuts)]
    while waiting:
        span, inner = waiting.pop()
        if span.length <= most or not inner:
            if span.length:
                yield span
            continue
        place = _chosen(span, inner)
        at = inner[place].at
        waiting.append((Span(at, span.end), inner[place + 1 :]))
        waiting.append((Span(span.start, at), inner[:place]))


def _chosen(span: Span, cuts: Sequence[_Cut]) -> int:
    """The least of those not far from the middle, or else the nearest to it: a good part is left on both sides."""
    middle = (span.start + span.end) / 2
    near = [place for place, cut in enumerate(cuts) if abs(cut.at - middle) <= _BAND * span.length]
    if near:
        return min(near, key=lambda place: (cuts[place].weight, cuts[place].digest, abs(cuts[place].at - middle)))
    return min(range(len(cuts)), key=lambda place: abs(cuts[place].at - middle))


def _paragraphs(text: str) -> list[_Cut]:
    """Where paragraphs begin, but for the first."""
    return _cuts(text, [found.end() for found in _PARAGRAPH.finditer(text) if found.end() < len(text)], len(text))


def _cuts(text: str, starts: Sequence[int], end: int) -> list[_Cut]:
    """One before each of these starts, but for the first thing in the text."""
    ends = [*starts[1:], end] if starts else []
    return [_cut(text, start, end) for start, end in zip(starts, ends, strict=True)]


def _cut(text: str, start: int, end: int) -> _Cut:
    said = text[start : min(end, start + _BEGINNING)].encode(errors="surrogatepass")
    return _Cut(0 if _HEADING.match(text, start) else 1, hashlib.sha256(said).digest()[:8], start)


def _lines(text: str, span: Span, most: int) -> Iterator[Span]:
    """A paragraph that is too long, divided between its lines."""
    if span.length <= most:
        yield span
        return
    starts = [found.end() for found in _LINE.finditer(text, span.start, span.end) if found.end() < span.end]
    yield from _divided(span, _cuts(text, starts, span.end), most)


def _joined(text: str, spans: Sequence[Span]) -> list[Span]:
    """`spans` without those that have only white space, unless there is nothing else."""
    found: list[Span] = []
    nothing_yet = True
    for span in spans:
        is_blank = not span.of(text).strip()
        if found and (is_blank or nothing_yet):
            found[-1] = Span(found[-1].start, span.end)
        else:
            found.append(span)
        nothing_yet &= is_blank
    return found
