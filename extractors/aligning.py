"""What a model said of chunks in, records with their places in the document out, by LangExtract's aligner.

Only a process that aligns imports this: LangExtract takes a second to import, and a hundred megabytes, and a text with
many words that are nearly in the chunk takes its time.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from langextract.core.data import Extraction
from langextract.core.tokenizer import UnicodeTokenizer
from langextract.resolver import Resolver

from extractors.grounded import Grounded
from extractors.passages import Passage
from extractors.reading import Said

_LONG: Final = 400
"""Code points from which on words that are not found letter by letter are not looked for any more: LangExtract's search
takes the square of them, and what a model says at such length and is not there was made up.
"""
_MARK: Final = "\u241f"
"""LangExtract puts it between records, and refuses them all where one has it."""


def aligned(passages: Sequence[Passage], *, exactly: bool = False) -> list[tuple[Grounded, ...]]:
    """Of each passage its records, in the order in which they were said. What is not found has no place; `exactly`, nor
    what is only nearly there.
    """
    tokenizer = UnicodeTokenizer()  # it knows where words end that no space parts, and costs little more
    longest = 0 if exactly else _LONG
    return [_aligned(passage, tokenizer, longest) for passage in passages]


def _aligned(passage: Passage, tokenizer: UnicodeTokenizer, longest: int) -> tuple[Grounded, ...]:
    found = [_extraction(said) for said in passage.said]
    sayable = [one for one in found if _MARK not in one.extraction_text]
    is_long = any(len(one.extraction_text) > longest for one in sayable)
    with suppress(ValueError):  # there is nothing that it takes for a word
        _align(sayable, passage, tokenizer, fuzzy=not is_long)
    for one in sayable if is_long else ():
        if one.char_interval is None and len(one.extraction_text) <= longest:
            with suppress(ValueError):
                _align([one], passage, tokenizer, fuzzy=True)
    return tuple(_grounded(said, one) for said, one in zip(passage.said, found, strict=True))


def _align(found: Sequence[Extraction], passage: Passage, tokenizer: UnicodeTokenizer, *, fuzzy: bool) -> None:
    """Have each of `found` say where it stands."""
    aligned: Iterable[Extraction] = Resolver().align(
        found, passage.text, 0, passage.start, enable_fuzzy_alignment=fuzzy, tokenizer_inst=tokenizer
    )
    for _ in aligned:
        pass


def _extraction(said: Said) -> Extraction:
    return Extraction(extraction_class=said.name, extraction_text=said.text)


def _grounded(said: Said, found: Extraction) -> Grounded:
    place, status = found.char_interval, found.alignment_status
    return Grounded(
        name=said.name,
        text=said.text,
        attributes=said.attributes,
        start=place.start_pos if place else None,
        end=place.end_pos if place else None,
        alignment=status.value if place and status else None,
        group=said.group,
    )
