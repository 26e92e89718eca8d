"""What else explains that an answer is another one now: in words, for people. Pure."""

from typing import Any

from gateway.canonical import Identity
from gateway.proof import rebuilding
from storage.entry import Entry


def remarks(entry: Entry, *, now: Identity, prompt_changed: bool) -> dict[str, Any]:
    """Whether the answer could be repeated at all, whether the record is sound, and what has changed since."""
    repeatable = rebuilding.is_repeatable(entry.query.kind, entry.query.params)
    sound = rebuilding.is_own_key(entry.query)
    said = [
        "" if repeatable else "It was sampled without a seed, so every time is another answer.",
        "" if sound else "The record's key is not that of its question: somebody changed the record.",
        _identity(rebuilding.identity(entry.query), now),
        "The model reads this prompt in other tokens than then: its template or tokenizer is another."
        if prompt_changed
        else "",
        _warmth(entry),
    ]
    return {"reproducible": repeatable, "key_matches": sound, "notes": [sentence for sentence in said if sentence]}


def _identity(then: Identity, now: Identity) -> str:
    words = {"engine": "engine", "engine_version": "version of the engine", "model_version": "version of the model"}
    changed = [word for name, word in words.items() if getattr(then, name) != getattr(now, name)]
    return f"Another {' and another '.join(changed)} answers now." if changed else ""


def _warmth(entry: Entry) -> str:
    cached = entry.usage.cached_tokens
    if entry.query.engine != "llamacpp" or not cached:
        return ""
    return (
        f"llama.cpp had {cached} of the prompt's {entry.usage.prompt_tokens} tokens in its cache then, and computed all"
        " of them now; that changes the last digits of its numbers."
    )
