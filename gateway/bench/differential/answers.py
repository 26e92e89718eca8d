"""A digest -> the answer it decides: steps of every shape, the same in every process. Pure."""

import hashlib
import random
from typing import Any, Final

import msgspec

from gateway.bench.differential import meaning

VECTOR: Final = 8
_ODD: Final = ("\u2028", "é", "e\u0301", "😀", "\n\ndata: x\n\n", "\x00", '"}', " ", "漢")


class Step(msgspec.Struct, frozen=True):
    """One event of an answer, whatever dialect it is written in."""

    index: int = 0
    content: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None


class Said(msgspec.Struct, frozen=True):
    """A whole answer."""

    steps: tuple[Step, ...]
    prompt_tokens: int
    completion_tokens: int


class Wants(msgspec.Struct, frozen=True):
    """What of a body decides the answer's form."""

    kind: str
    choices: int = 1
    tools: bool = False
    json: bool = False
    """An object, and nothing else."""
    alternatives: int | None = None
    """To each token, with its log-probability; None for no log-probabilities."""

    @classmethod
    def of(cls, kind: str, body: dict[str, Any]) -> "Wants":
        """Those of `body`."""
        prompts = body.get("prompt")
        many = len(prompts) if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int) else 1
        alternatives = body.get("logprobs") if kind == meaning.COMPLETION else body.get("top_logprobs") or 0
        asked = body.get("logprobs") not in (None, False)
        return cls(
            kind,
            choices=int(body.get("n") or 1) * many,
            tools=bool(body.get("tools")),
            json=(body.get("response_format") or {}).get("type", "text") != "text",
            alternatives=alternatives if asked else None,
        )


def answer(digest: bytes, wants: Wants) -> Said:
    """The answer to what has this digest."""
    chance = random.Random(digest)
    choices = [_choice(digest, index, wants, chance) for index in range(wants.choices)]
    steps: list[Step] = []
    while left := [choice for choice in choices if choice]:
        steps.append(chance.choice(left).pop(0))
    return Said(tuple(steps), chance.randint(1, 500), len(steps))


def vector(digest: bytes, body: dict[str, Any]) -> list[float]:
    """The embedding of what has this digest; its values are exact in 32 bits."""
    size = body.get("dimensions") or VECTOR
    return [int.from_bytes(digest[2 * i : 2 * i + 2], "big") / 65536 for i in range(size)]


def folded(steps: tuple[Step, ...], index: int) -> Step:
    """All steps of one choice as one, its tool calls joined."""
    own = [step for step in steps if step.index == index]
    return Step(
        index=index,
        content="".join(step.content for step in own),
        reasoning="".join(step.reasoning for step in own),
        refusal="".join(step.refusal for step in own),
        tool_calls=tuple(_joined([call for step in own for call in step.tool_calls])),
        logprobs=_together([step.logprobs for step in own if step.logprobs]),
        finish_reason=next((step.finish_reason for step in own if step.finish_reason), None),
    )


def _choice(digest: bytes, index: int, wants: Wants, chance: random.Random) -> list[Step]:
    text = hashlib.sha256(digest + bytes([index])).hexdigest()
    form = chance.random()
    if wants.kind == meaning.CHAT and wants.tools and form < 0.6:
        return _calling(text, index, chance)
    if wants.kind == meaning.CHAT and form > 0.9:
        refused = [Step(index, refusal=piece) for piece in _pieces(text, chance)]
        return [*refused, Step(index, finish_reason="content_filter")]
    steps: list[Step] = []
    if wants.kind == meaning.CHAT and form > 0.6:
        steps += [Step(index, reasoning=piece) for piece in _pieces(text[:20], chance)]
    for piece in _pieces(text, chance, json=wants.json):
        steps.append(Step(index, piece, logprobs=_logprobs(piece, wants, chance)))
    return [*steps, Step(index, finish_reason=chance.choice(("stop", "length")))]


def _calling(text: str, index: int, chance: random.Random) -> list[Step]:
    steps: list[Step] = []
    for place in range(chance.randint(1, 2)):
        named = {"name": f"tool_{text[place]}", "arguments": ""}
        call = {"index": place, "id": f"call_{text[:8]}{place}", "type": "function", "function": named}
        pieces = _pieces('{"a":"' + text + '"}', chance)
        deltas = [call, *({"index": place, "function": {"arguments": piece}} for piece in pieces)]
        steps += [Step(index, tool_calls=(delta,)) for delta in deltas]
    return [*steps, Step(index, finish_reason="tool_calls")]


def _pieces(text: str, chance: random.Random, *, json: bool = False) -> list[str]:
    """`text` in a few pieces, with a character in it that a careless reader would stumble over; as `json`, an object
    that has it.
    """
    at = chance.randrange(len(text))
    text = text[:at] + chance.choice(_ODD) + text[at:]
    text = msgspec.json.encode({"a": text}).decode() if json else text
    cuts = sorted(chance.sample(range(1, len(text)), chance.randint(1, 4)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def _logprobs(piece: str, wants: Wants, chance: random.Random) -> dict[str, Any] | None:
    if wants.alternatives is None:
        return None
    others = {f"{piece}{i}": -(chance.randrange(1, 4096) / 256) for i in range(wants.alternatives)}
    logprob = -(chance.randrange(4096) / 1024)
    if wants.kind == meaning.COMPLETION:
        return {"tokens": [piece], "token_logprobs": [logprob], "top_logprobs": [others], "text_offset": [0]}
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in others.items()]
    entry = {"token": piece, "logprob": logprob, "bytes": list(piece.encode()), "top_logprobs": top}
    return {"content": [entry], "refusal": None}


def _joined(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    calls: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        if "id" in piece:
            function = {"name": piece["function"]["name"], "arguments": ""}
            calls[piece["index"]] = {"id": piece["id"], "type": "function", "function": function}
        calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    return [calls[place] for place in sorted(calls)]


def _together(several: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not several:
        return None
    names = several[0].keys()
    return {
        name: None if several[0][name] is None else [value for one in several for value in one[name]] for name in names
    }
