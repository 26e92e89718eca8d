"""What has to come out of documents whose answers are spoilt in a known way: thought out, not read from the answers.

Nothing here reads JSON. `gold` says where records are, the table in `faults` what becomes of them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from extractors.grounded import Grounded
from extractors.scoring import Score, Scores
from extractors.splitting import Span
from tests.extraction import faults
from tests.extraction.faults import Item, Plan, Planned
from tests.extraction.gold import Note

Found = tuple[str, int | None, int | None, str, str]
"""A record: class, place, words, and its attributes as JSON."""
Records = tuple[Grounded, ...]
Change = Callable[[Records], Records]


class Part(msgspec.Struct, frozen=True):
    """What has to come of one part."""

    span: Span
    statuses: tuple[str, ...]
    """Of what the model said each time it was asked; the last one is the part's. One that `failed` said nothing."""
    records: Records
    fault: Planned | None = None
    unfit: int = 0
    """How many of the records have attributes that the recipe does not allow."""

    @property
    def status(self) -> str:
        """The part's own."""
        return self.statuses[-1]


class Expected(msgspec.Struct, frozen=True):
    """What has to come of one document."""

    parts: tuple[Part, ...]
    scores: Scores

    @property
    def records(self) -> Counter[Found]:
        """All of them, in no order."""
        return found(record for part in self.parts for record in part.records)

    @property
    def statuses(self) -> tuple[str, ...]:
        """Of its parts."""
        return tuple(part.status for part in self.parts)


def expected(note: Note, spans: Sequence[Span], plan: Plan | None = None, attempts: int = 2) -> Expected:
    """What has to come of `note` in these parts, each of which is asked for at most so many times."""
    parts = tuple(_part(note, span, plan or Plan(), attempts) for span in spans)
    return Expected(parts, _scores(note.records, [record for part in parts for record in part.records]))


def inside(note: Note, start: int, end: int) -> Records:
    """The records of a part, in their order."""
    return tuple(one for one in note.records if one.place and start <= one.place[0] and one.place[1] <= end)


def items(records: Iterable[Grounded]) -> list[Item]:
    """These records as a model says them."""
    return [{one.name: one.text, f"{one.name}_attributes": one.attributes} for one in records]


def found(records: Iterable[Grounded]) -> Counter[Found]:
    """Records in the form in which they are compared."""
    return Counter(
        (one.name, one.start, one.end, one.text, json.dumps(one.attributes, sort_keys=True)) for one in records
    )


def _part(note: Note, span: Span, plan: Plan, attempts: int) -> Part:
    gold = inside(note, span.start, span.end)
    planned = plan.of(span.of(note.text), items(gold))
    well = "ok" if gold else "empty"
    if planned is None or not (planned.fault.is_said or planned.always):
        return Part(span, (well,), gold, planned)
    fault = planned.fault
    spoilt = _REMAINING[fault.name](gold) if fault.is_said else ()
    said = fault.status if fault.status != "ok" else "ok" if spoilt else "empty"
    if not fault.asked_again:
        return Part(span, (said,), spoilt, planned)
    if planned.always or attempts == 1:
        return Part(span, (said,) * attempts, spoilt, planned, unfit=int(fault.name in _UNFIT))
    return Part(span, (said, well), gold, planned)


def _same(records: Records) -> Records:
    return records


def _none(records: Records) -> Records:
    del records
    return ()


def _without_last(records: Records) -> Records:
    return records[:-1]


def _before_the_cut(records: Records) -> Records:
    return records[: len(records) // 2]


def _in_capitals(records: Records) -> Records:
    return tuple(msgspec.structs.replace(one, text=one.text.upper()) for one in records)


def _and_made_up(records: Records) -> Records:
    attributes = {"dosage": "", "frequency": "", "status": "taken"}
    return (*records, Grounded(name="medication", text=faults.MADE_UP, attributes=attributes))


def _last(**changes: Any) -> Change:
    return lambda records: (*records[:-1], msgspec.structs.replace(records[-1], **changes))


def _last_has(value: Any) -> Change:
    """The first attribute of the last is this."""

    def changed(records: Records) -> Records:
        attributes = records[-1].attributes or {}
        return _last(attributes=attributes | {next(iter(attributes)): value})(records)

    return changed


_ALL: Final = (
    "fenced",
    "two fences",
    "words after",
    "thoughts",
    "bare list",
    "fields",
    "colon",
    "named twice",
    "backwards",
)
_UNFIT: Final = frozenset({"not a number", "other type"})
_REMAINING: Final[Mapping[str, Change]] = {
    **dict.fromkeys(_ALL, _same),
    "upper case": _in_capitals,
    "made up": _and_made_up,
    "no attributes": _last(attributes=None),
    "not a number": _last_has(None),
    "other type": _last_has(faults.WRONG),
    "other class": _without_last,
    "null": _without_last,
    "no words": _without_last,
    "cut": _before_the_cut,
    "refusal": _none,
    "nothing": _none,
}


def _scores(gold: Sequence[Grounded], made: Sequence[Grounded]) -> Scores:
    """Places of gold never overlap and faults move none of them, so that what overlaps is what is at the same place."""
    right = _both(_places(gold), _places(made))
    strict = Score(len(gold), len(made), right)
    wanted, said = _values(gold), _values(made)
    return Scores(strict, strict, Score(wanted.total(), said.total(), _both(wanted, said)))


def _both(one: Counter[Any], other: Counter[Any]) -> int:
    return (one & other).total()


def _places(records: Iterable[Grounded]) -> Counter[Any]:
    return Counter((one.name, one.place) for one in records if one.place)


def _values(records: Iterable[Grounded]) -> Counter[Any]:
    """What attributes say, where they say anything. What has no place is like nothing else."""
    return Counter(
        (one.name, one.place or number, name, json.dumps(value))
        for number, one in enumerate(records)
        for name, value in (one.attributes or {}).items()
        if value not in (None, "")
    )
