"""Tokens and characters of one choice, brought together: which token is where, and how likely it was. Pure."""

from collections.abc import Sequence
from typing import TypeVar

from gateway.proof.said import Likely, Said

T = TypeVar("T")


def at(said: Said, token: int | None) -> Likely | None:
    """How likely a token was; None unless there is one log-probability for each token."""
    if said.token_ids is not None and len(said.likely) != len(said.token_ids):
        return None
    return item(said.likely, token)


def by_character(a: Said, b: Said, character: int) -> int | None:
    """Which token holds the first character that differs, where the log-probabilities name the tokens of either.

    What llama.cpp names are the tokens that end a character; one that is only a piece of it is not counted.
    """
    if a.token_ids is not None and b.token_ids is not None:
        return None  # the tokens are the same, and only their text is another
    found = [place for said in (a, b) if (place := _spoken(said, character)) is not None]
    return min(found, default=None)


def likelihood(here: Likely, mine: Said, other: Said, token: int | None) -> float | None:
    """How likely the other answer's token was, at the place of `here`; None where that was not told."""
    named = at(other, token)
    said = named.token if named else item(other.pieces, token)
    if said is None and token is not None:
        start = len("".join(one.token for one in mine.likely[:token]))
        fitting = [
            name for name in here.others if name and name != here.token and other.content.startswith(name, start)
        ]
        said = max(fitting, key=len, default=None)
    return here.others.get(said) if said is not None else None


def item(items: Sequence[T], place: int | None) -> T | None:
    """One of `items`; None beyond their end."""
    return items[place] if place is not None and place < len(items) else None


def _spoken(said: Said, character: int) -> int | None:
    """Which of the named tokens says a character; None where their names do not make the text up to there."""
    end = 0
    for place, one in enumerate(said.likely):
        if not said.content.startswith(one.token, end):
            return None
        end += len(one.token)
        if end > character:
            return place
    return len(said.likely) if said.likely and end == character == len(said.content) else None
