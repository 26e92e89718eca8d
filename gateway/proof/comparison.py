"""Two answers -> `Comparison`: the same, or where they first part and how each goes on. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from gateway.proof import places
from gateway.proof.said import Said, choices
from storage.entry import Chunk
from storage.verifications import Outcome

SHOWN_CHARACTERS: Final = 60
"""How much text is shown before and after the place where two answers part."""

Voice = Literal["reasoning", "content", "refusal", "tool_calls"]
VOICES: Final[tuple[Voice, ...]] = ("reasoning", "content", "refusal", "tool_calls")
"""What a choice says, in the order in which it is said."""


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """How one of the two answers goes on."""

    text: str = ""
    """From the place on, cut."""
    token_id: int | None = None
    token: str | None = None
    """The token's text, where it is known."""
    logprob: float | None = None
    """How likely this token was in this answer."""
    other_logprob: float | None = None
    """How likely the other answer's token was in the same place of this one."""
    finish_reason: str | None = None
    """Set when this answer ends here."""


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """The first place where two answers are not the same."""

    choice: int
    where: Voice | Literal["tokens", "finish_reason"]
    """What parts: a kind of text, only the tokens behind the same text, or only the reason for the end."""
    token: int | None = None
    """Which token of the answer, from 0; None where tokens are not known."""
    character: int | None = None
    """Which character of `where`, from 0; None where the texts are the same."""
    before: str = ""
    """The end of what both say."""
    then: Alternative
    now: Alternative


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one choice; of each pair the first is then and the second now."""

    index: int
    outcome: Outcome
    finish_reasons: tuple[str | None, str | None]
    tokens: tuple[int | None, int | None]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What came of comparing."""

    compared: Literal["tokens", "text"]
    choices: tuple[Choice, ...]
    divergence: Divergence | None = None

    @property
    def outcome(self) -> Outcome:
        """In a word."""
        return "diverged" if self.divergence else "identical"


def compare(then: Sequence[Chunk], now: Sequence[Chunk]) -> Comparison:
    """Compare two answers: by tokens where both have all of them, and by text, tool calls and finish reasons."""
    old, new = choices(then), choices(now)
    pairs = [(index, old.get(index, Said()), new.get(index, Said())) for index in sorted(old.keys() | new.keys())]
    found = [(index, a, b, _parting(index, a, b)) for index, a, b in pairs]
    by_tokens = all(a.token_ids is not None and b.token_ids is not None for _, a, b in pairs)
    return Comparison(
        compared="tokens" if by_tokens else "text",
        choices=tuple(
            Choice(
                index=index,
                outcome="diverged" if parting else "identical",
                finish_reasons=(a.finish_reason, b.finish_reason),
                tokens=(_count(a), _count(b)),
            )
            for index, a, b, parting in found
        ),
        divergence=next((parting for *_, parting in found if parting), None),
    )


def parted(a: Sequence[object], b: Sequence[object]) -> int | None:
    """Where two sequences first differ, which may be the end of the shorter one; None when they are equal."""
    if a == b:
        return None
    # By halves: comparing slices takes no step of Python for each item.
    return bisect_left(range(min(len(a), len(b))), 1, key=lambda end: int(a[: end + 1] != b[: end + 1]))


def _parting(index: int, a: Said, b: Said) -> Divergence | None:
    token = None if a.token_ids is None or b.token_ids is None else parted(a.token_ids, b.token_ids)
    where: Voice | None = next((voice for voice in VOICES if getattr(a, voice) != getattr(b, voice)), None)
    if where is None:
        return _silent(index, a, b, token)
    one: str = getattr(a, where)
    two: str = getattr(b, where)
    character = parted(one, two) or 0
    if token is None and where == "content":
        token = places.by_character(a, b, character)
    return Divergence(
        choice=index,
        where=where,
        token=token,
        character=character,
        before=one[max(0, character - SHOWN_CHARACTERS) : character],
        then=_alternative(a, b, token, one[character:]),
        now=_alternative(b, a, token, two[character:]),
    )


def _silent(index: int, a: Said, b: Said, token: int | None) -> Divergence | None:
    """A difference that no text shows."""
    if token is None and a.finish_reason == b.finish_reason:
        return None
    return Divergence(
        choice=index,
        where="finish_reason" if token is None else "tokens",
        token=token,
        before=a.content[-SHOWN_CHARACTERS:] if token is None else "",
        then=_alternative(a, b, token, ""),
        now=_alternative(b, a, token, ""),
    )


def _alternative(mine: Said, other: Said, token: int | None, rest: str) -> Alternative:
    here = places.at(mine, token)
    ended = not rest and (token is None or mine.token_ids is None or token >= len(mine.token_ids))
    return Alternative(
        text=rest[:SHOWN_CHARACTERS],
        token_id=places.item(mine.token_ids or (), token),
        token=here.token if here else places.item(mine.pieces, token),
        logprob=here.logprob if here else None,
        other_logprob=places.likelihood(here, mine, other, token) if here else None,
        finish_reason=mine.finish_reason if ended else None,
    )


def _count(said: Said) -> int | None:
    return None if said.token_ids is None else len(said.token_ids)
