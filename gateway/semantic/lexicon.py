"""`lexicon.toml` -> `Lexicon`: what the guard knows of words, ready to be looked up."""

import functools
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

_FILE: Final = Path(__file__).with_name("lexicon.toml")
Words = frozenset[str]


class Lexicon(msgspec.Struct, frozen=True):
    """Words in lower case, by what they do. What depends on the language is kept under its two letters."""

    function: Mapping[str, Words]
    """Words without a meaning of their own."""
    telling: Mapping[str, Words]
    """Of these, those that only one language has."""
    negators: Mapping[str, Words]
    small: Mapping[str, Words]
    """Classes of words that have no meaning of their own, and change what is asked: tenses, modals, persons."""
    prepositions: Words
    articles: Words
    cases: Words
    """Those that say who does it and to whom it is done."""
    gone_by: Words
    """Forms of verbs that say that something was, where they do not end in -ed."""
    not_gone_by: Words
    """Words that end in -ed, and say no such thing."""
    capital: Words
    """Words that are something else with a capital."""
    strong: Mapping[str, Words]
    """What is asked for -> words that ask for it."""
    weak: Mapping[str, Words]
    """What is asked for -> words that may."""
    quantifiers: Mapping[str, str]
    opposites: Mapping[str, frozenset[tuple[int, int]]]
    """Word -> the oppositions that it is in, and on which side."""
    meanings: Mapping[str, Words]
    """Word -> the meanings that it shares with others; a place is one."""
    irregular: Mapping[str, str]
    units: Mapping[str, tuple[float, str]]
    """Name -> how many of which base unit it is."""
    numbers: Mapping[str, Mapping[str, float]]
    multipliers: Mapping[str, float]
    months: Mapping[str, int]
    moments: Mapping[str, str]
    joining: Words
    frames: Words
    """Words that make no difference between what they are said of."""
    roles: Mapping[str, str]
    """Preposition -> the part that the next word has."""
    phrases: Words
    """What is written as several words, each of them after `_`."""
    unspaced: Words
    """What is written in Chinese with several characters."""


@functools.cache
def lexicon() -> Lexicon:
    """The one that comes with the gateway."""
    said = tomllib.loads(_FILE.read_text("utf-8"))
    function = _by_language(said["function"])
    every = frozenset(word for word in _words_in(said))
    return Lexicon(
        function=function,
        telling={
            name: words.difference(*(w for n, w in function.items() if n != name)) for name, words in function.items()
        },
        negators=_by_language(said["negators"]),
        small=_by_language(said["small"]),
        prepositions=frozenset(said["small_places"]["prepositions"].split()),
        articles=frozenset(said["small_places"]["articles"].split()),
        cases=frozenset(said["small_places"]["cases"].split()),
        gone_by=frozenset(said["gone_by"]["forms"].split()),
        not_gone_by=frozenset(said["gone_by"]["not"].split()),
        capital=frozenset(said["capital"]["lines"].split()),
        strong={name: frozenset(of["strong"].split()) for name, of in said["asks"].items()},
        weak={name: frozenset(of["weak"].split()) for name, of in said["asks"].items()},
        quantifiers={word: name for name, words in said["quantifiers"].items() for word in words.split()},
        opposites=_opposites(line for lines in said["opposites"].values() for line in lines),
        meanings=_meanings(said),
        irregular=dict(pair.split("=") for pair in said["irregular"]["en"].split()),
        units=_units(_lines(said["units"])),
        numbers={name: _values(words) for name, words in said["numbers"].items() if name != "multipliers"},
        multipliers=_values(said["numbers"]["multipliers"]),
        months={word: place for place, line in enumerate(_lines(said["months"]), 1) for word in line.split()},
        moments={word: line.split()[0] for line in _lines(said["moments"]) for word in line.split()},
        joining=frozenset(said["joining"]["words"].split()),
        frames=frozenset(said["joining"]["frames"].split()),
        roles={word: role for role, words in said["roles"].items() for word in words.split()},
        phrases=frozenset(word for word in every if "_" in word),
        unspaced=frozenset(word for word in every if len(word) > 1 and "\u4e00" <= word[0] <= "\u9fff"),
    )


def _by_language(said: Mapping[str, str]) -> dict[str, Words]:
    return {language: frozenset(words.split()) for language, words in said.items()}


def _lines(section: Mapping[str, str]) -> list[str]:
    return [line.strip() for line in section["lines"].replace("|", "\n").splitlines() if line.strip()]


def _values(words: str) -> dict[str, float]:
    return {name: float(value) for name, value in (pair.split("=") for pair in words.split())}


def _units(lines: Iterable[str]) -> dict[str, tuple[float, str]]:
    units: dict[str, tuple[float, str]] = {}
    for line in lines:
        factor, base, *names = line.split()
        units.update((name, (float(factor), base)) for name in names)
    return units


def _opposites(lines: Iterable[str]) -> dict[str, frozenset[tuple[int, int]]]:
    found: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for place, line in enumerate(lines):
        for side, words in enumerate(line.split("/")):
            for word in words.split():
                found[word].add((place, side))
    return {word: frozenset(places) for word, places in found.items()}


def _meanings(said: Mapping[str, Any]) -> dict[str, Words]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for line in (*said["same"]["en"], *_lines(said["places"])):
        for word in line.split():
            found[word].add(f"={line.split()[0]}")
    return {word: frozenset(meanings) for word, meanings in found.items()}


def _words_in(said: object) -> Iterable[str]:
    if isinstance(said, str):
        yield from (word.partition("=")[0] for word in said.replace("|", " ").split())
    elif isinstance(said, dict):
        for value in said.values():
            yield from _words_in(value)
    elif isinstance(said, list):
        for value in said:
            yield from _words_in(value)
