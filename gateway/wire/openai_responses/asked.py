"""Bytes -> what is asked. With the turns before it, that is the question a chat completion would ask."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gateway.canonical import Request
from gateway.errors import InvalidRequest
from gateway.wire import body, calls, sampling
from gateway.wire.openai_responses import items, tools
from gateway.wire.openai_responses.items import Item

_TOLD: Final = 80
_Name = Annotated[str, Meta(min_length=1)]
_LOGPROBS: Final = "message.output_text.logprobs"
_Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class StreamOptions(msgspec.Struct):
    """How a stream shall be sent. Obfuscation is padding; none is sent here."""

    include_obfuscation: bool | None = None


class Format(msgspec.Struct):
    """The form of the text."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class Text(msgspec.Struct):
    """How the text shall be."""

    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(msgspec.Struct):
    """How the model shall think."""

    effort: str | None = None
    summary: Literal["auto"] | None = None
    """Thoughts are given as they are, so a summary of another kind cannot be had."""
    generate_summary: Literal["auto"] | None = None
    mode: Literal["standard"] | None = None
    context: Literal["auto"] | None = None


class ResponseBody(msgspec.Struct, kw_only=True):
    """The fields of a request that can be honoured. Null is the same as left out."""

    model: _Name
    input: str | Annotated[list[Any], Meta(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
        | None
    ) = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_output_tokens: sampling.Count | None = None
    max_tool_calls: sampling.Count | None = None
    """Of tools that the server calls by itself: there are none here."""
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[_Include] | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    # What a chat completion takes and OpenAI's responses do not: local models are asked with them.
    seed: sampling.Seed | None = None
    stop: sampling.Stop | None = None
    presence_penalty: sampling.Penalty | None = None
    frequency_penalty: sampling.Penalty | None = None
    logit_bias: sampling.Bias | None = None


_SAME: Final = frozenset(
    {"temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "top_logprobs"}
)
"""Parameters that a chat completion has under the same name."""

ENGINES: Final = frozenset({"top_k", "min_p", "repetition_penalty", "repeat_penalty", "chat_template_kwargs"})
"""What engines know beyond OpenAI's API; they travel on, as they do from a chat completion."""

_REFUSED: Final = {
    "conversation": "conversations are not kept here; send 'previous_response_id', or the items themselves",
    "prompt": "prompt templates are not kept here; send 'instructions' and 'input'",
    "messages": "here it is called 'input'",
    "max_tokens": "here it is called 'max_output_tokens'",
    "max_completion_tokens": "here it is called 'max_output_tokens'",
    "response_format": "here it is called 'text.format'",
    "reasoning_effort": "here it is called 'reasoning.effort'",
    "verbosity": "here it is called 'text.verbosity'",
    "functions": "here it is called 'tools'",
    "logprobs": "here it is asked for with 'include'",
    "n": "a response has one answer",
}
_IMPOSSIBLE: Final = {
    ("background", True): "Responses are not made in the background here; leave it out and stream the answer.",
    ("truncation", "auto"): "Nothing of a conversation is left out here: leave 'truncation' out, or send 'disabled'.",
}
"""Values that cannot be honoured of fields that can."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a response. What it follows is looked up by `previous_id`."""

    fields: dict[str, Any]
    """What the client sent, without `input` and without nulls: a response repeats it."""
    items: tuple[Item, ...]
    size_bytes: int

    @property
    def previous_id(self) -> str | None:
        """The response that this one follows."""
        return self.fields.get("previous_response_id")

    @property
    def stored(self) -> bool:
        """Whether the client wants the response kept."""
        return self.fields.get("store", True)

    @property
    def stream(self) -> bool:
        """Whether the client wants events."""
        return self.fields.get("stream", False)

    @property
    def tells_logprobs(self) -> bool:
        """Whether the reply has likelihoods."""
        return _LOGPROBS in self.fields.get("include", ()) or "top_logprobs" in self.fields

    def question(self, earlier: Sequence[Item] = (), earlier_bytes: int = 0) -> Request:
        """What the model is asked: the same as in a chat completion with these messages and parameters.

        Raises `InvalidRequest` for a tool's result that is of no call.
        """
        told = self.fields.get("instructions")
        said = [{"role": "system", "content": told}] if told else []
        turns = items.messages([*earlier, *self.items])
        calls.expect_made(turns, "input", "call_id")
        prompt = {"messages": [*said, *turns], **self._wishes()}
        raw = {name: self.fields[name] for name in _SAME if name in self.fields}
        if self.tells_logprobs:
            raw |= {"logprobs": True}
        if limit := self.fields.get("max_output_tokens"):
            raw["max_tokens"] = limit
        verbosity = self.fields.get("text", {}).get("verbosity")
        extra = {name: value for name, value in self.fields.items() if name in ENGINES}
        return Request(
            kind="chat",
            model=self.fields["model"],
            prompt=prompt,
            params=sampling.params(raw, _SAME | {"logprobs", "max_tokens"}),
            extra=extra | ({"verbosity": verbosity} if verbosity else {}),
            stream=self.stream,
            size_bytes=self.size_bytes + earlier_bytes,
        )

    def _wishes(self) -> dict[str, Any]:
        """What the model reads beside the messages."""
        called = [tools.chat_tool(tool) for tool in self.fields.get("tools", ())]
        raw = {
            "tools": called,
            "tool_choice": tools.chat_choice(self.fields.get("tool_choice")),
            "parallel_tool_calls": self.fields.get("parallel_tool_calls"),
            "response_format": _response_format(self.fields.get("text", {}).get("format")),
            "reasoning_effort": self.fields.get("reasoning", {}).get("effort"),
        }
        return sampling.prompt(raw, frozenset(raw))


def decode(data: bytes) -> Asked:
    """What is asked in `data`. Raises `InvalidRequest`, naming the field that is wrong or cannot be honoured."""
    raw = {name: value for name, value in body.decode(data).items() if value is not None}
    _expect_known(raw)
    fields = body.typed(raw, ResponseBody)
    _expect_possible(raw, fields)
    tools.check(fields.tools or (), fields.tool_choice)
    _whole_format(fields.text.format if fields.text else None)
    sent = {name: _without_nulls(value) for name, value in raw.items() if name != "input"}
    return Asked(fields=sent, items=items.read(fields.input), size_bytes=len(data))


def _expect_possible(raw: dict[str, Any], fields: ResponseBody) -> None:
    for (name, value), message in _IMPOSSIBLE.items():
        if raw.get(name) == value:
            raise InvalidRequest(message, param=name, code="unsupported_parameter")
    inner = {"text": fields.text, "reasoning": fields.reasoning, "text.format": fields.text and fields.text.format}
    for name, shape in inner.items():
        if shape is not None:
            _expect_nothing_more(raw["text"]["format"] if name == "text.format" else raw[name], type(shape), name)


def _expect_nothing_more(raw: dict[str, Any], shape: type[msgspec.Struct], param: str) -> None:
    for name, value in body.unknown(raw, shape).items():
        if value is not None:
            said = f"{param}.{name[:_TOLD]}"
            message = f"'{said}' is not known here; leave it out."
            raise InvalidRequest(message, param=said, code="unsupported_parameter")


def _expect_known(raw: dict[str, Any]) -> None:
    for name in raw:
        if name in ResponseBody.__struct_fields__ or name in ENGINES:
            continue
        said = name[:_TOLD]
        why = _REFUSED.get(name, "it is not known here, or needs a service that is not here")
        message = f"'{said}' cannot be honoured: {why}."
        raise InvalidRequest(message, param=said, code="unsupported_parameter")


def _without_nulls(value: Any) -> Any:
    """An object without the fields of its own that are null: they are as good as left out."""
    return {name: inner for name, inner in value.items() if inner is not None} if isinstance(value, dict) else value


def _whole_format(wanted: Format | None) -> None:
    if wanted is None or wanted.type != "json_schema":
        return
    for name in ("name", "schema"):
        if getattr(wanted, name) is None:
            message = f"'text.format.{name}' is missing."
            raise InvalidRequest(message, param=f"text.format.{name}", code="missing_field")


def _response_format(wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    inner = {name: value for name, value in wanted.items() if name != "type" and value is not None}
    if wanted["type"] != "json_schema":
        return {"type": wanted["type"], **inner}
    return {"type": "json_schema", "json_schema": inner}
