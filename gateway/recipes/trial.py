"""A recipe's example, and what a gateway found in it -> where the two differ. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import msgspec

from extractors.grounded import Grounded
from extractors.recipe import Example, Recipe
from extractors.scoring import Score, Scores, plain, scores

_EMPTY: tuple[Any, ...] = (None, "", [], {})
_GOOD = ("ok", "empty")
_COUNTS = "{:<10} {:>8} {:>8} {:>8}"
_SHARES = "{:<10} {:>9} {:>9} {:>9}"


class _Call(msgspec.Struct, frozen=True):
    """What came of asking about a chunk once."""

    status: str = ""
    problems: tuple[str, ...] = ()


class _Chunk(msgspec.Struct, frozen=True):
    """A part of the text."""

    index: int = 0
    calls: tuple[_Call, ...] = ()


class _Record(msgspec.Struct, frozen=True, rename={"name": "class"}):
    """What was found."""

    name: str
    text: str
    attributes: dict[str, Any] | None = None
    start: int | None = None
    end: int | None = None


class _Reply(msgspec.Struct, frozen=True):
    """What a gateway says."""

    status: str
    records: tuple[_Record, ...] = ()
    chunks: tuple[_Chunk, ...] = ()


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What should have been found in an example's text, and what was."""

    text: str
    wanted: tuple[Grounded, ...]
    found: tuple[Grounded, ...] = ()
    problems: tuple[str, ...] = ()
    """What the model's answers lacked."""
    was_asked: bool = True

    @property
    def scores(self) -> Scores:
        """How much of it is right."""
        return scores(self.wanted, self.found)

    @property
    def lines(self) -> list[str]:
        """Where they differ, a line each; of what was not asked, why."""
        answers = [f"{'answers':13} {problem}" for problem in self.problems]
        if not self.was_asked:
            return answers
        missed, surplus = _without(self.wanted, self.found), _without(self.found, self.wanted)
        loose = [one for one in self.found if not one.verbatim(self.text)]
        return [
            *(f"{'missed':13} {_told(one)}" for one in missed),
            *(f"{'too much':13} {_told(one)}" for one in surplus),
            *(f"{'not verbatim':13} {_told(one)}{_instead(one, self.text)}" for one in loose),
            *(f"{'attributes':13} {line}" for line in _otherwise(self.wanted, self.found)),
            *answers,
        ]


def request(recipe: Recipe, example: Example, model: str) -> dict[str, Any]:
    """What a gateway is asked: about the example, with the recipe that has not seen it, unless it is the only one. It
    has no name, so that its records are not among those of the saved recipe.
    """
    others = [one for one in recipe.examples if one is not example] or recipe.examples
    inline = {"description": recipe.description, "classes": recipe.classes, "examples": msgspec.to_builtins(others)}
    return {"model": model, "text": example.text, "recipe": inline, "metadata": {"from": "askonce recipes test"}}


def tried(example: Example, reply: dict[str, Any]) -> Trial:
    """What came of it. Raises `msgspec.ValidationError` for what is no reply."""
    said = msgspec.convert(reply, _Reply)
    problems = [line for chunk in said.chunks for one in chunk.calls for line in _problems(chunk.index, one)]
    return Trial(
        text=example.text,
        wanted=tuple(wanted(example)),
        found=tuple(
            Grounded(name=one.name, text=one.text, attributes=one.attributes, start=one.start, end=one.end)
            for one in said.records
        ),
        problems=tuple(problems),
        was_asked=said.status in {"completed", "incomplete"},
    )


def wanted(example: Example) -> Iterator[Grounded]:
    """The example's records at their places: each at the first one from where the one before it begins that no record
    of the same class and words has.
    """
    taken: set[tuple[str, int, int]] = set()
    start = 0
    for record in example.records:
        start = _place(example.text, record.name, record.text, start, taken)
        end = start + len(record.text)
        taken.add((record.name, start, end))
        yield Grounded(name=record.name, text=record.text, attributes=record.attributes, start=start, end=end)


def remarks(recipe: Recipe) -> list[str]:
    """What is allowed, but teaches a model something else than was meant."""
    found: list[str] = []
    for number, example in enumerate(recipe.examples, 1):
        for before, one in pairwise(wanted(example)):
            if (one.start or 0) < (before.start or 0):
                found.append(f"Example {number}: '{one.text}' stands before the record that is named before it.")
    shown = {one.name for example in recipe.examples for one in example.records}
    unseen = [name for name in recipe.classes if recipe.examples and name not in shown]
    return [*found, *(f"No example has a record of the class '{name}'." for name in unseen)]


def total(trials: Iterable[Trial]) -> Scores:
    """Of all of them."""
    return sum((trial.scores for trial in trials), Scores())


def table(trials: Sequence[Trial]) -> list[str]:
    """A row for each example with what is to say of it, and the scores of all."""
    lines = [_COUNTS.format("EXAMPLE", "WANTED", "FOUND", "RIGHT")]
    for number, trial in enumerate(trials, 1):
        score = trial.scores.strict
        cells = (score.wanted, score.found, score.right) if trial.was_asked else (score.wanted, "—", "—")
        lines.append(_COUNTS.format(number, *cells))
        lines += [f"    {line}" for line in trial.lines]
    found = total(trial for trial in trials if trial.was_asked)
    lines += ["", _SHARES.format("", "PRECISION", "RECALL", "F1")]
    rows = (("strict", found.strict), ("overlap", found.overlap), ("attributes", found.attributes))
    return [*lines, *(_shares(name, score) for name, score in rows)]


def _shares(name: str, score: Score) -> str:
    return _SHARES.format(name, *(f"{share:.3f}" for share in (score.precision, score.recall, score.f1)))


def _place(text: str, name: str, words: str, start: int, taken: set[tuple[str, int, int]]) -> int:
    places = chain(_places(text, words, start), _places(text, words, 0))
    return next((at for at in places if (name, at, at + len(words)) not in taken), text.find(words))


def _places(text: str, words: str, start: int) -> Iterator[int]:
    """Where the words stand, from `start` on."""
    while (start := text.find(words, start)) >= 0:
        yield start
        start += 1


def _problems(chunk: int, one: _Call) -> list[str]:
    said = one.problems or (() if one.status in _GOOD else ("",))
    return [f"part {chunk + 1}: {one.status}{': ' if problem else ''}{problem}" for problem in said]


def _without(records: Iterable[Grounded], others: Iterable[Grounded]) -> list[Grounded]:
    """Those of `records` that are none of `others`, each of which stands for one."""
    left = Counter(_where(one) for one in others if one.place)
    found: list[Grounded] = []
    for one in records:
        if left[_where(one)]:
            left[_where(one)] -= 1
        else:
            found.append(one)
    return found


def _otherwise(records: Iterable[Grounded], others: Iterable[Grounded]) -> Iterator[str]:
    """Of records that are where they should be, the attributes that are not what they should be."""
    found = {_where(one): one.attributes or {} for one in others if one.place}
    for one in records:
        if (said := found.get(_where(one))) is None:
            continue
        should = one.attributes or {}
        for name in {**should, **said}:
            good, bad = plain(should.get(name)), plain(said.get(name))
            if good != bad and not (good in _EMPTY and bad in _EMPTY):
                yield f"{one.name} '{one.text}': {name} is {_shown(bad)}, not {_shown(good)}"


def _where(record: Grounded) -> tuple[str, tuple[int, int] | None]:
    return record.name, record.place


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _told(record: Grounded) -> str:
    where = f" at {record.place[0]}–{record.place[1]}" if record.place else ", nowhere in the text"
    return f"{record.name} '{record.text}'{where}"


def _instead(record: Grounded, text: str) -> str:
    quote = record.quote(text)
    return "" if quote is None else f": there stands '{quote}'"
