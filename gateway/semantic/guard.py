"""Two prompts in; out comes what speaks against answering one with the answer to the other.

A sentence model finds texts about the same thing near to each other, and "with" is about the same as "without". These
checks find what it does not: each looks for one kind of difference, and one is enough. They read words, not meanings,
so they also refuse what is the same in other words.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from gateway.semantic.forms import FORMS, differences
from gateway.semantic.lexicon import Lexicon, Words, lexicon
from gateway.semantic.reading import Reading, Word, keys, reading

MAX_CHARACTERS: Final = 8192
"""Of longer prompts nothing is said but that they are too long."""

Reason = Literal[
    "length", "language", "negation", "number", "unit", "name", "quoted", "code", "sign", "question", "quantifier",
    "opposite", "relation", "tense", "modal", "person", "preposition", "case", "layout", "words",
]  # fmt: skip
LEFT_TO_JUDGE: Final = frozenset[Reason]({"words", "tense", "modal", "person", "preposition"})
"""What a model may overrule that has read both: a word that the other prompt has in no form may be a synonym, and how
do I is often how can you.
"""
_PREFIXES: Final = ("un", "in", "im", "il", "ir", "non", "dis")
_SUFFIX: Final = "less"
_SHORTEST_BASE: Final = 3
_ACRONYM: Final = range(2, 6)
_JOINED_REACH: Final = 5
_SWAP_WORDS: Final = 1
"""Two words that have changed places leave the length as it was, or nearly."""


class Verdict(msgspec.Struct, frozen=True):
    """What was found."""

    reasons: tuple[Reason, ...] = ()
    """Why the answer must not be given; in the order of the checks."""

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def verdict(left: str, right: str, known: Lexicon | None = None) -> Verdict:
    """Compare two prompts; which of them is the first one does not matter. It never raises, and equal prompts pass."""
    if left == right:
        return Verdict()
    if max(len(left), len(right)) > MAX_CHARACTERS:
        return Verdict(("length",))
    known = known or lexicon()
    return compared(reading(left, known), reading(right, known), known)


def compared(left: Reading, right: Reading, known: Lexicon) -> Verdict:
    """The same for prompts that have been read."""
    if left.text == right.text and left.forms == right.forms:
        return Verdict()
    return Verdict(tuple(_reasons(left, right, known)))


def _reasons(left: Reading, right: Reading, known: Lexicon) -> Iterator[Reason]:
    forms = set(differences(left.forms, right.forms, known))
    lost = (*_unexplained(left, right, known), *_unexplained(right, left, known))
    checks: Sequence[tuple[Reason, bool]] = (
        ("language", bool(left.language and right.language) and left.language != right.language),
        ("negation", _is_denied_otherwise(left, right, known)),
        ("number", left.amounts != right.amounts),
        ("unit", left.units != right.units),
        ("name", any(word.is_name for word in lost)),
        ("quoted", not (_stands_in(left.quotations, right) and _stands_in(right.quotations, left))),
        ("code", left.codes != right.codes),
        ("sign", left.signs != right.signs),
        ("question", not (left.asks <= right.asks | right.may_ask and right.asks <= left.asks | left.may_ask)),
        ("quantifier", left.quantifiers != right.quantifiers),
        ("opposite", _is_opposite(left, right)),
        ("relation", _is_turned(left, right, lost) or _is_turned(right, left, lost)),
        *((form, form in forms) for form in FORMS),
        ("words", bool(lost)),
    )
    return (reason for reason, differs in checks if differs)


def _unexplained(here: Reading, there: Reading, known: Lexicon) -> list[Word]:
    """The words that the other prompt has in no form; that one is denied by its prefix is told by another check."""
    said = there.keys.union(*(_bases(word, there, here, known) for word in there.words))
    lost = [word for word in here.words if not (word.is_amount or word.keys & said or _is_short_for(word, there))]
    lost = [word for word in lost if not _bases(word, here, there, known)]
    spelled = {word.text.casefold() for word in there.words if _is_short_for(word, here)}
    covered = {place for short in spelled for place in _places(short, here)}
    return [word for word in lost if word.place not in covered]


def _is_short_for(word: Word, there: Reading) -> bool:
    return len(word.text) in _ACRONYM and word.text.isupper() and word.text.casefold() in there.initials


def _places(short: str, here: Reading) -> range:
    """Where the words stand that it is short for."""
    begins = here.initials.find(short)
    return range(begins, begins + len(short))


def _is_denied_otherwise(left: Reading, right: Reading, known: Lexicon) -> bool:
    counts = [_negations(left, right, known), _negations(right, left, known)]
    if counts[0] != counts[1]:
        return True
    return bool(counts[0]) and (_denies_what(left, right) or _denies_what(right, left))


def _negations(here: Reading, there: Reading, known: Lexicon) -> int:
    """Those that count: two beside each other are none."""
    prefixed = {word.place for word in here.words if _bases(word, here, there, known)}
    undone = sum(place + 1 in prefixed or place + 2 in prefixed for place in here.negators)
    return len(here.negators) + len(prefixed) - 2 * undone


def _bases(word: Word, here: Reading, there: Reading, known: Lexicon) -> Words:
    """Keys of what is left without the prefix or suffix that denies it, where the other prompt has that."""
    folded = word.text.casefold()
    bases = [folded.removeprefix(prefix) for prefix in _PREFIXES if folded.startswith(prefix)]
    bases += [folded.removesuffix(_SUFFIX)] if folded.endswith(_SUFFIX) else []
    found = (keys(base, here.language, known) for base in bases if len(base) >= _SHORTEST_BASE)
    return frozenset().union(*(base for base in found if base & there.keys and not base & here.keys))


def _denies_what(here: Reading, there: Reading) -> bool:
    """Whether what is denied here is said there, while something else is denied there."""
    return bool(here.denied & there.keys) and not here.denied & there.denied


def _stands_in(quotations: Words, there: Reading) -> bool:
    text = there.text.casefold()
    return all(_is_whole(quotation.casefold(), text) for quotation in quotations)


def _is_whole(quotation: str, text: str) -> bool:
    begins = text.find(quotation)
    if begins < 0:
        return False
    beside = text[:begins][-1:] + text[begins + len(quotation) :][:1]
    return not any(character.isalnum() for character in beside)


def _is_opposite(left: Reading, right: Reading) -> bool:
    mine, yours = left.sides - right.sides, right.sides - left.sides
    return any((pair, 1 - side) in yours for pair, side in mine)


def _is_turned(left: Reading, right: Reading, lost: Sequence[Word]) -> bool:
    """Whether the same things stand in another relation."""
    if left.asks_agent is not None and right.asks_agent is not None and left.asks_agent != right.asks_agent:
        return True
    if any(role != right.roles.get(key, role) for key, role in left.roles.items()):
        return True
    shared = _shared(left, right)
    turned = [pair for pair in itertools.pairwise(shared) if _goes_back(pair)]
    if left.is_passive != right.is_passive:
        return not turned and sum(word.is_name for word, _ in shared) > 1
    if left.is_even and right.is_even:
        return False
    swapped = not lost and abs(left.length - right.length) <= _SWAP_WORDS
    turned = turned if swapped else [pair for pair in itertools.pairwise(_named(shared)) if _goes_back(pair)]
    return any(not (_are_joined(left, a[0], b[0]) and _are_joined(right, b[1], a[1])) for a, b in turned)


def _named(shared: Sequence[tuple[Word, Word]]) -> list[tuple[Word, Word]]:
    return [pair for pair in shared if all(word.is_name for word in pair)]


def _goes_back(pair: tuple[tuple[Word, Word], tuple[Word, Word]]) -> bool:
    return pair[0][1].place > pair[1][1].place


def _shared(left: Reading, right: Reading) -> list[tuple[Word, Word]]:
    """The words that each has once, in the order of the first."""
    there: dict[str, Word | None] = {}
    for word in right.words:
        for key in word.keys:
            there[key] = None if key in there else word
    found = (
        (word, next((other for key in sorted(word.keys) if (other := there.get(key))), None)) for word in left.words
    )
    return [(word, other) for word, other in found if other]


def _are_joined(here: Reading, one: Word, other: Word) -> bool:
    """Whether nothing but `and`, `or` or the like stands between the two."""
    between = range(one.place + 1, other.place)
    return len(between) <= _JOINED_REACH and any(place in here.joins for place in between)
