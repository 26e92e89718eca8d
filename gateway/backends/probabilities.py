"""Log-probabilities as servers give them -> as OpenAI documents them, with no more alternatives than were asked for."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import msgspec

from gateway.canonical import Request
from storage.entry import Chunk


def wanted(request: Request) -> int | None:
    """How many alternatives to each token; None when no log-probabilities were asked for."""
    asked = request.params.get("logprobs")
    if request.kind == "completion":
        return asked
    return request.params.get("top_logprobs", 0) if asked else None


def shown(content: Sequence[dict[str, Any]], request: Request) -> dict[str, Any]:
    """Entries of `token`, `logprob`, `bytes` and `top_logprobs` in the form of the request's own endpoint."""
    most = wanted(request) or 0
    tops: list[list[dict[str, Any]]] = [(entry.get("top_logprobs") or [])[:most] for entry in content]
    if request.kind == "completion":
        return {
            "tokens": [entry["token"] for entry in content],
            "token_logprobs": [entry["logprob"] for entry in content],
            "top_logprobs": [{other["token"]: other["logprob"] for other in top} for top in tops],
        }
    entries = [
        {**_named(entry), "top_logprobs": [_named(other) for other in top]}
        for entry, top in zip(content, tops, strict=True)
    ]
    return {"content": entries, "refusal": None}


class Offsets:
    """Says of each token of a completion where in its choice's text it begins. vLLM says it itself."""

    def __init__(self) -> None:
        self._said: dict[int, int] = {}

    def placed(self, step: Chunk) -> Chunk:
        """`step` with the places of its tokens, in characters; pieces of a character are where it begins."""
        begun = self._said.get(step.index, 0)
        self._said[step.index] = begun + len(step.content)
        tokens: list[str] | None = (step.logprobs or {}).get("tokens")
        if step.logprobs is None or tokens is None or step.logprobs.get("text_offset") is not None:
            return step
        ends = accumulate((len(token) for token in tokens), initial=begun)
        places = [min(end, self._said[step.index]) for end in ends][: len(tokens)]
        return msgspec.structs.replace(step, logprobs=step.logprobs | {"text_offset": places})


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry.get(name) for name in ("token", "logprob", "bytes")}
