"""OpenAI's `/v1/chat/completions`: bytes -> Request, and Chunks -> its two kinds of reply."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.canonical import Request
from gateway.errors import InvalidRequest
from gateway.wire import body, calls, extractions, reply, retrieval, sampling
from gateway.wire.search import Asked
from storage.entry import Chunk, Usage

PREFIX = "chatcmpl-"
_CHUNK = "chat.completion.chunk"
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Part(msgspec.Struct):
    """One piece of a message that is more than text."""

    type: str
    text: str | None = None


class Message(msgspec.Struct):
    """One turn. Fields not named here travel and count all the same."""

    role: Role
    content: str | list[Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class ChatBody(sampling.Sampling, kw_only=True):
    """The fields of a chat completion request this gateway knows."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: sampling.Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    extract: Any = None
    """askonce's own: what is to be extracted beside the answer."""
    retrieval: Any = None
    """askonce's own: which documents are to be searched for what the model shall read."""


PROMPT = frozenset({"messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"})
PARAMS = frozenset(
    {
        "temperature",
        "top_p",
        "n",
        "presence_penalty",
        "frequency_penalty",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "logit_bias",
        "logprobs",
        "top_logprobs",
    }
)


def decode(data: bytes) -> Request:
    """The request in `data`. Raises `InvalidRequest`."""
    raw = body.decode(data)
    fields = body.typed(raw, ChatBody)
    if fields.top_logprobs and not fields.logprobs:
        message = "'top_logprobs' are given with log-probabilities only; set 'logprobs' to true."
        raise InvalidRequest(message, param="top_logprobs", code="invalid_value")
    calls.expect_made(raw["messages"], "messages[{place}].tool_call_id", "tool_call_id")
    options = fields.stream_options
    wanted = None if fields.extract is None else _extract(fields)
    sought = None if fields.retrieval is None else _retrieval(fields, raw["messages"])
    return Request(
        kind="chat",
        model=fields.model,
        prompt=sampling.prompt(raw, PROMPT),
        params=sampling.params(raw, PARAMS),
        extra=body.unknown(raw, ChatBody),
        stream=bool(fields.stream),
        include_usage=bool(options and options.include_usage),
        size_bytes=len(data),
        extract=wanted,
        retrieval=sought,
    )


def _extract(fields: ChatBody) -> extractions.Wanted:
    if fields.n not in (None, 1):
        message = "'extract' goes with one choice; leave out 'n'."
        raise InvalidRequest(message, param="n", code="invalid_value")
    return extractions.extract(fields.extract)


def _retrieval(fields: ChatBody, messages: list[dict[str, Any]]) -> Asked:
    if fields.extract is not None:
        message = "'retrieval' and 'extract' do not go together yet; ask for one after the other."
        raise InvalidRequest(message, param="extract", code="unsupported_parameter")
    return retrieval.decode(fields.retrieval, messages)


def with_field(content: bytes, name: str, value: Any) -> bytes:
    """A whole reply with a field of the gateway's own."""
    return content.removesuffix(b"}") + b',"%b":%b}' % (name.encode(), reply.encode(value))


def extracted(head: reply.Head, extraction: Any) -> bytes:
    """The event that tells what was extracted beside the answer."""
    return reply.sse({**_frame(head, _CHUNK), "choices": [], "extraction": extraction})


def opening(head: reply.Head, choices: int) -> bytes:
    """The events that open a stream: one role for each choice."""
    return b"".join(_event(head, i, {"role": "assistant", "content": ""}, None, None) for i in range(choices))


def events(head: reply.Head, chunks: Iterable[Chunk]) -> bytes:
    """Each step as an event of the stream. What all events share is encoded once, and so is most of those with text."""
    begins = reply.beginning(_frame(head, _CHUNK))
    return b"".join([_plain(begins, chunk) or _step(head, chunk) for chunk in chunks])


def _plain(begins: bytes, chunk: Chunk) -> bytes:
    """The event of a step that has a text and nothing else; empty for any other."""
    if (
        not chunk.content
        or chunk.finish_reason is not None
        or chunk.tool_calls
        or chunk.reasoning
        or chunk.refusal
        or chunk.logprobs is not None
    ):
        return b""
    return b'%s{"index":%d,"delta":{"content":%s},"finish_reason":null}]}\n\n' % (
        begins,
        chunk.index,
        reply.encode(chunk.content),
    )


def _step(head: reply.Head, chunk: Chunk) -> bytes:
    delta: dict[str, Any] = {}
    if chunk.content or not (chunk.finish_reason or chunk.tool_calls or chunk.reasoning or chunk.refusal):
        delta["content"] = chunk.content
    if chunk.reasoning:
        delta["reasoning_content"] = chunk.reasoning
    if chunk.refusal:
        delta["refusal"] = chunk.refusal
    if chunk.tool_calls:
        delta["tool_calls"] = chunk.tool_calls
    return _event(head, chunk.index, delta, chunk.logprobs, chunk.finish_reason)


def closing(head: reply.Head, usage: Usage | None) -> bytes:
    """The events that end a stream: the usage, if it was asked for, and `[DONE]`."""
    if usage is None:
        return reply.DONE
    frame = _frame(head, _CHUNK)
    return reply.sse({**frame, "choices": [], "usage": reply.usage(usage, head.provenance)}) + reply.DONE


def closing_with(head: reply.Head, usage: Usage | None, own: dict[str, Any]) -> bytes:
    """The same, with fields of the gateway's own in the last event before the end, with the usage or without."""
    counts = {} if usage is None else {"usage": reply.usage(usage, head.provenance)}
    return reply.sse({**_frame(head, _CHUNK), "choices": [], **counts, **own}) + reply.DONE


def whole(head: reply.Head, chunks: Iterable[Chunk], usage: Usage) -> bytes:
    """All steps folded into one JSON reply."""
    choices = [_choice(index, steps) for index, steps in reply.by_choice(chunks)]
    frame = _frame(head, "chat.completion")
    return msgspec.json.encode({**frame, "choices": choices, "usage": reply.usage(usage, head.provenance)})


def _event(
    head: reply.Head, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None, finish: str | None
) -> bytes:
    choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    return reply.sse({**_frame(head, _CHUNK), "choices": [choice]})


def _frame(head: reply.Head, kind: str) -> dict[str, Any]:
    return {"id": head.id, "object": kind, "created": head.created, "model": head.model}


def _choice(index: int, steps: list[Chunk]) -> dict[str, Any]:
    message = reply.message(steps)
    finish = reply.finish_reason(steps)
    return {"index": index, "message": message, "logprobs": reply.logprobs(steps), "finish_reason": finish}
