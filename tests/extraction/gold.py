"""Clinic notes that nobody wrote: made from a seed, with every record and its exact place known.

What readers stumble over is in them on purpose: the same medication named again, tables, other line ends, Chinese,
Japanese, German, letters that are made of two code points, and emoji of seven.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from extractors.grounded import Grounded

DRUGS: Final = (
    "aspirin", "Lisinopril", "metformin", "阿司匹林", "イブプロフェン",
    "Levothyroxin-Na", "cafe\u0301ine", "vitamin D₃",
)  # fmt: skip
CONDITIONS: Final = ("hypertension", "type 2 diabetes", "高血压", "偏頭痛", "Vorhofflimmern", "ne\u0301vralgie")
DOSES: Final = ("10 mg", "0.5 mg", "100 µg", "2 tablets", "")
TIMES: Final = ("once daily", "twice daily", "at night", "")
FILLER: Final = (
    "Slept well 😴, no complaints.",
    "👩‍⚕️ reviewed the plan with the family.",
    "Vitals within limits; weight unchanged.",
    "患者精神良好，食欲正常。",
    "Der Patient ist wach und orientiert.",
    "Follow-up in six weeks\tor earlier if needed.",
)
ENDS: Final = ("\n", "\r\n")


class Note(msgspec.Struct, frozen=True):
    """One document and its records, in the order in which they stand there."""

    text: str
    records: tuple[Grounded, ...]


class _Writer:
    """Puts a text together, and writes down where records stand."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self._end = chance.choice(ENDS)
        self._parts: list[str] = []
        self._at = 0
        self._records: list[Grounded] = []

    def say(self, text: str) -> None:
        """Go on with these words; line ends become those of this note."""
        said = text.replace("\n", self._end)
        self._parts.append(said)
        self._at += len(said)

    def name(self, kind: str, text: str, **attributes: Any) -> None:
        """Go on with a record."""
        record = Grounded(
            name=kind,
            text=text,
            attributes=attributes,
            start=self._at,
            end=self._at + len(text),
            alignment="match_exact",
        )
        self._records.append(record)
        self.say(text)

    def note(self) -> Note:
        """What came of it."""
        return Note("".join(self._parts), tuple(self._records))


def note(seed: int, least: int = 0) -> Note:
    """A note of at least so many code points, always the same for a seed."""
    writer = _Writer(random.Random(seed))
    writer.say(f"# Note {seed}\n")
    for number, paragraph in enumerate(_paragraphs(writer.chance)):
        if number >= 3 and writer._at >= least:
            break
        writer.say("\n")
        if writer.chance.random() < 0.15:
            writer.say(f"## Visit {number}\n\n")
        paragraph(writer)
        writer.say("\n")
    return writer.note()


def notes(count: int, least: int = 0) -> list[Note]:
    """So many, each another one."""
    return [note(seed, least) for seed in range(count)]


def _paragraphs(chance: random.Random) -> Iterator[Callable[[_Writer], None]]:
    while True:
        yield chance.choices((_prose, _history, _table, _filler), weights=(5, 3, 1, 2))[0]


def _prose(writer: _Writer) -> None:
    """A medication, named twice perhaps, between words that say nothing."""
    chance, drug, dose, often = writer.chance, *_medication(writer.chance)
    writer.say(f"{chance.choice(FILLER)} {chance.choice(('Takes', 'Continues', 'Nimmt', '服用'))} ")
    writer.name("medication", drug, dosage=dose, frequency=often, status="taken")
    writer.say(" ".join(["", *filter(None, (dose, often))]) + ".")
    if chance.random() < 0.3:
        writer.say(f" {chance.choice(('Asked about', 'Stopped'))} ")
        writer.name("medication", drug, dosage="", frequency="", status="stopped")
        writer.say(" today.")


def _history(writer: _Writer) -> None:
    """A condition or two."""
    for number in range(writer.chance.randint(1, 2)):
        writer.say("History of " if not number else "; also ")
        writer.name("condition", writer.chance.choice(CONDITIONS), status="present", since="")
    writer.say(". " + writer.chance.choice(FILLER))


def _table(writer: _Writer) -> None:
    """Medications in rows."""
    writer.say("| Drug | Dose | When |\n|---|---|---|")
    for _ in range(writer.chance.randint(2, 5)):
        drug, dose, often = _medication(writer.chance)
        writer.say("\n| ")
        writer.name("medication", drug, dosage=dose, frequency=often, status="taken")
        writer.say(f" | {dose} | {often} |")


def _filler(writer: _Writer) -> None:
    """Nothing to extract."""
    writer.say(" ".join(writer.chance.choices(FILLER, k=writer.chance.randint(1, 6))))


def _medication(chance: random.Random) -> tuple[str, str, str]:
    return chance.choice(DRUGS), chance.choice(DOSES), chance.choice(TIMES)
