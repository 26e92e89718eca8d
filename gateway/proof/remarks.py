"""What else explains that an answer is another one now: in words, for people. Pure."""

from typing import Any, Protocol

from gateway.canonical import Identity
from gateway.proof import rebuilding
from storage.entry import Entry
from storage.verifications import Outcome


class Done(Protocol):
    """What came of asking again."""

    @property
    def outcome(self) -> Outcome:
        """In a word."""
        ...

    @property
    def prompt_changed(self) -> bool:
        """Whether the model reads the prompt in other tokens now."""
        ...

    @property
    def repeats(self) -> bool | None:
        """Whether the model said the same both times; None when it was asked once."""
        ...


def remarks(entry: Entry, done: Done, now: Identity) -> dict[str, Any]:
    """Whether the answer could be repeated at all, whether the record is sound, and what has changed since."""
    repeatable = rebuilding.is_repeatable(entry.query.kind, entry.query.params)
    sound = rebuilding.is_own_key(entry.query)
    said = [
        "" if repeatable else "It was sampled without a seed, so every time is another answer.",
        "" if sound else "The record's key is not that of its question: somebody changed the record.",
        _identity(rebuilding.identity(entry.query), now),
        "The model reads this prompt in other tokens than then: its template or tokenizer is another."
        if done.prompt_changed
        else "",
        _steadiness(entry, done),
    ]
    return {"reproducible": repeatable, "key_matches": sound, "notes": [sentence for sentence in said if sentence]}


def _identity(then: Identity, now: Identity) -> str:
    words = {"engine": "engine", "engine_version": "version of the engine", "model_version": "version of the model"}
    changed = [word for name, word in words.items() if getattr(then, name) != getattr(now, name)]
    return f"Another {' and another '.join(changed)} answers now." if changed else ""


def _steadiness(entry: Entry, done: Done) -> str:
    """Asked with and without what is in its prefix cache, the engine said two things."""
    if done.repeats is not False:
        return ""
    if done.outcome == "identical":
        return (
            "The first try said something else, the second the same as then: this engine does not always repeat itself."
        )
    cached = entry.usage.cached_tokens
    then = f", and had {cached} of the prompt's {entry.usage.prompt_tokens} tokens in its cache then" if cached else ""
    return f"Asked twice, the engine said two things{then}: it does not repeat itself."
