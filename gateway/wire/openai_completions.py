"""OpenAI's `/v1/completions`: bytes -> Request, and Chunks -> its two kinds of reply."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.canonical import Request
from gateway.errors import InvalidRequest
from gateway.wire import body, reply, sampling
from storage.entry import Chunk, Usage

PREFIX = "cmpl-"
Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class CompletionBody(sampling.Sampling, kw_only=True):
    """The fields of a completion request this gateway knows."""

    prompt: str | list[str | Token | Annotated[list[Token], Meta(min_length=1)]]
    suffix: str | None = None
    echo: bool | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


PROMPT = frozenset({"prompt", "suffix"})
PARAMS = frozenset(
    {
        "temperature",
        "top_p",
        "n",
        "presence_penalty",
        "frequency_penalty",
        "max_tokens",
        "stop",
        "seed",
        "logit_bias",
        "logprobs",
        "echo",
        "best_of",
    }
)


def decode(data: bytes) -> Request:
    """The request in `data`. Raises `InvalidRequest`."""
    raw = body.decode(data)
    fields = body.typed(raw, CompletionBody)
    _one_kind(fields.prompt)
    options = fields.stream_options
    return Request(
        kind="completion",
        model=fields.model,
        prompt=sampling.asked(raw, PROMPT),
        # 16 is what OpenAI documents for a limit left out here; chat has none.
        params={"max_tokens": 16} | sampling.params(raw, PARAMS),
        extra=body.unknown(raw, CompletionBody),
        stream=bool(fields.stream),
        include_usage=bool(options and options.include_usage),
        size_bytes=len(data),
    )


def opening(head: reply.Head, choices: int) -> bytes:
    """Nothing: a completion stream has no opening events."""
    del head, choices
    return b""


def events(head: reply.Head, chunks: Iterable[Chunk]) -> bytes:
    """Each step as an event of the stream. What all events share is encoded once."""
    begins = reply.beginning(_frame(head))
    return b"".join([b"%s%s]}\n\n" % (begins, reply.encode(_said(chunk))) for chunk in chunks])


def _said(chunk: Chunk) -> dict[str, Any]:
    return {
        "index": chunk.index,
        "text": chunk.content,
        "logprobs": chunk.logprobs,
        "finish_reason": chunk.finish_reason,
    }


def closing(head: reply.Head, usage: Usage | None) -> bytes:
    """The events that end a stream: the usage, if it was asked for, and `[DONE]`."""
    if usage is None:
        return reply.DONE
    return reply.sse({**_frame(head), "choices": [], "usage": reply.usage(usage, head.provenance)}) + reply.DONE


def whole(head: reply.Head, chunks: Iterable[Chunk], usage: Usage) -> bytes:
    """All steps folded into one JSON reply."""
    steps: defaultdict[int, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        steps[chunk.index].append(chunk)
    choices = [_choice(index, steps[index]) for index in sorted(steps)]
    return msgspec.json.encode({**_frame(head), "choices": choices, "usage": reply.usage(usage, head.provenance)})


def _frame(head: reply.Head) -> dict[str, Any]:
    return {"id": head.id, "object": "text_completion", "created": head.created, "model": head.model}


def _choice(index: int, steps: list[Chunk]) -> dict[str, Any]:
    return {
        "index": index,
        "text": "".join(step.content for step in steps),
        "logprobs": reply.logprobs(steps),
        "finish_reason": next((step.finish_reason for step in steps if step.finish_reason), None),
    }


def _one_kind(prompt: str | list[Any]) -> None:
    """Refuse an empty list, and lists that mix texts with tokens."""
    if isinstance(prompt, str):
        return
    if len({type(item) for item in prompt}) != 1:
        message = "'prompt' must be a string, or a list with at least one of: all strings, all tokens, all token lists."
        raise InvalidRequest(message, param="prompt", code="invalid_value")
