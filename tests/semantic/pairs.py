"""Pairs of questions, each with what is right: whether one's answer may be given to the other.

They are made, the same ones each time, from questions that people worded by hand (`tuning.toml`, `held_out.toml`).
"""

import itertools
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

HERE: Final = Path(__file__).parent
Half = Literal["tuning", "held_out"]
PARAPHRASE: Final = "paraphrase"
SURFACE: Final = "surface"
"""The same words, typed otherwise."""
DIFFERENCES: Final = frozenset(
    {
        "antonym",
        "comparison",
        "direction",
        "entity",
        "identifier",
        "language",
        "negation",
        "number",
        "quantifier",
        "question",
        "quoted",
        "scope",
        "time",
        "unit",
    }
)


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question in several wordings, and others near to it, each after what is different in it."""

    same: tuple[str, ...]
    near: tuple[tuple[str, str], ...]


class Pair(msgspec.Struct, frozen=True):
    """Two questions, what kind of pair they are, and which item they come from, counted within its half."""

    left: str
    right: str
    kind: str
    item: int

    @property
    def is_same(self) -> bool:
        """Whether the answer to one of them answers the other."""
        return self.kind in {PARAPHRASE, SURFACE}


def pairs(half: Half) -> list[Pair]:
    """All pairs of a half, in the order of their items. Raises `ValueError` for a file that says something else."""
    return [pair for number, item in enumerate(items(half)) for pair in _of(number, item)]


def items(half: Half) -> Sequence[Item]:
    """The questions of a half, as they were worded."""
    content = tomllib.loads((HERE / f"{half}.toml").read_text("utf-8"))
    return msgspec.convert(content, dict[str, tuple[Item, ...]])["item"]


def _of(number: int, item: Item) -> Iterator[Pair]:
    for left, right in itertools.combinations(item.same, 2):
        yield Pair(left, right, PARAPHRASE, number)
    first = item.same[0]
    for other in dict.fromkeys(_typed(first)):
        if other != first:
            yield Pair(first, other, SURFACE, number)
    for kind, text in item.near:
        for wording in item.same:
            yield Pair(wording, text, kind, number)


def _typed(text: str) -> Iterator[str]:
    """As others would type it: nothing that could change the answer."""
    yield "  " + text.rstrip(".?!。 ") + "\n"
    yield text[0].lower() + text[1:]
    if text.isascii() and '"' not in text:
        yield f"Hello! {text} Thanks in advance."
        yield text.replace("'", "’").replace(" ", "  ")
