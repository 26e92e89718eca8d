"""Ollama's questions and embeddings: bytes -> Request, and Chunks -> NDJSON lines or one reply.

A question asked here and the same one asked in OpenAI's dialect are one question: both become the same `Request`,
but for what a client here leaves to the model.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.canonical import Request
from gateway.errors import InvalidRequest
from gateway.wire import body, reply, sampling
from storage.entry import Chunk, Usage
from storage.vector import unpacked

SAID = {"temperature": 0.8, "top_p": 0.9}
SAID_EXTRA = {"top_k": 40}
"""Ollama's documented defaults, where they differ from OpenAI's. A model of Ollama's own may have others."""

_DEFAULTS = frozenset(sampling.DEFAULTS) - {"n"} | frozenset(SAID) | frozenset(SAID_EXTRA) | {"max_tokens"}
_NEVER_CUT_BYTES = 200
"""No model has so short a context. Whether it may be cut is no part of such a question, so that it is that of OpenAI's
clients; a model that cannot take it all the same refuses it.
"""
_RENAMED = {"num_predict": "max_tokens"}
_MESSAGE = frozenset({"role", "content", "images", "tool_calls", "tool_name", "thinking"})
_KNOWN = frozenset({"temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "max_tokens"})
_Name = Annotated[str, Meta(min_length=1)]


class Options(msgspec.Struct, kw_only=True):
    """The options this gateway knows; others travel on."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    seed: sampling.Seed | None = None
    stop: sampling.Stop | None = None
    presence_penalty: sampling.Penalty | None = None
    frequency_penalty: sampling.Penalty | None = None
    num_predict: Annotated[int, Meta(ge=-2)] | None = None


class Function(msgspec.Struct):
    """What is called."""

    name: str | None = None
    arguments: dict[str, Any] | None = None


class Call(msgspec.Struct):
    """A call of a tool."""

    function: Function


class Message(msgspec.Struct):
    """One turn. Fields not named here travel and count all the same."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    thinking: str | None = None


class Common(msgspec.Struct, kw_only=True):
    """Fields of both text endpoints."""

    model: _Name
    stream: bool | None = None
    options: Options | None = None
    format: Literal["json", ""] | dict[str, Any] | None = None
    keep_alive: str | float | None = None
    think: bool | Literal["low", "medium", "high"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class ChatBody(Common, kw_only=True):
    """The fields of `/api/chat` this gateway knows."""

    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None


class GenerateBody(Common, kw_only=True):
    """The fields of `/api/generate` this gateway knows."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None
    template: str | None = None
    context: list[int] | None = None


class EmbedBody(msgspec.Struct, kw_only=True):
    """The fields of `/api/embed` this gateway knows."""

    model: _Name
    input: Annotated[str, Meta(min_length=1)] | Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    truncate: bool | None = None
    keep_alive: str | float | None = None


class LegacyEmbedBody(msgspec.Struct, kw_only=True):
    """The fields of `/api/embeddings` this gateway knows."""

    model: _Name
    prompt: str | None = None
    keep_alive: str | float | None = None


class ModelBody(msgspec.Struct):
    """A body that names a model; older clients call it `name`."""

    model: str | None = None
    name: str | None = None


class Load(msgspec.Struct, frozen=True):
    """A request that says nothing: Ollama's way of loading a model, or of unloading it."""

    model: str
    unload: bool


def decode_chat(data: bytes) -> Request | Load:
    """The conversation in `data`, or no more than a model to load. Raises `InvalidRequest`."""
    raw = body.decode(data)
    fields = body.typed(raw, ChatBody)
    if not fields.messages:
        return _load(fields.model, fields.keep_alive)
    prompt: dict[str, Any] = {"messages": [_message(message) for message in raw["messages"]]}
    if fields.tools:
        prompt["tools"] = raw["tools"]
    return _request("chat", raw, fields, prompt, len(data))


def decode_generate(data: bytes) -> Request | Load:
    """The prompt in `data`: a conversation of one turn, or with `raw` a text to continue; or a model to load.

    Raises `InvalidRequest`.
    """
    raw = body.decode(data)
    fields = body.typed(raw, GenerateBody)
    _possible(fields)
    if not fields.prompt:
        return _load(fields.model, fields.keep_alive)
    if fields.raw or fields.suffix:
        prompt: dict[str, Any] = {"prompt": fields.prompt} | ({"suffix": fields.suffix} if fields.suffix else {})
        return _request("completion", raw, fields, prompt, len(data))
    system = [{"role": "system", "content": fields.system}] if fields.system else []
    user = _message({"role": "user", "content": fields.prompt, "images": fields.images})
    return _request("chat", raw, fields, {"messages": [*system, user]}, len(data))


def decode_embed(data: bytes) -> tuple[Request, ...]:
    """The requests in `data`, one for each input. Raises `InvalidRequest`."""
    raw = body.decode(data)
    fields = body.typed(raw, EmbedBody)
    inputs = [fields.input] if isinstance(fields.input, str) else fields.input
    params: dict[str, Any] = {"dimensions": fields.dimensions} if fields.dimensions else {}
    if fields.truncate is not False and any(len(text.encode()) > _NEVER_CUT_BYTES for text in inputs):
        params["truncate"] = True
    extra = body.unknown(raw, EmbedBody)
    shared: dict[str, Any] = {
        "kind": "embedding",
        "model": fields.model,
        "params": params,
        "extra": extra,
        "size_bytes": len(data),
    }
    return tuple(Request(prompt={"input": text}, **shared) for text in inputs)


def decode_embeddings(data: bytes) -> Request | Load:
    """The one text in `data`, the same question as in `/api/embed`; or a model to load. Raises `InvalidRequest`."""
    raw = body.decode(data)
    fields = body.typed(raw, LegacyEmbedBody)
    if not fields.prompt:
        return _load(fields.model, fields.keep_alive)
    extra = body.unknown(raw, LegacyEmbedBody)
    return Request("embedding", fields.model, {"input": fields.prompt}, {}, extra, size_bytes=len(data))


def decode_show(data: bytes) -> str:
    """The model named in `data`. Raises `InvalidRequest`."""
    fields = body.typed(body.decode(data), ModelBody)
    if found := fields.model or fields.name:
        return found
    message = "'model' is missing."
    raise InvalidRequest(message, param="model", code="missing_field")


def loaded(asked: Load, *, chat: bool) -> bytes:
    """The reply to a request that says nothing."""
    reason = "unload" if asked.unload else "load"
    said = _said("", "", [], chat=chat)
    return msgspec.json.encode(
        {"model": asked.model, "created_at": _now(), **said, "done": True, "done_reason": reason}
    )


def line(head: reply.Head, chunk: Chunk, *, chat: bool) -> bytes:
    """One step as a line; nothing for a step that only ends the answer."""
    if not (chunk.content or chunk.reasoning):
        return b""
    said = _said(chunk.content, chunk.reasoning, [], chat=chat)
    return _line({**_frame(head), **said, **_likely([chunk]), "done": False})


def last_lines(head: reply.Head, chunks: Sequence[Chunk], usage: Usage, *, chat: bool) -> bytes:
    """The lines that end a stream: tool calls, each whole, then why it ended, counts and times."""
    called = any(chunk.tool_calls for chunk in chunks)
    calls = _line({**_frame(head), **_said("", "", chunks, chat=chat), "done": False}) if chat and called else b""
    return calls + _line({**_frame(head), **_said("", "", [], chat=chat), **_ending(head, chunks, usage)})


def whole(head: reply.Head, chunks: Sequence[Chunk], usage: Usage, *, chat: bool) -> bytes:
    """All steps as one reply."""
    content = "".join(chunk.content for chunk in chunks)
    reasoning = "".join(chunk.reasoning for chunk in chunks)
    said = _said(content, reasoning, chunks, chat=chat)
    return msgspec.json.encode({**_frame(head), **said, **_likely(chunks), **_ending(head, chunks, usage)})


def embeddings(model: str, vectors: Sequence[bytes], usage: Usage, total_ns: int, provenance: str) -> bytes:
    """The reply to `/api/embed`."""
    counts = {"total_duration": total_ns, "load_duration": 0, "prompt_eval_count": usage.prompt_tokens}
    marked = {**counts, **reply.marker(provenance, usage.cost_micro_usd)}
    return msgspec.json.encode({"model": model, "embeddings": [unpacked(v) for v in vectors], **marked})


def embedding(vector: bytes) -> bytes:
    """The reply to `/api/embeddings`; no text has no numbers."""
    return msgspec.json.encode({"embedding": unpacked(vector)})


def _load(model: str, keep_alive: str | float | None) -> Load:
    return Load(model, unload=keep_alive in (0, "0", "0s"))


def _possible(fields: GenerateBody) -> None:
    """Refuse fields that exclude each other, as Ollama does, and those that this gateway cannot apply."""
    if fields.raw and (fields.system or fields.template or fields.context):
        message = "Raw mode does not support 'template', 'system' or 'context'."
        raise InvalidRequest(message, param="raw", code="invalid_value")
    if fields.suffix and (fields.system or fields.images):
        message = "'suffix' completes a bare text; leave out 'system' and 'images'."
        raise InvalidRequest(message, param="suffix", code="invalid_value")
    for name in ("template", "context"):
        if getattr(fields, name):
            message = (
                f"'{name}' cannot be applied here; send the conversation to /api/chat, or a rendered text with 'raw'."
            )
            raise InvalidRequest(message, param=name, code="unsupported_parameter")
    if fields.raw and fields.images:
        message = "'images' cannot be sent with 'raw'; leave one of them out."
        raise InvalidRequest(message, param="images", code="unsupported_parameter")


def _request(
    kind: Literal["chat", "completion"], raw: dict[str, Any], fields: Common, prompt: dict[str, Any], size_bytes: int
) -> Request:
    given: dict[str, Any] = {name: value for name, value in (raw.get("options") or {}).items() if value is not None}
    if wrong := given.keys() & set(_RENAMED.values()):
        named = wrong.pop()
        right = next(name for name, other in _RENAMED.items() if other == named)
        message = f"Ollama has no option '{named}'; it is called '{right}'."
        raise InvalidRequest(message, param=f"options.{named}", code="invalid_value")
    options = {_RENAMED.get(name, name): value for name, value in given.items()}
    said = set(options)
    if options.get("max_tokens", 0) < 0:  # -1 and -2 mean no limit
        del options["max_tokens"]
    known = {name: value for name, value in options.items() if name in _KNOWN}
    if fields.logprobs:
        most = fields.top_logprobs or 0
        known |= {"logprobs": True, "top_logprobs": most} if kind == "chat" else {"logprobs": most}
    unknown = {name: value for name, value in options.items() if name not in _KNOWN}
    if wanted := _response_format(fields.format):
        prompt["response_format"] = wanted
    if fields.think is True or (kind == "completion" and fields.think):
        unknown["think"] = fields.think
    elif kind == "chat" and fields.think is not None:
        prompt["reasoning_effort"] = fields.think or "none"  # the same question, as OpenAI's clients ask it
    return Request(
        kind=kind,
        model=fields.model,
        prompt=prompt,
        params=sampling.params(SAID | known, _KNOWN | {"logprobs", "top_logprobs"}),
        extra=SAID_EXTRA | unknown | body.unknown(raw, type(fields)),
        stream=fields.stream is not False,
        include_usage=True,
        size_bytes=size_bytes,
        unsaid=_DEFAULTS - said,
    )


def _response_format(wanted: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if isinstance(wanted, dict):
        return {"type": "json_schema", "json_schema": {"name": "format", "schema": wanted}}
    return {"type": "json_object"} if wanted else None


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message in OpenAI's shape: images as parts, tool arguments as text. Unknown fields stay."""
    unknown = {name: value for name, value in message.items() if name not in _MESSAGE}
    sent: dict[str, Any] = unknown | {"role": message["role"], "content": message.get("content") or ""}
    if images := message.get("images"):
        parts = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images]
        sent["content"] = [{"type": "text", "text": sent["content"]}, *parts]
    if calls := message.get("tool_calls"):
        sent["tool_calls"] = [_tool_call(place, call) for place, call in enumerate(calls)]
    if name := message.get("tool_name"):
        # Ollama knows calls by name, and newer clients of it by id as well.
        sent |= {"name": name} if message.get("tool_call_id") else {"tool_call_id": name}
    if thought := message.get("thinking"):
        sent["reasoning_content"] = thought
    return sent


_SIGNATURES = {"iVBOR": "png", "/9j/": "jpeg", "R0lG": "gif", "UklG": "webp"}


def _data_url(image: str) -> str:
    kind = next((name for start, name in _SIGNATURES.items() if image.startswith(start)), None)
    if kind is None:
        message = "'images' takes base64 of PNG, JPEG, GIF or WebP files."
        raise InvalidRequest(message, param="images", code="invalid_value")
    return f"data:image/{kind};base64,{image}"


def _tool_call(place: int, call: dict[str, Any]) -> dict[str, Any]:
    function: dict[str, Any] = call.get("function") or {}
    arguments = msgspec.json.encode(function.get("arguments") or {}).decode()
    return {
        "id": f"call_{place}",
        "type": "function",
        **call,
        "function": {**function, "arguments": arguments},
    }


def _frame(head: reply.Head) -> dict[str, Any]:
    return {"model": head.model, "created_at": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _said(content: str, reasoning: str, chunks: Iterable[Chunk], *, chat: bool) -> dict[str, Any]:
    thinking = {"thinking": reasoning} if reasoning else {}
    if not chat:
        return {"response": content, **thinking}
    calls = [_called(call) for call in reply.message(list(chunks)).get("tool_calls", ())]
    return {
        "message": {"role": "assistant", "content": content, **thinking, **({"tool_calls": calls} if calls else {})}
    }


def _called(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    try:
        arguments = msgspec.json.decode(function["arguments"] or "{}")
    except msgspec.DecodeError:
        arguments = {"arguments": function["arguments"]}  # a model's text that is no JSON: shown rather than lost
    return {"function": {"name": function["name"], "arguments": arguments}}


def _likely(chunks: Iterable[Chunk]) -> dict[str, Any]:
    """How likely the tokens were, where somebody wanted to know."""
    logprobs = (reply.logprobs(chunks) or {}).get("content")
    return {"logprobs": logprobs} if logprobs else {}


def _ending(head: reply.Head, chunks: Sequence[Chunk], usage: Usage) -> dict[str, Any]:
    finish = next((chunk.finish_reason for chunk in chunks if chunk.finish_reason), "stop")
    first, last = (chunks[0].after_ms, chunks[-1].after_ms) if chunks else (0.0, 0.0)
    return {
        "done": True,
        "done_reason": "length" if finish == "length" else "stop",
        "total_duration": _ns(last),
        "load_duration": 0,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": _ns(first),
        "eval_count": usage.completion_tokens,
        "eval_duration": _ns(last - first),
        **reply.marker(head.provenance, usage.cost_micro_usd),
    }


def _ns(ms: float) -> int:
    return round(ms * 1_000_000)


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"
