"""Questions, the changes that make others of them, and the ways to write one that do not. Every change has a label."""

import copy
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.bench.differential import meaning

Body = dict[str, Any]
Change = Callable[[Body], None]


class Asked(msgspec.Struct, frozen=True, order=True):
    """What is asked, by the labels it was made with: two are the same question when these are equal."""

    kind: str
    number: int
    """Of the text the changes were made to: no two texts are alike."""
    changes: tuple[tuple[str, int], ...] = ()
    """Which fields, and which of the values in `CHANGES`."""

    @property
    def prompt(self) -> "Asked":
        """The same without what is no part of the prompt."""
        return Asked(self.kind, self.number, tuple(one for one in self.changes if one[0] in PROMPT))

    @property
    def as_heard(self) -> "Asked":
        """The same without what the gateway keeps from the model: no answer can tell."""
        return Asked(self.kind, self.number, tuple(one for one in self.changes if one[0] != "held back"))

    @property
    def is_rewritten(self) -> bool:
        """Whether it asks for tools, a format or an echo: not every engine gets that as it was asked."""
        return not self.body().keys().isdisjoint(_REWRITTEN)

    def body(self) -> Body:
        """As plain as it can be written, without its model."""
        body = _plain(self.kind, self.number)
        # Words are changed where they stand at first, and turns swapped when nothing looks for them any more.
        for name, variant in sorted(self.changes, key=lambda one: (one[0] == "order", one[0] != "words")):
            CHANGES[self.kind][name][variant](body)
        return body

    def changed(self, name: str, variant: int) -> "Asked":
        """Another question: one field has another value."""
        others = dict(self.changes) | {name: variant}
        return Asked(self.kind, self.number, tuple(sorted(others.items())))


_REWRITTEN: Final = frozenset({"tools", "tool_choice", "parallel_tool_calls", "response_format", "echo"})


def _plain(kind: str, number: int) -> Body:
    text = f"Question {number}: is caf\u00e9 number {number} open, and when does it close?"
    if kind == meaning.EMBEDDING:
        return {"input": text}
    if kind == meaning.COMPLETION:
        return {"prompt": ([text], text, [text, text + " Or so?"], [number, 2, 3])[number % 4]}
    turns: list[Body] = [{"role": "system", "content": f"Be brief {number}."}, {"role": "user", "content": text}]
    if number % 3 == 1:
        call = {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
        turns += [{"role": "assistant", "content": None, "tool_calls": [call]}]
        turns += [{"role": "tool", "tool_call_id": f"c{number}", "content": "\u2028 9 to 5"}]
    body: Body = {"messages": turns}
    if number % 4 == 2:
        body["tools"] = [_tool("look"), _tool("book")]
    return body


def _tool(name: str, kind: str = "string") -> Body:
    properties = {"a": {"type": kind}, "b": {"type": "integer"}}
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


def _one_call(body: Body) -> None:
    """Of several tools; without any it means nothing."""
    body["parallel_tool_calls"] = False
    body.setdefault("tools", [_tool("one")])


def _put(**fields: Any) -> Change:
    return lambda body: body.update(copy.deepcopy(fields))


def _puts(name: str, *values: Any) -> tuple[Change, ...]:
    """Give one field each of these values."""
    return tuple(_put(**{name: value}) for value in values)


def _says(variant: int, change: Callable[[str], str]) -> Change:
    """Change the words of the question; where it is tokens, add one."""

    def said(body: Body) -> None:
        if "messages" in body:
            body["messages"][1]["content"] = change(body["messages"][1]["content"])
        else:
            name = "prompt" if "prompt" in body else "input"
            value = body[name]
            if isinstance(value, str):
                body[name] = change(value)
            elif isinstance(value[0], str):
                body[name] = [change(value[0]), *value[1:]]
            else:
                body[name] = [*value, variant]

    return said


def _turn(at: int, **fields: Any) -> Change:
    return lambda body: body["messages"][at].update(fields)


def _parts(body: Body) -> None:
    turn = body["messages"][1]
    turn["content"] = [{"type": "text", "text": turn["content"]}]


def _swapped(body: Body) -> None:
    body["messages"][0], body["messages"][1] = body["messages"][1], body["messages"][0]


_WORDS: Final[tuple[Change, ...]] = tuple(
    _says(variant, change)
    for variant, change in enumerate[Callable[[str], str]](
        (
            lambda text: text + " ",
            lambda text: " " + text,
            lambda text: text + "\n",
            lambda text: text + "\r\n",
            lambda text: text.replace("\u00e9", "e\u0301"),
            lambda text: text.replace("\u00e9", "e"),
            lambda text: text + "\u200b",
            lambda text: text.upper(),
            lambda text: text + "\x00",
            lambda text: text + "😀",
            lambda text: text + "\u2028",
            lambda text: "K" + text,
            lambda text: "\u212a" + text,
        ),
    )
)
_UNKNOWN: Final = _puts(
    "x_unknown",
    *(1, "1", True, 0, False, None, [], {}, "", 1.5, [1], ["1"], {"a": 1}, {"a": "1"}, {"a": [1]}, "true"),
)
_NESTED: Final = _puts(
    "vendor",
    {"deep": [{"a": 1, "b": [1, 2, 3]}]},
    {"deep": [{"a": 2, "b": [1, 2, 3]}]},
    {"deep": [{"a": 1, "b": [1, 3, 2]}]},
    {"deep": [{"a": True, "b": [1, 2, 3]}]},
    {"deep": [{"a": 1, "b": [1, 2, 3], "c": None}]},
    {"deep": {"0": {"a": 1, "b": [1, 2, 3]}}},
)
_ALIKE: Final = tuple(
    _put(**{name: 5}) for name in ("Seed", "seed ", "s\u0435ed", "known", "extra", "n ", "scope", "tenant")
)
_SAMPLING: Final[dict[str, tuple[Change, ...]]] = {
    "seed": _puts("seed", 0, 1, 7, 2**53, 2**53 + 1, 2**63 - 2),
    "temperature": _puts("temperature", 0, 0.5, 0.25, 2),
    "top_p": _puts("top_p", 0.5, 0.9),
    "n": _puts("n", 2, 3),
    "presence_penalty": _puts("presence_penalty", 0.5, -1),
    "frequency_penalty": _puts("frequency_penalty", 0.5, -1),
    "max_tokens": _puts("max_tokens", 1, 2, 17),
    "stop": _puts("stop", ["a"], ["b"], ["a", "b"], ["b", "a"], ["a b"]),
    "logit_bias": _puts("logit_bias", {"1": 1}, {"1": 2}, {"2": 1}, {"1": 1, "2": 1}),
    "top_k": _puts("top_k", 40, 41, "40"),
    "unknown": _UNKNOWN,
    "nested": _NESTED,
    "alike": _ALIKE,
    "held back": (*_puts("cache_salt", "a", "b"), *_puts("priority", 1)),
}

CHANGES: Final[dict[str, dict[str, tuple[Change, ...]]]] = {
    meaning.CHAT: {
        **_SAMPLING,
        "words": _WORDS,
        "parts": (_parts,),
        "order": (_swapped,),
        "role": (_turn(0, role="developer"), _turn(0, role="user")),
        "name": (_turn(0, name="a"), _turn(0, name="b")),
        "turn's field": (_turn(0, cache_control={"type": "ephemeral"}), _turn(0, weight=1), _turn(0, weight=0)),
        "turns": (
            lambda body: body["messages"].append({"role": "user", "content": "Well?"}),
            lambda body: body["messages"].append({"role": "user", "content": ""}),
            lambda body: body["messages"].append({"role": "assistant", "content": "Well?"}),
        ),
        "tools": (
            _put(tools=[_tool("look")]),
            _put(tools=[_tool("look", "number")]),
            _put(tools=[_tool("book"), _tool("look")]),
        ),
        "tool_choice": (
            _put(tool_choice="required"),
            _put(tool_choice={"type": "function", "function": {"name": "look"}}),
        ),
        "parallel": (_one_call,),
        "format": (
            _put(response_format={"type": "json_object"}),
            _put(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}),
            _put(response_format={"type": "json_schema", "json_schema": {"name": "b", "schema": {"type": "object"}}}),
        ),
        "effort": _puts("reasoning_effort", "low", "high"),
        "logprobs": (_put(logprobs=True), _put(logprobs=True, top_logprobs=1), _put(logprobs=True, top_logprobs=2)),
    },
    meaning.COMPLETION: {
        **_SAMPLING,
        "words": _WORDS,
        "suffix": _puts("suffix", "a", "a "),
        "echo": (_put(echo=True),),
        "logprobs": _puts("logprobs", 1, 2),
    },
    meaning.EMBEDDING: {
        "words": _WORDS,
        "dimensions": _puts("dimensions", 4, 8),
        "unknown": _UNKNOWN,
        "nested": _NESTED,
    },
}
PROMPT: Final = frozenset(
    {"words", "parts", "order", "role", "name", "turn's field", "turns", "tools", "tool_choice", "parallel"}
    | {"format", "effort", "suffix"}
)
"""The changes to what the model reads: the others are about how it answers."""


def drawn(kind: str, number: int, chance: random.Random) -> Asked:
    """A question that nobody has asked, with up to three changes."""
    asked = Asked(kind, number)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        asked, _ = neighbour(asked, chance)
    return asked


def neighbour(asked: Asked, chance: random.Random) -> tuple[Asked, str]:
    """A question that differs from `asked` in one field, and which one that is."""
    names = sorted(CHANGES[asked.kind])
    while True:
        name = chance.choice(names)
        variant = chance.randrange(len(CHANGES[asked.kind][name]))
        if dict(asked.changes).get(name) != variant:
            return asked.changed(name, variant), name
