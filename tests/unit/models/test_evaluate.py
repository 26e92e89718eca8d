"""The evaluation: what it counts, against servers whose answers are known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from gateway.models.training import evaluate
from gateway.models.training.corpus import Example
from gateway.models.training.evaluate import Server


@dataclass(frozen=True)
class Known(Server):
    """A server that answers right, but for the first `wrong` examples of each suite."""

    wrong: int = 0

    def answers(self, examples: Sequence[Example], parallel: int) -> list[str]:
        """Return the answers without asking anybody."""
        return [self.url if number < self.wrong else example.answer for number, example in enumerate(examples)]


@pytest.mark.parametrize(("other", "right", "same"), [("one", 2, 3), ("two", 2, 2)])
def test_right_and_same_answers_are_counted(other: str, right: int, same: int) -> None:
    """An answer is right if it is the gold's text; two wrong ones agree if they are one text."""
    first = Known("one", "m", wrong=1)
    found = evaluate.measure([first, replace(first, url=other, wrong=2)], 4)
    assert [result.asked for result in found] == [4, 4, 2, 2, 2]
    assert (found[0].suite, found[0].right, found[0].same) == ("extraction", (3, right), same)


def test_one_server_agrees_with_itself() -> None:
    """A single server can be measured, too."""
    assert all(result.same == result.asked for result in evaluate.measure([Known("one", "m", wrong=1)], 2))
