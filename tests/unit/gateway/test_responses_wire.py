"""`/v1/responses` -> the question a chat completion would ask; steps -> items and events that OpenAI's types take."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway import key
from gateway.canonical import Identity, Request
from gateway.errors import BackendError, InvalidRequest
from gateway.wire import openai_chat, reply
from gateway.wire.openai_responses import asked, items, output
from gateway.wire.openai_responses.told import Told
from storage.entry import Chunk, Usage
from tests.unit.gateway.test_wire import TEXT, answers

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
HEAD = reply.Head("resp_1", 1_700_000_000, "m", "generated")
HI = {"model": "m", "input": "Hi"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def decoded(**fields: Any) -> asked.Asked:
    """A request with some fields changed."""
    return asked.decode(json.dumps(HI | fields).encode())


def named(request: Request) -> bytes:
    """Its key."""
    return key.query(request, "s", Identity("e", "1", "w")).key


def chat(**fields: Any) -> Request:
    """The chat completion."""
    said = [{"role": "user", "content": "Hi"}]
    return openai_chat.decode(json.dumps({"model": "m", "messages": said} | fields).encode())


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": ({}, {}),
    "instructions": (
        {"instructions": "Be brief."},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
    ),
    "limit": ({"max_output_tokens": 5}, {"max_completion_tokens": 5}),
    "sampling": (
        {"temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": "x", "top_k": 40},
        {"temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["x"], "top_k": 40},
    ),
    "defaults": ({"temperature": 1, "parallel_tool_calls": True, "tool_choice": "none", "truncation": "disabled"}, {}),
    "plain text": ({"text": {"format": {"type": "text"}}}, {}),
    "JSON": ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
    "schema": (
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}},
    ),
    "verbosity": ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
    "effort": ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    "likelihoods": (
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"logprobs": True, "top_logprobs": 2},
    ),
    "tools": (
        {
            "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": True, "description": None}],
            "tool_choice": {"type": "function", "name": "f"},
            "parallel_tool_calls": False,
        },
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": False,
        },
    ),
    "who asks": ({"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}, {}),
    "images": (
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": "data:x", "detail": "high"},
                    ],
                }
            ]
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {"type": "image_url", "image_url": {"url": "data:x", "detail": "high"}},
                    ],
                }
            ]
        },
    ),
    "turns": (
        {
            "input": [
                {"role": "user", "content": "a"},
                {
                    "type": "message",
                    "id": "msg_1",
                    "status": "completed",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "b", "annotations": [], "logprobs": []}],
                },
                CALL,
                CALL | {"id": "fc_1", "status": "completed"},
                {"type": "function_call_output", "call_id": "c", "output": "1"},
                {"role": "assistant", "content": "c"},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "d"}]},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "tool_calls": [CALLED, CALLED]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
                {"role": "assistant", "content": "c"},
                {"role": "assistant", "content": None, "refusal": "d"},
            ]
        },
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_question_has_the_same_key(name: str) -> None:
    """As the chat completion that says the same."""
    here, there = SAME[name]
    assert named(decoded(**here).question()) == named(chat(**there))


COUNTING: dict[str, Any] = {
    "model": "other",
    "input": "other",
    "instructions": "other",
    "temperature": 0.1,
    "top_p": 0.5,
    "max_output_tokens": 3,
    "top_logprobs": 3,
    "include": ["message.output_text.logprobs"],
    "text": {"verbosity": "low"},
    "reasoning": {"effort": "low"},
    "tools": [{"type": "function", "name": "f"}],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "seed": 1,
    "stop": "x",
    "presence_penalty": 1,
    "frequency_penalty": 1,
    "logit_bias": {"1": 1},
}
"""A value of each field that can change the answer."""
NEUTRAL: dict[str, Any] = {
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "store": False,
    "background": False,
    "metadata": {"a": "b"},
    "max_tool_calls": 3,
    "truncation": "disabled",
    "user": "u",
    "safety_identifier": "s",
    "service_tier": "auto",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "previous_response_id": "resp_1",  # the turns before it count, not what it is called
}
"""A value of each field that cannot."""


def test_every_typed_field_counts_or_cannot_change_the_answer() -> None:
    """A new one fails here until somebody decides."""
    assert sorted([*COUNTING, *NEUTRAL]) == sorted(asked.ResponseBody.__struct_encode_fields__)
    plain = named(decoded().question())
    same = {name for name, value in (COUNTING | NEUTRAL).items() if named(decoded(**{name: value}).question()) == plain}
    assert same == set(NEUTRAL)


def test_thoughts_go_before_what_was_said() -> None:
    """They are of the same message."""
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    said = {"role": "assistant", "content": "b"}
    together = {"role": "assistant", "content": "b", "reasoning_content": "Hm.", "tool_calls": [CALLED]}
    assert items.messages(items.read([thought, said, CALL])) == [together]
    assert items.messages(items.read([said, thought, CALL]))[1]["reasoning_content"] == "Hm."


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "built-in tool": ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    "custom tool": ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
    "a tool that is none": ({"tools": ["web_search"]}, "tools[0].type"),
    "tool without a name": ({"tools": [{"type": "function"}]}, "tools[0].name"),
    "deferred tool": ({"tools": [{"type": "function", "name": "x", "defer_loading": True}]}, "tools[0].defer_loading"),
    "choice": ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
    "choice in words": ({"tool_choice": "maybe"}, "tool_choice"),
    "choice of nothing": ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
    "conversation": ({"conversation": "conv_1"}, "conversation"),
    "prompt": ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    "background": ({"background": True}, "background"),
    "truncation": ({"truncation": "auto"}, "truncation"),
    "unknown": ({"colour": "red"}, "colour"),
    "of chat": ({"max_tokens": 5}, "max_tokens"),
    "messages": ({"messages": []}, "messages"),
    "several": ({"n": 2}, "n"),
    "moderation": ({"moderation": {"model": "m"}}, "moderation"),
    "no input": ({"input": None}, "input"),
    "empty input": ({"input": []}, "input"),
    "input of numbers": ({"input": [5]}, "input[0]"),
    "item": ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
    "reference to nothing": ({"input": [{"type": "item_reference"}]}, "input[0].id"),
    "role": ({"input": [{"role": "bot", "content": "x"}]}, "input[0].role"),
    "no content": ({"input": [{"role": "user"}]}, "input[0].content"),
    "part": ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
    "part without text": (
        {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        "input[0].content[0].text",
    ),
    "image of a file": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
        "input[0].content[0].image_url",
    ),
    "encrypted": ({"input": [{"type": "reasoning", "encrypted_content": "x"}]}, "input[0].encrypted_content"),
    "call": ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
    "result": ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
    "schema": ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    "format": ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    "summary": ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
    "temperature": ({"temperature": 3}, "temperature"),
    "metadata": ({"metadata": {"a": 1}}, "metadata[...]"),
    "include": ({"include": ["everything"]}, "include[0]"),
    "unlikely": ({"top_logprobs": 50}, "top_logprobs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_named(name: str) -> None:
    """With the field, as a client writes it."""
    fields, param = REFUSED[name]
    with pytest.raises(InvalidRequest) as refused:
        decoded(**fields)
    assert refused.value.param == param
    assert str(refused.value).endswith(".")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["message", "function", "user", "text", "auto"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "name", "text", "format", "output", "call_id", "schema"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted({*asked.ResponseBody.__struct_fields__, "prompt"})), ANYTHING))
def test_nonsense_is_refused_and_never_a_mistake_of_ours(fields: dict[str, Any]) -> None:
    """What is taken can be asked."""
    with contextlib.suppress(InvalidRequest):
        named(decoded(**fields).question())


@given(answers(), st.booleans())
def test_events_put_together_are_the_whole_response(steps: list[Chunk], likely: bool) -> None:
    """OpenAI's types take every event and the whole; deltas are the text; the output is what a chat would say."""
    chunks = [step for step in steps if step.index == 0] + [Chunk(usage=Usage(1, 2))]
    wanted = decoded(include=["message.output_text.logprobs"] if likely else [])
    told = [Told(HEAD, wanted, stored=True, completed_at=1) for _ in range(2)]
    events = parsed(told[0].opening() + b"".join(told[0].step(chunk) for chunk in chunks) + told[0].closing())
    whole = json.loads(told[1].whole(chunks))
    assert events[-1]["response"] == whole
    Response.model_validate(whole)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        EVENT.validate_python(event)
    for place, item in enumerate(whole["output"]):
        mine = [event for event in events if event.get("output_index") == place]
        assert [mine[0]["type"], mine[-1]["type"]] == ["response.output_item.added", "response.output_item.done"]
        assert mine[-1]["item"] == item
        deltas = "".join(event["delta"] for event in mine if event["type"].endswith(".delta"))
        assert deltas == item.get("arguments", "".join(part_text(part) for part in item.get("content", ())))
    folded = reply.message(chunks)
    messages = items.messages(whole["output"])
    assert "".join(message["content"] or "" for message in messages) == (folded["content"] or "")
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    assert sorted(map(told_call, calls)) == sorted(map(told_call, folded.get("tool_calls", ())))


def told_call(call: dict[str, Any]) -> str:
    """A call, but not its place: items come in the order in which they began."""
    return str(call["function"])


def part_text(part: dict[str, Any]) -> str:
    """What a part says."""
    return part.get("text") or part.get("refusal") or ""


def parsed(stream: bytes) -> list[Any]:
    """The events."""
    blocks = stream.decode().split("\n\n")[:-1]
    return [json.loads(block.split("\n", 1)[1].removeprefix("data: ")) for block in blocks]


@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(-1, 20))
def test_events_from_any_number_on(words: list[str], after: int) -> None:
    """Are those of the whole stream."""
    chunks = [*(Chunk(content=word) for word in words), Chunk(finish_reason="stop")]

    def stream(since: int) -> list[Any]:
        told = Told(HEAD, decoded(), stored=True, completed_at=1, after=since)
        return parsed(told.opening() + b"".join(told.step(chunk) for chunk in chunks) + told.closing())

    assert stream(after) == stream(-1)[after + 1 :]


def test_a_failed_response_says_what_went_wrong() -> None:
    """As the last event, in OpenAI's words for it."""
    told = Told(HEAD, decoded(), stored=True)
    told.opening()
    told.step(Chunk(content="a"))
    [last] = parsed(told.failed(BackendError("It broke.")))
    EVENT.validate_python(last)
    assert (last["response"]["status"], last["response"]["store"]) == ("failed", False)
    assert last["response"]["error"]["message"] == "It broke."


def test_every_kind_of_item_is_listed() -> None:
    """With an id, in a shape that OpenAI's types take."""
    given_items = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        CALL,
        {"type": "function_call_output", "call_id": "c", "output": "1"},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]},
    ]
    for item in items.shown(items.read(given_items), "1"):
        ITEM.validate_python(item)
        assert item["id"].endswith(tuple("01234"))


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    """Clients look for one."""
    [item] = output.items("1", [Chunk(finish_reason="stop")])
    assert item["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]
