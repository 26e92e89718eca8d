"""A question -> the bytes and headers of one request: everything about them that must not matter is drawn anew."""

import json
import random
from collections.abc import Callable
from typing import Any, Final

from gateway.bench.differential import meaning

Body = dict[str, Any]
Habit = Callable[[Body, random.Random], None]


def _may_say(**fields: Any) -> Habit:
    """Say fields out loud where they are left out."""

    def said(body: Body, chance: random.Random) -> None:
        del chance
        for name, value in fields.items():
            body.setdefault(name, value)

    return said


def _limit(body: Body, chance: random.Random) -> None:
    """The older name or the newer, or both, of which the newer counts."""
    if body.get("max_tokens") is not None:
        body["max_completion_tokens"] = body["max_tokens"]
        if chance.random() < 0.5:
            del body["max_tokens"]
        else:
            body["max_tokens"] = 1000


def _stop(body: Body, chance: random.Random) -> None:
    del chance
    match body.get("stop"):
        case [mark]:
            body["stop"] = mark
        case _:
            pass


def _floats(body: Body, chance: random.Random) -> None:
    """2 and 2.0 are the same number."""
    del chance
    for name in ("temperature", "top_p", "presence_penalty", "x_unknown", "top_k"):
        if type(body.get(name)) is int:
            body[name] = float(body[name])


def _tool_choice(body: Body, chance: random.Random) -> None:
    del chance
    body.setdefault("tool_choice", "auto" if body.get("tools") else "none")


_BOTH: Final[dict[str, Habit]] = {
    "user": _may_say(user="somebody"),
    "metadata": _may_say(metadata={"a": "b"}),
    "default temperature": _may_say(temperature=1),
    "default temperature, a float": _may_say(temperature=1.0),
    "null temperature": _may_say(temperature=None),
    "default top_p and n": _may_say(top_p=1, n=1),
    "default penalties": _may_say(presence_penalty=0, frequency_penalty=-0.0),
    "empty stop and bias": _may_say(stop=[], logit_bias={}),
    "nulls": _may_say(stop=None, seed=None, logit_bias=None, max_tokens=None),
    "stop as a string": _stop,
    "floats": _floats,
}
HABITS: Final[dict[str, dict[str, Habit]]] = {
    meaning.CHAT: {
        **_BOTH,
        "store": _may_say(store=True, safety_identifier="x", service_tier="flex"),
        "cache hints": _may_say(prompt_cache_key="x", prompt_cache_retention="24h"),
        "other name of max_tokens": _limit,
        "default format": _may_say(response_format={"type": "text"}),
        "no tools": _may_say(tools=[]),
        "no log-probabilities": _may_say(logprobs=False),
        "default choice of tools": _tool_choice,
        "parallel tool calls": _may_say(parallel_tool_calls=True),
    },
    meaning.COMPLETION: {
        **_BOTH,
        "default max_tokens": _may_say(max_tokens=16),
        "no echo, one of one": _may_say(echo=False),
    },
    meaning.EMBEDDING: {
        "user": _may_say(user="somebody"),
        "floats out loud": _may_say(encoding_format="float"),
        "base64": _may_say(encoding_format="base64"),
        "null dimensions": _may_say(dimensions=None),
    },
}
"""Ways to write a body that ask for the same."""


def habits(kind: str, chance: random.Random) -> tuple[str, ...]:
    """Up to three of them."""
    return tuple(chance.sample(sorted(HABITS[kind]), chance.choice((0, 0, 1, 2, 3))))


def written(kind: str, body: Body, chosen: tuple[str, ...], chance: random.Random) -> bytes:
    """`body` as bytes, with these habits, its fields in any order, in any of the ways to write JSON."""
    for name in chosen:
        HABITS[kind][name](body, chance)
    form = chance.randrange(4)
    text = json.dumps(
        _shuffled(body, chance),
        ensure_ascii=form % 2 == 0,
        indent=2 if form == 3 else None,
        separators=(",", ":") if form == 0 else None,
    )
    return text.encode()


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(name, _shuffled(inner, chance)) for name, inner in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [_shuffled(inner, chance) for inner in value] if isinstance(value, list) else value
