"""What the small words of a prompt say, and how it is written: tense, mood, persons, places, capitals and layout.

Such words have no meaning of their own, and change what is asked all the same: who was and who is, what must and what
can be done, mine and yours, on the box and in it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from gateway.semantic.lexicon import Lexicon, Words
from gateway.semantic.tokens import Token

Difference = Literal["tense", "modal", "person", "preposition", "case", "layout"]
FORMS: Final[Sequence[Difference]] = ("tense", "modal", "person", "preposition", "case", "layout")
"""All of them, in the order in which they are told."""
_TENSES: Final = frozenset({"past", "gone", "before", "future", "conditional"})
"""`gone` is German: its `was` asks for things, and is past in English."""
_PAST: Final = "past"
_ED: Final = "ed"
_MODALS: Final = frozenset({"possible", "perhaps", "obliged", "advised"})
_HARMLESS: Final = frozenset({"possible"})
"""How something can be done is asked without this word as well."""
_SPEAKERS: Final = frozenset({"first", "second"})
_OTHERS: Final = frozenset({"he", "she", "they"})
_I: Final = "i"
"""English has it large, and who types in haste small."""
_REACH: Final = 3
_GAP: Final = re.compile(r"(?<=\S)[^\S\n]{2,}(?=\S)")
_EXACT: Final = re.compile(r"[\"`“„«「]")
"""Where something is quoted, blanks may be what is asked about; elsewhere they are typed as they come."""


class Forms(msgspec.Struct, frozen=True):
    """How something is said."""

    said: Words
    """Classes of small words that are there."""
    governed: Mapping[str, Words]
    """Word -> the prepositions that it stands after."""
    only: Words
    """Words that `only` stands before."""
    written: Mapping[str, Words]
    """Word -> how it is written, but for a capital that a sentence begins with."""
    has_case: bool
    """Whether capitals mean something in it: there are some, and others without."""
    cases: tuple[str, ...]
    """Words that say who does it and to whom it is done, in their order."""
    layout: tuple[str, ...]
    """Indents of lines, where there are several, and wide gaps."""


def forms(text: str, found: Sequence[Token], lexicon: Lexicon) -> Forms:
    """How a text is said, whose tokens were `found`."""
    governed: dict[str, set[str]] = {}
    written: dict[str, set[str]] = {}
    only: set[str] = set()
    for place, token in enumerate(found):
        if token.kind == "word" and token.folded != _I and not (token.first and token.text.istitle()):
            written.setdefault(token.folded, set()).add(token.text)
        if token.folded in lexicon.prepositions and (word := _object(found, place, lexicon)):
            governed.setdefault(word, set()).add(token.folded)
        if lexicon.quantifiers.get(token.folded) == "only" and found[place + 1 : place + 2]:
            only.add(found[place + 1].folded)
    folded = frozenset(token.folded for token in found)
    said = {name for name, words in lexicon.small.items() if not folded.isdisjoint(words)}
    said |= {_PAST} if any(_is_gone_by(token, lexicon) for token in found) else set()
    return Forms(
        said=frozenset(said),
        governed=_frozen(governed),
        only=frozenset(only),
        written=_frozen(written),
        has_case=len({one.islower() for some in written.values() for one in some}) > 1,
        cases=tuple(token.folded for token in found if token.folded in lexicon.cases),
        layout=_layout(text),
    )


def differences(left: Forms, right: Forms, lexicon: Lexicon) -> Iterator[Difference]:
    """What differs. It knows no language: what is refused may be the same."""
    if left.said & _TENSES != right.said & _TENSES:
        yield "tense"
    if _modal(left.said & _MODALS, right.said & _MODALS):
        yield "modal"
    if _person(left.said, right.said) or left.cases != right.cases:
        yield "person"
    if left.only != right.only or _parted(left.governed, right.governed):
        yield "preposition"
    if _written_otherwise(left, right, lexicon):
        yield "case"
    if left.layout != right.layout:
        yield "layout"


def _is_gone_by(token: Token, lexicon: Lexicon) -> bool:
    """Whether it is a verb's form that says that something was."""
    if token.kind != "word":
        return False
    ends = token.folded.endswith(_ED) and len(token.folded) > len(_ED) + 2 and token.folded not in lexicon.not_gone_by
    return ends or token.folded in lexicon.gone_by


def _written_otherwise(left: Forms, right: Forms, lexicon: Lexicon) -> bool:
    """Whether capitals make a difference. Where one of the two is typed without care, a large first letter does in few
    words alone.
    """
    careful = left.has_case and right.has_case
    return any(
        some.isdisjoint(other := right.written.get(word, some))
        and (careful or word in lexicon.capital or any(one.isupper() for one in some | other))
        for word, some in left.written.items()
    )


def _object(found: Sequence[Token], place: int, lexicon: Lexicon) -> str:
    """The word that a preposition is about: the next that has a meaning of its own, or is a person."""
    for token in found[place + 1 : place + 1 + _REACH]:
        if token.folded not in lexicon.articles:
            return token.folded if token.kind == "word" else ""
    return ""


def _modal(left: Words, right: Words) -> bool:
    return left != right and not (left ^ right <= _HARMLESS and not (left and right))


def _person(left: Words, right: Words) -> bool:
    if left & _OTHERS != right & _OTHERS:
        return True
    mine, yours = left & _SPEAKERS, right & _SPEAKERS
    return not (mine <= yours or yours <= mine)


def _parted(left: Mapping[str, Words], right: Mapping[str, Words]) -> bool:
    """Whether something that both have is never the same in the two."""
    return any(one.isdisjoint(right.get(word, one)) for word, one in left.items())


def _layout(text: str) -> tuple[str, ...]:
    lines = text.strip().split("\n")
    indents = [line[: len(line) - len(line.lstrip())] for line in lines if line.strip()]
    depths = sorted(set(indents), key=len)
    steps = [str(depths.index(indent)) for indent in indents] if any(indents[1:]) else []
    return (*steps, *(_GAP.findall(text.strip()) if len(lines) > 1 or _EXACT.search(text) else ()))


def _frozen(found: Mapping[str, set[str]]) -> dict[str, Words]:
    return {word: frozenset(those) for word, those in found.items()}
