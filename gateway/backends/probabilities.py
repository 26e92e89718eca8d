"""Log-probabilities as servers give them -> as OpenAI documents them, with no more alternatives than were asked for."""

from collections.abc import Sequence
from typing import Any

from gateway.canonical import Request


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


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry.get(name) for name in ("token", "logprob", "bytes")}
