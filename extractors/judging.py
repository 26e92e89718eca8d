"""A recipe and what a model said of a chunk in; what became of it, and the records that can be used, out."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from extractors import checking
from extractors.reading import Said, Status, read
from extractors.recipe import Recipe

_TOLD = 10
"""Problems that a model is told when it is asked again."""
_TOLD_CHARACTERS = 2000


class Judged(msgspec.Struct, frozen=True):
    """What a completion came to."""

    status: Status
    said: tuple[Said, ...] = ()
    fits: tuple[bool, ...] = ()
    """Of each record, whether its attributes are what the recipe wants of its class."""
    problems: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether there is no reason to ask again."""
        return self.status in ("ok", "empty")

    @property
    def complaint(self) -> str:
        """What a model is told that is asked again."""
        told = "\n".join(f"- {problem}" for problem in self.problems[:_TOLD])
        return (
            f"That answer cannot be used:\n{told[:_TOLD_CHARACTERS]}\nAnswer again, with the whole JSON object alone."
        )


class Judge:
    """Knows what a recipe wants. Made once for many chunks: schemas are compiled."""

    def __init__(self, recipe: Recipe) -> None:
        self._classes = recipe.classes

    @cached_property
    def _validators(self) -> Mapping[str, Any]:
        wanted = {name: checking.forgiving(schema) for name, schema in self._classes.items()}
        return {name: checking.validator(schema) for name, schema in wanted.items()}

    def judge(self, text: str, finish_reason: str | None) -> Judged:
        """What was said, read and checked. A record of a class that the recipe has not is left out, and told of."""
        reading = read(text, finish_reason)
        known = [said for said in reading.said if said.name in self._classes]
        problems = [*reading.problems, *self._unknown(reading.said)]
        wrong = [self._wrong(said) for said in known]
        problems += [problem for found in wrong for problem in found]
        status = reading.status
        if status in ("ok", "empty") and (any(wrong) or len(known) < len(reading.said)):
            status = "invalid"
        return Judged(status, tuple(known), tuple(not found for found in wrong), tuple(problems))

    def _unknown(self, found: tuple[Said, ...]) -> list[str]:
        strange = dict.fromkeys(said.name for said in found if said.name not in self._classes)
        return [f"There is no class '{name[:80]}'; these are: {', '.join(self._classes)}." for name in strange]

    def _wrong(self, said: Said) -> list[str]:
        """What is wrong with its attributes."""
        found = checking.misfits(self._validators[said.name], said.attributes or {})
        return [f"'{said.name}' \"{said.text[:80]}\": {problem}" for problem in found]


def best(tries: Sequence[Judged]) -> int:
    """Which of several tries to use: the last that is good, or else the one with the most records that fit."""
    good = [place for place, one in enumerate(tries) if one.is_good]
    return good[-1] if good else max(range(len(tries)), key=lambda place: (sum(tries[place].fits), place))
