"""Text -> its words, numbers, pieces of code and signs, in order and in one pass."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from gateway.semantic.lexicon import Lexicon

Kind = Literal["word", "number", "code", "character", "sign"]
_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff"
_LETTER: Final = rf"[^\W\d_{_HAN}]"
_TOKEN: Final = re.compile(
    rf"""
    (?P<code> (?<![\w.,])['’]?\d*0s\b
      | https?://[^\s<>"“”`，。）]+
      | (?<!\S)--?[A-Za-z][\w-]* | [A-Za-z]*\d*(?:_\w+)+ | [A-Za-z]\w*~\d+
      | (?<![^\W_])[a-z]+[A-Z]\w* | [A-Za-z_]\w*\[\w+\]
      | (?!(?:{_LETTER}\.){{2}}) {_LETTER}\w*(?:\.{_LETTER}\w*)+(?:/\w+)* | [A-Za-z]\w*::\w+ | {_LETTER}+\d\w* )
  | (?P<number> (?<![\w.,])[-−]?\d[\d.,:'’\u00a0\u202f]*\d(?:-\d\d?)*\.? | (?<![\w.,])[-−]\d | \d )
  | (?P<word> (?:{_LETTER}\.){{2,}} | {_LETTER}+(?:['’]{_LETTER}+)* )
  | (?P<character> [{_HAN}] )
  | (?P<end> [.!?:;…。！？：；\n] )
  | (?P<sign> [^\s\w,()"'’‘“”„«»「」『』`\[\]{{}}¿¡–—-] )
    """,
    re.VERBOSE,
)
_QUOTED: Final = re.compile(
    r'"([^"\n]{1,300})"|“([^”\n]{1,300})”|„([^“”\n]{1,300})[“”]|«([^»\n]{1,300})»|「([^」\n]{1,300})」|`([^`\n]{1,300})`'
    r"|(?<!\w)'([^'\n]{1,300})'(?!\w)|(?<=\w): +(\S[^\n]{0,300})"
)
"""What follows a colon is taken for quoted, too: it is what is to be done something with."""


class Token(msgspec.Struct, frozen=True):
    """A piece of a text."""

    text: str
    folded: str
    """In lower case, without what an apostrophe joins to it; a phrase that the lexicon knows has `_` for blanks."""
    kind: Kind
    first: bool = False
    """Whether a sentence begins with it."""
    glued: bool = False
    """Whether it follows the one before without anything between."""

    @property
    def is_denied(self) -> bool:
        """Whether it is a verb and its own negation, as `don't` is."""
        return self.folded.endswith("n't")

    @property
    def is_capital(self) -> bool:
        """Whether it is written as names are."""
        return self.kind == "word" and self.text[0].isupper()


def tokens(text: str, lexicon: Lexicon) -> Sequence[Token]:
    """The tokens of `text`."""
    return _phrased(list(_found(text)), lexicon)


def quotations(text: str) -> frozenset[str]:
    """What stands in quotation marks or backticks in it, as written but for the blanks around."""
    return frozenset(inner.strip() for groups in _QUOTED.findall(text) for inner in groups if inner.strip())


def plain(text: str) -> str:
    """The same text in one form: composed, with plain apostrophes and single blanks."""
    composed = unicodedata.normalize("NFC", text).replace("’", "'")
    lines = (" ".join(line.split()) for line in composed.splitlines())
    return "\n".join(line for line in lines if line)


def _found(text: str) -> Iterator[Token]:
    first, before = True, -1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "end":
            first = True
            continue
        said = match[0]
        if kind == "code":
            said = said.rstrip(".,;:!?)")
        folded = _folded(said) if kind == "word" else said if kind == "code" else said.casefold()
        yield Token(said, folded, kind, first, match.start() == before)  # pyright: ignore[reportArgumentType] a group's name
        first, before = False, match.end()


def _folded(word: str) -> str:
    folded = word.casefold().replace(".", "")
    head, apostrophe, tail = folded.partition("'")
    if not apostrophe or folded.endswith("n't") or folded == "aujourd'hui":
        return folded
    return tail if len(head) <= 2 else head


def _phrased(found: Sequence[Token], lexicon: Lexicon) -> list[Token]:
    phrased: list[Token] = []
    place = 0
    while place < len(found):
        length = next((n for n in (4, 3, 2) if _joined(found[place : place + n], n, lexicon)), 1)
        taken = found[place : place + length]
        if length > 1:
            mark = "" if taken[0].kind == "character" else "_"
            merged = Token(
                " ".join(t.text for t in taken), mark.join(t.folded for t in taken), taken[0].kind, taken[0].first
            )
            taken = [merged]
        phrased += taken
        place += length
    return phrased


def _joined(taken: Sequence[Token], length: int, lexicon: Lexicon) -> bool:
    if len(taken) < length:
        return False
    if all(token.kind == "character" for token in taken):
        return "".join(token.folded for token in taken) in lexicon.unspaced
    return "_".join(token.folded for token in taken) in lexicon.phrases
