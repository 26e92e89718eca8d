"""How servers that speak OpenAI's protocol differ: what to say out loud, rename, hold back and expect."""

import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.backends import parameters, probabilities
from gateway.backends.constraints import Manner
from gateway.backends.parameters import Engine
from gateway.canonical import Request

HELD_BACK = frozenset(
    {
        # They choose a slot, a cache partition, a request id or a rank: the gateway's to set, never a client's.
        "id_slot",
        "cache_salt",
        "cache_prompt",
        "verbose",
        "kv_transfer_params",
        "request_id",
        "priority",
        "return_tokens",
        "return_token_ids",
        "return_tokens_as_token_ids",
        "prompt_logprobs",
        "data_parallel_rank",
        # They add events that are no part of an answer.
        "return_progress",
        "timings_per_token",
        "sse_ping_interval",
    }
)


class Dialect(msgspec.Struct, frozen=True):
    """One engine's accent."""

    engine: Engine
    constrains: Manner
    """How it is told what an answer has to be."""
    said: dict[str, Any] = {}
    """Samplers the engine would otherwise default differently from OpenAI, or from a file beside the weights."""
    continues: dict[str, Any] = {}
    """How to say that a last turn of the assistant's is the beginning of the answer, where that is not the default."""
    salts: bool = False
    """Whether it can be told which part of its prefix cache to use."""
    cold: Callable[[], dict[str, Any]] = dict
    """How to say that all of the prompt is to be computed."""
    gives_token_ids: bool = False
    keeps_connections: bool = True
    seed_limit: int = 2**63
    cuts: dict[str, Any] = {}
    """How to say that a text to embed may be cut where it is too long."""
    counts_prompt_per_choice: bool = False
    """Each choice has a usage of its own, with the prompt in it."""
    counts_top_logprobs_from: int = 0
    """The fewest alternatives that can be asked for; fewer are trimmed from the answer."""


OPENAI = Dialect(engine="openai", constrains="plain")
VLLM = Dialect(
    engine="vllm",
    constrains="structural",
    said={"top_k": 0, "min_p": 0, "repetition_penalty": 1},
    continues={"continue_final_message": True, "add_generation_prompt": False},
    salts=True,
    cold=lambda: {"cache_salt": uuid.uuid4().hex},  # what nobody else has, nobody else has computed
    gives_token_ids=True,
    cuts={"truncate_prompt_tokens": -1, "truncation_side": "right"},
)
LLAMACPP = Dialect(
    engine="llamacpp",
    constrains="plain",
    said={"top_k": 0, "min_p": 0, "repeat_penalty": 1},
    salts=True,  # it takes no notice itself, but the states of prompts on disk are kept apart by it
    cold=lambda: {"cache_prompt": False},
    # The server closes after every event stream without saying so; a reused connection would fail.
    keeps_connections=False,
    # 2^32 - 1 means "random".
    seed_limit=2**32 - 1,
    counts_prompt_per_choice=True,
    counts_top_logprobs_from=1,
)


def wire_body(request: Request, model: str, dialect: Dialect) -> dict[str, Any]:
    """The JSON to send for `request`: always a stream, so that a client who leaves can cancel it."""
    renames = parameters.names(dialect.engine)
    extra = {renames.get(name, name): value for name, value in request.extra.items() if name not in HELD_BACK}
    begun = dialect.continues if _is_begun(request) else {}
    body = dialect.said | begun | extra | request.params | request.prompt | {"model": model, "stream": True}
    body["stream_options"] = {"include_usage": True}
    if "seed" in body:
        body["seed"] %= dialect.seed_limit
    if dialect.gives_token_ids and not request.params.get("echo"):  # vLLM's stream has the one or the other
        body["return_token_ids"] = True
    if dialect.salts and request.partition:
        body["cache_salt"] = request.partition
    if request.cold:
        body |= dialect.cold()
    if (alternatives := probabilities.wanted(request)) is not None:
        name = "top_logprobs" if request.kind == "chat" else "logprobs"
        body[name] = max(alternatives, dialect.counts_top_logprobs_from)
    return body


def _is_begun(request: Request) -> bool:
    """Whether the last turn is the assistant's, with text and nothing else: then the answer goes on from there."""
    last: dict[str, Any] = (request.prompt.get("messages") or [{}])[-1]
    return last.get("role") == "assistant" and bool(last.get("content")) and not last.get("tool_calls")
