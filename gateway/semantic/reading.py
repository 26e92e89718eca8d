"""A prompt -> what the guard compares of it."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from gateway.semantic.amounts import Amounts, amounts
from gateway.semantic.forms import Forms, forms
from gateway.semantic.lexicon import Lexicon, Words
from gateway.semantic.tokens import Token, plain, quotations, tokens

_BE: Final = frozenset({"is", "are", "was", "were", "be", "been", "being", "wurde", "wurden", "worden"})
_BY: Final = frozenset({"by", "von", "par", "por"})
_DO: Final = frozenset({"did", "does", "do", "has", "have", "had", "can", "could", "will", "would", "should", *_BE})
_WHO: Final = frozenset({"who", "whom"})
_RELATIVE: Final = frozenset({"who", "whom", "whose", "when", "where"})
_BEFORE_QUESTION: Final = frozenset(
    {
        "by",
        "in",
        "on",
        "at",
        "to",
        "from",
        "for",
        "of",
        "with",
        "since",
        "until",
        "tell",
        "me",
        "know",
        "say",
        "and",
        "or",
    }
)
_DENIED_WORDS: Final = 2
_ROLE_REACH: Final = 3


class Word(msgspec.Struct, frozen=True):
    """A word that means something, an amount, or a name."""

    place: int
    keys: Words
    """It is the same as a word of the other prompt when they share one of these."""
    text: str
    is_name: bool = False
    is_amount: bool = False


class Reading(msgspec.Struct, frozen=True):
    """A prompt, read."""

    text: str
    language: str
    """Two letters, or none where it is not known."""
    words: Sequence[Word]
    keys: Words
    """Those of all words and of those without a meaning of their own."""
    initials: str
    quotations: Words
    codes: Words
    signs: Words
    amounts: Words
    units: Words
    negators: Sequence[int]
    """Where they stand."""
    denied: Words
    """Keys of the words after them."""
    asks: Words
    may_ask: Words
    quantifiers: Words
    sides: frozenset[tuple[int, int]]
    """Of which oppositions it has which side."""
    roles: Mapping[str, str]
    """Key -> part."""
    is_passive: bool
    asks_agent: bool | None
    """Whether `who` is the one who does it; nothing where it asks for nobody."""
    is_even: bool
    """Whether it treats what it speaks of alike, as `the difference between` does."""
    joins: frozenset[int]
    """Where words stand that join others."""
    length: int
    """How many tokens it has."""
    forms: Forms


def reading(prompt: str, lexicon: Lexicon) -> Reading:
    """Read a prompt. Any text can be read."""
    text = plain(prompt)
    found = tokens(text, lexicon)
    language = _language(found, lexicon)
    told = amounts(found, language, lexicon)
    words = _words(found, language, told, lexicon)
    negators = _negators(found, language, lexicon)
    folded = frozenset(token.folded for token in found)
    return Reading(
        text=text,
        language=language,
        words=words,
        keys=folded.union(*(word.keys for word in words)),
        initials="".join(token.folded[0] for token in found),
        quotations=quotations(text),
        codes=frozenset(token.text for token in found if token.kind == "code"),
        signs=frozenset(t.text for t in found if t.kind == "sign" and t.folded not in lexicon.units),
        amounts=frozenset().union(*told.told.values()),
        units=told.units,
        negators=negators,
        denied=_denied(negators, words),
        asks=_asks(found, lexicon),
        may_ask=frozenset(name for name, those in lexicon.weak.items() if those & folded),
        quantifiers=frozenset(lexicon.quantifiers[word] for word in folded if word in lexicon.quantifiers),
        sides=frozenset().union(*(lexicon.opposites.get(word, frozenset()) for word in folded)),
        roles=_roles(found, words, lexicon),
        is_passive=_is_passive(found),
        asks_agent=_asks_agent(found),
        is_even=bool(lexicon.frames & folded),
        joins=frozenset(place for place, token in enumerate(found) if token.folded in lexicon.joining),
        length=len(found),
        forms=forms(prompt, found, lexicon),
    )


def _language(found: Sequence[Token], lexicon: Lexicon) -> str:
    if sum(token.kind == "character" for token in found) * 2 > len(found):
        return "zh"
    folded = [token.folded for token in found]
    counts = {name: sum(word in those for word in folded) for name, those in lexicon.telling.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] and list(counts.values()).count(counts[best]) == 1 else ""


def _words(found: Sequence[Token], language: str, told: Amounts, lexicon: Lexicon) -> list[Word]:
    function = lexicon.function.get(language, lexicon.function["en"])
    negators = lexicon.negators.get(language, lexicon.negators["en"])
    words: list[Word] = []
    for place, token in enumerate(found):
        if place in told.told:
            words.append(Word(place, frozenset(told.told[place]), token.text, is_amount=True))
        elif place in told.taken or token.kind == "sign" or token.folded in negators or token.is_denied:
            continue
        elif token.folded in function and not (len(token.text) > 1 and token.text.isupper()):
            continue  # US and IT are no pronouns
        else:
            is_name = token.is_capital and not token.first and language != "de"
            words.append(Word(place, keys(token.folded, language, lexicon), token.text, is_name=is_name))
    return words


def keys(word: str, language: str, lexicon: Lexicon) -> Words:
    """Its stem, and the meanings that it shares with others."""
    stem = _stem(word, language, lexicon.irregular)
    return lexicon.meanings.get(word, frozenset()) | lexicon.meanings.get(stem, frozenset()) | {stem}


def _stem(word: str, language: str, irregular: Mapping[str, str]) -> str:
    if language in {"de", "fr", "es"}:
        return word[:6] if len(word) > 6 else word.rstrip("s")
    return _english_stem(irregular.get(word, word)) if word.isascii() else word


@functools.lru_cache(maxsize=4096)
def _english_stem(word: str) -> str:
    for ending, instead in (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("ly", ""), ("s", "")):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3 and not (ending == "s" and stem[-1] in "sui"):
            doubled = ending in {"ing", "ed"} and stem[-1] == stem[-2] and stem[-1] not in "sl"
            word = stem[:-1] if doubled else stem + instead
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _negators(found: Sequence[Token], language: str, lexicon: Lexicon) -> list[int]:
    those = lexicon.negators.get(language, lexicon.negators["en"])
    places = [place for place, token in enumerate(found) if token.folded in those or token.is_denied]
    if language == "fr":
        after = {
            place + n for place, token in enumerate(found) if token.text.casefold() in _FRENCH_NE for n in range(1, 5)
        }
        places += [place for place, token in enumerate(found) if token.folded == "plus" and place in after]
        places += [place for place, token in enumerate(found) if token.text.casefold().startswith("n'") and not places]
    return places


_FRENCH_NE: Final = frozenset({"ne", "n"})


def _denied(negators: Iterable[int], words: Sequence[Word]) -> Words:
    at = {word.place: word for word in words}
    denied: set[str] = set()
    for place in negators:
        after = [at[n] for n in range(place + 1, place + 1 + 2 * _DENIED_WORDS) if n in at]
        denied.update(*(word.keys for word in after[:_DENIED_WORDS]))
    return frozenset(denied)


def _asks(found: Sequence[Token], lexicon: Lexicon) -> Words:
    said = {token.folded for n, token in enumerate(found) if token.folded not in _RELATIVE or _asks_here(found, n)}
    return frozenset(name for name, those in lexicon.strong.items() if those & said)


def _asks_here(found: Sequence[Token], place: int) -> bool:
    """Whether `who` or the like is a question there, and does not only join a clause."""
    return found[place].first or found[place - 1].folded in _BEFORE_QUESTION


def _roles(found: Sequence[Token], words: Sequence[Word], lexicon: Lexicon) -> dict[str, str]:
    at = {word.place: word for word in words}
    roles: dict[str, str] = {}
    for place, token in enumerate(found):
        if role := lexicon.roles.get(token.folded):
            word = next((at[n] for n in range(place + 1, place + 1 + _ROLE_REACH) if n in at), None)
            roles.update(dict.fromkeys(word.keys if word else (), role))
    return roles


def _is_passive(found: Sequence[Token]) -> bool:
    folded = [token.folded for token in found]
    return not _BE.isdisjoint(folded) and not _BY.isdisjoint(folded)


def _asks_agent(found: Sequence[Token]) -> bool | None:
    folded = [token.folded for token in found]
    place = next((n for n, word in enumerate(folded) if word in _WHO), None)
    if place is None:
        return None
    if folded[place - 1 : place] == ["by"] or folded[-1:] in (["whom"], ["who"]):
        return True
    if folded[place + 1 : place + 2] and folded[place + 1] in _DO:
        return (
            False if "by" in folded or folded[place] == "whom" or folded[place + 1] in {"did", "does", "do"} else None
        )
    return folded[place] == "who"
