"""A request body, as a client sends it or as a backend gets it -> what it asks, as a digest. Pure.

Written from the documentation of OpenAI's API alone, and not with the gateway's own key: the two are to be compared.
"""

import hashlib
import json
from typing import Any, Final

CHAT: Final = "chat"
COMPLETION: Final = "completion"
EMBEDDING: Final = "embedding"

_TRAVEL: Final = frozenset(
    {
        "model",
        "stream",
        "stream_options",
        "user",
        "metadata",
        "store",
        "safety_identifier",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "encoding_format",
        "return_token_ids",
    }
)
"""What says who asks and how the reply travels. The model is named apart."""

NOT_FOR_BACKENDS: Final = frozenset({"cache_salt", "priority"})
"""Fields that the gateway keeps from backends: they count, but no model can answer to them."""

_DEFAULTS: Final[dict[str, Any]] = {
    "temperature": 1,
    "top_p": 1,
    "n": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "stop": [],
    "logit_bias": {},
    "response_format": {"type": "text"},
    "tools": [],
    "parallel_tool_calls": True,
    "logprobs": False,
    "echo": False,
    "best_of": 1,
    # What is said to vLLM because its own default may be another.
    "top_k": 0,
    "min_p": 0,
    "repetition_penalty": 1,
}
_GOING_ON: Final = {"continue_final_message": True, "add_generation_prompt": False}
"""What is said to vLLM where the last turn is the model's own: to go on from there, as others do by themselves."""
_KNOWN: Final = _DEFAULTS.keys() | {"seed", "max_tokens", "suffix", "tool_choice", "reasoning_effort", "dimensions"}


def digest(kind: str, model: str, weights: str, body: dict[str, Any]) -> bytes:
    """What decides the answer: the question, the model and its weights."""
    return hashlib.sha256(json.dumps([kind, model, weights, meant(kind, body)], sort_keys=True).encode()).digest()


def meant(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """`body` without what cannot change the answer; numbers of equal value are written alike."""
    found = {name: _alike(value) for name, value in body.items() if name not in _TRAVEL | NOT_FOR_BACKENDS}
    limit = found.pop("max_completion_tokens", None)
    if limit is not None:
        found["max_tokens"] = limit
    if isinstance(found.get("stop"), str):
        found["stop"] = [found["stop"]]
    if kind == COMPLETION and found.get("max_tokens") == 16:
        del found["max_tokens"]
    if kind == CHAT and _goes_on(found["messages"]):
        found = {name: value for name, value in found.items() if name not in _GOING_ON or value is not _GOING_ON[name]}
    if found.get("top_logprobs") == 0:
        del found["top_logprobs"]
    if found.get("tool_choice") == ("auto" if found.get("tools") else "none"):
        del found["tool_choice"]
    return {name: value for name, value in found.items() if not _says_nothing(name, value)}


def _goes_on(messages: list[dict[str, Any]]) -> bool:
    last = messages[-1]
    return last["role"] == "assistant" and bool(last.get("content")) and not last.get("tool_calls")


def _says_nothing(name: str, value: Any) -> bool:
    if value is None:
        return name in _KNOWN
    default = _DEFAULTS.get(name)
    return value == default and isinstance(value, bool) == isinstance(default, bool)


def _alike(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _alike(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_alike(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
