"""Tokens -> the amounts that they tell, each in one form, whatever its digits, words and units are."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.semantic.lexicon import Lexicon
from gateway.semantic.tokens import Token

_DATE: Final = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)")
_DAY: Final = re.compile(r"(\d\d?)\.(\d\d?)\.(\d{2,4})?")
_CLOCK: Final = re.compile(r"(\d\d?)[:.](\d\d)")
_GROUPED: Final = re.compile(r"\d{1,3}([.,'’\u00a0\u202f])\d{3}(?:\1\d{3})*")
_ORDINAL: Final = frozenset({"st", "nd", "rd", "th"})
_HALVES: Final = frozenset({"am", "pm"})
_DAYTIME: Final = {"noon": 720, "midday": 720, "midnight": 0}
_EXACT_DIGITS: Final = 12
"""What has more is an account or a telephone, not an amount, and is compared as it is written."""
_NUMBER_WORDS_MAX: Final = 12
"""No amount is said in more words than these."""


class Amounts(NamedTuple):
    """What is told in numbers, and where that stands."""

    told: dict[int, tuple[str, ...]]
    """Place of the first token -> the amount, or the parts of a date."""
    units: frozenset[str]
    """Units that stand without a number."""
    taken: frozenset[int]
    """Places of the tokens that have been read."""


class _Reader:
    def __init__(self, found: Sequence[Token], language: str, lexicon: Lexicon) -> None:
        self._found, self._lexicon, self._language = found, lexicon, language
        self._numbers = lexicon.numbers.get(language, lexicon.numbers["en"])
        self.told: dict[int, tuple[str, ...]] = {}
        self.units: set[str] = set()
        self.taken: set[int] = set()

    def read(self) -> Amounts:
        place = 0
        while place < len(self._found):
            after = self._amount(place)
            self.taken.update(range(place, after))
            place = max(after, place + 1)
        return Amounts(self.told, frozenset(self.units), frozenset(self.taken))

    def _amount(self, place: int) -> int:
        """Read what begins at `place`; the place after it, which is `place` where nothing begins."""
        token = self._found[place]
        after = self._calendar(place, token)
        if after == place and sum(character.isdigit() for character in token.text) > _EXACT_DIGITS:
            self.told[place] = (token.text.rstrip(".,:'"),)
            return place + 1
        if after == place and self._begins(place):
            value, after = self._value(place)
            after = self._measured(place, value, after)
        if after == place and (unit := self._unit(place)) and len(token.folded) > 3:
            return self._bare(place, unit)
        return after

    def _calendar(self, place: int, token: Token) -> int:
        if token.kind == "number":
            return place + self._dated(place, token.folded)
        month = self._lexicon.months.get(token.folded)
        beside = [self._folded(place - 1), self._folded(place + 1)]
        named = (token.is_capital and not token.first) or any(text[:1].isdigit() for text in beside)
        if month and (named or self._language in {"fr", "es"}):
            self.told[place] = (f"month {month}",)
        elif token.folded in _DAYTIME:
            self.told[place] = (f"clock {_DAYTIME[token.folded]}",)
        elif token.folded in self._lexicon.moments:
            self.told[place] = (self._lexicon.moments[token.folded],)
        return place + (place in self.told)

    def _dated(self, place: int, digits: str) -> int:
        if date := _DATE.fullmatch(digits.rstrip(".")):
            self.told[place] = (str(int(date[1])), f"month {int(date[2])}", str(int(date[3])))
        elif self._language == "de" and (day := _DAY.fullmatch(digits)):
            self.told[place] = (str(int(day[1])), f"month {int(day[2])}", *filter(None, [day[3]]))
        elif clock := _CLOCK.fullmatch(digits.rstrip(".")) if ":" in digits else None:
            return self._clock(place, int(clock[1]) * 60 + int(clock[2]))
        elif self._folded(place + 1) in _HALVES and digits.isdigit():
            return self._clock(place, int(digits) * 60)
        return int(place in self.told)

    def _clock(self, place: int, minutes: int) -> int:
        half = self._folded(place + 1)
        if half in _HALVES:
            minutes = minutes % 720 + 720 * (half == "pm")
        self.told[place] = (f"clock {minutes}",)
        return 1 + (half in _HALVES)

    def _begins(self, place: int) -> bool:
        token = self._found[place]
        if token.kind == "number" or token.folded in self._numbers:
            return True
        if token.kind == "character":
            return token.folded in self._lexicon.numbers["zh"]
        return token.folded == "one" and (self._unit(place + 1) is not None or self._half_follows(place + 1))

    def _value(self, place: int) -> tuple[float, int]:
        value = self._single(place)
        after = place + 1
        total = 0.0
        while after < min(len(self._found), place + _NUMBER_WORDS_MAX):
            word = self._folded(after)
            if word in self._lexicon.multipliers:
                value *= self._lexicon.multipliers[word]
                if self._lexicon.multipliers[word] >= 1000:
                    total, value = total + value, 0.0
            elif (word in _ORDINAL and self._found[after].glued) or self._is_and(after, value + total):
                pass
            elif self._half_follows(after):
                return total + value + 0.5, after + 3
            elif self._adds(after, value + total):
                value += self._single(after)
            else:
                break
            after += 1
        return total + value, after

    def _single(self, place: int) -> float:
        token = self._found[place]
        if token.kind == "number":
            return _parsed(token.folded, self._language)
        if token.kind == "character":
            return self._lexicon.numbers["zh"][token.folded]
        return self._numbers.get(token.folded, 1.0)

    def _adds(self, place: int, value: float) -> bool:
        token = self._found[place]
        if token.kind == "number":
            return False
        words = self._lexicon.numbers["zh"] if token.kind == "character" else self._numbers
        added = words.get(token.folded)
        return added is not None and value >= 20 and 1 <= added < value and value % 10 == 0

    def _is_and(self, place: int, value: float) -> bool:
        return (
            value >= 100
            and self._folded(place) in {"and", "und"}
            and place + 1 < len(self._found)
            and self._adds(place + 1, value)
        )

    def _half_follows(self, place: int) -> bool:
        return [self._folded(place + n) for n in range(3)] == ["and", "a", "half"]

    def _measured(self, place: int, value: float, after: int) -> int:
        before = self._unit(place - 1) if self._found[place - 1].kind == "sign" and place else None
        step = after + (value == 0.5 and self._folded(after) in {"a", "an", "the"})
        unit = before or self._unit(step)
        if unit:
            value, after = value * unit[0], after if before else step + 1
        self.told[place] = (f"{value:.12g} {unit[1]}" if unit else f"{value:.12g}",)
        return after

    def _bare(self, place: int, unit: tuple[float, str]) -> int:
        if self._half_follows(place + 1):
            self.told[place] = (f"{1.5 * unit[0]:.12g} {unit[1]}",)
            return place + 4
        self.units.add(f"{unit[0]:.12g} {unit[1]}")
        return place + 1

    def _unit(self, place: int) -> tuple[float, str] | None:
        return self._lexicon.units.get(self._folded(place))

    def _folded(self, place: int) -> str:
        return self._found[place].folded if 0 <= place < len(self._found) else ""


def amounts(found: Sequence[Token], language: str, lexicon: Lexicon) -> Amounts:
    """What `found` tells in numbers, dates and units."""
    return _Reader(found, language, lexicon).read()


def _parsed(digits: str, language: str) -> float:
    said = digits.replace("−", "-").rstrip(".,:'")
    point = "." if language in {"en", "zh", ""} else ","
    grouped = _GROUPED.fullmatch(said.lstrip("-"))
    if grouped and grouped[1] != point:
        said = said.replace(grouped[1], "")
    said = re.sub(r"['’\u00a0\u202f]", "", said).replace(",", ".")
    try:
        return float(said)
    except ValueError:
        return float(re.sub(r"\D", "", said)[:15] or 0)
