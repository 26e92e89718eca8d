"""Chunks -> replies: a stream put together again is the whole reply, in both dialects."""

import json
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.errors import InvalidRequest
from gateway.wire import openai_chat, openai_completions, openai_embeddings, reply
from storage.entry import Chunk, Usage
from storage.vector import packed

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
HEAD = reply.Head("id-1", 1_700_000_000, "m")
LOGPROB = st.builds(
    lambda token: {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}, TEXT
)
LOGPROBS = st.builds(lambda content: {"content": content, "refusal": None}, st.lists(LOGPROB, max_size=2))
CALLS = st.builds(
    lambda place, name, arguments: (
        {
            "index": place,
            **({"id": f"call_{place}", "type": "function"} if name else {}),
            "function": {**({"name": f"f{place}"} if name else {}), "arguments": arguments},
        },
    ),
    st.integers(0, 2),
    st.booleans(),
    TEXT,
)
STEPS = st.builds(
    Chunk,
    index=st.integers(0, 2),
    content=TEXT,
    reasoning=TEXT | st.just(""),
    refusal=TEXT | st.just(""),
    tool_calls=st.just(()) | CALLS,
    logprobs=st.none() | LOGPROBS,
)


@st.composite
def answers(draw: st.DrawFn) -> list[Chunk]:
    """A complete answer: each choice ends once, and a tool call is named once."""
    steps = draw(st.lists(STEPS, max_size=12))
    named: set[tuple[int, int]] = set()
    kept: list[Chunk] = []
    for step in steps:
        begins = any("name" in call["function"] for call in step.tool_calls)
        place = (step.index, step.tool_calls[0]["index"]) if step.tool_calls else None
        if place and begins == (place in named):
            continue
        if place:
            named.add(place)
        kept.append(step)
    ends = [Chunk(index=index, finish_reason=draw(st.sampled_from(["stop", "length"]))) for index in range(3)]
    return kept + ends


def events(data: bytes) -> list[Any]:
    """The JSON of each event; every event is one `data:` line and an empty one."""
    blocks = data.decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [block[6:] if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]


def streamed(wire: ModuleType, chunks: list[Chunk], usage: Usage | None, choices: int = 3) -> list[Any]:
    """A whole stream's events."""
    data = wire.opening(HEAD, choices) + wire.events(HEAD, chunks)
    return events(data + wire.closing(HEAD, usage))


def chat_folded(stream: list[Any]) -> dict[int, dict[str, Any]]:
    """Put a chat stream together, as clients do."""
    found: dict[int, dict[str, Any]] = {}
    for event in stream:
        for choice in event["choices"]:
            into = found.setdefault(
                choice["index"],
                {"role": "", "content": "", "reasoning": "", "refusal": "", "calls": {}, "logprobs": [], "finish": []},
            )
            delta = choice["delta"]
            into["role"] += delta.get("role", "")
            into["content"] += delta.get("content", "")
            into["reasoning"] += delta.get("reasoning_content", "")
            into["refusal"] += delta.get("refusal", "")
            for call in delta.get("tool_calls", ()):
                kept = into["calls"].setdefault(call["index"], {"id": None, "name": "", "arguments": ""})
                kept["id"] = kept["id"] or call.get("id")
                kept["name"] += call["function"].get("name", "")
                kept["arguments"] += call["function"].get("arguments", "")
            into["logprobs"] += (choice.get("logprobs") or {}).get("content") or []
            into["finish"] += [choice["finish_reason"]] if choice["finish_reason"] else []
    return found


@given(answers())
def test_a_chat_stream_put_together_is_the_whole_reply(chunks: list[Chunk]) -> None:
    """Contents, reasoning, refusals, tool calls and log-probabilities of every choice."""
    stream = streamed(openai_chat, chunks, None)
    assert stream.pop() == "[DONE]"
    for event in stream:
        ChatCompletionChunk.model_validate(event, strict=False)
    whole = json.loads(openai_chat.whole(HEAD, chunks, Usage(3, 4)))
    ChatCompletion.model_validate(whole)
    folded = chat_folded(stream)
    assert sorted(folded) == [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    for choice in whole["choices"]:
        message, other = choice["message"], folded[choice["index"]]
        assert (message["role"], message["content"] or "") == (other["role"], other["content"])
        assert message.get("reasoning_content", "") == other["reasoning"]
        assert (message["refusal"] or "") == other["refusal"]
        calls = [other["calls"][place] for place in sorted(other["calls"])]
        found = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls", [])]
        assert found == calls
        assert ((choice["logprobs"] or {}).get("content") or []) == other["logprobs"]
        assert [choice["finish_reason"]] == other["finish"]


@given(answers())
def test_a_step_makes_the_same_event_alone_and_among_others(chunks: list[Chunk]) -> None:
    """To the byte, and as its JSON is written by any encoder: a text has no form of its own."""
    for wire in (openai_chat, openai_completions):
        told = wire.events(HEAD, chunks)
        assert told == b"".join(wire.events(HEAD, [chunk]) for chunk in chunks)
        assert told == b"".join(b"data: %s\n\n" % msgspec.json.encode(event) for event in events(told))


@given(answers())
def test_a_completion_stream_put_together_is_the_whole_reply(chunks: list[Chunk]) -> None:
    """Texts and finish reasons of every choice."""
    chunks = [Chunk(index=chunk.index, content=chunk.content, finish_reason=chunk.finish_reason) for chunk in chunks]
    stream = streamed(openai_completions, chunks, None)
    assert stream.pop() == "[DONE]"
    whole = json.loads(openai_completions.whole(HEAD, chunks, Usage(3, 4)))
    Completion.model_validate(whole)
    for choice in whole["choices"]:
        mine = [event["choices"][0] for event in stream if event["choices"][0]["index"] == choice["index"]]
        assert choice["text"] == "".join(part["text"] for part in mine)
        assert [choice["finish_reason"]] == [part["finish_reason"] for part in mine if part["finish_reason"]]


@pytest.mark.parametrize("text", ["a\u2028b\u2029c\x85d", "\r\n\n\r", "data: [DONE]\n\n", "\x00", "é漢😀", '"\\'])
@pytest.mark.parametrize("wire", [openai_chat, openai_completions])
def test_no_text_can_break_an_event(wire: ModuleType, text: str) -> None:
    """Line ends of any kind stay inside their event, for strict readers and for those that split at U+2028 too."""
    data = wire.events(HEAD, [Chunk(content=text)])
    (event,) = events(data)
    choice = event["choices"][0]
    assert (choice["text"] if wire is openai_completions else choice["delta"]["content"]) == text
    assert data.count(b"\n") == 2
    assert b"\r" not in data


@pytest.mark.parametrize("wire", [openai_chat, openai_completions])
def test_usage_comes_last_and_only_when_asked_for(wire: ModuleType) -> None:
    """In an event without choices, before `[DONE]`."""
    chunks = [Chunk(content="a"), Chunk(finish_reason="stop")]
    *_, last, done = streamed(wire, chunks, Usage(3, 4, 1), 1)
    assert (last["choices"], done) == ([], "[DONE]")
    assert last["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert not any("usage" in event for event in streamed(wire, chunks, None, 1)[:-1])


def test_every_choice_of_a_chat_opens_with_its_role() -> None:
    """Once, with empty content, before anything else."""
    first, second = events(openai_chat.opening(HEAD, 2))
    assert [event["choices"][0]["index"] for event in (first, second)] == [0, 1]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_embeddings_come_as_numbers_or_as_base64() -> None:
    """The same float32s either way."""
    vectors = [packed([0.5, -1.0]), packed([2.0, 0.25])]
    body = {"model": "m", "input": ["a", "b"]}
    shown = json.loads(openai_embeddings.encode(openai_embeddings.decode(json.dumps(body).encode()), vectors, Usage(3)))
    assert [item["embedding"] for item in shown["data"]] == [[0.5, -1.0], [2.0, 0.25]]
    assert [item["index"] for item in shown["data"]] == [0, 1]
    assert shown["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    asked = openai_embeddings.decode(json.dumps(body | {"encoding_format": "base64"}).encode())
    assert json.loads(openai_embeddings.encode(asked, vectors, Usage()))["data"][0]["embedding"] == "AAAAPwAAgL8="


MISFITS: dict[str, tuple[Any, dict[str, Any], str | None, str]] = {
    "no model": (openai_chat, {"messages": [{"role": "user"}]}, "model", "missing"),
    "model null": (openai_chat, {"model": None, "messages": [{"role": "user"}]}, "model", "null"),
    "model number": (openai_chat, {"model": 5, "messages": [{"role": "user"}]}, "model", "not a whole number"),
    "model empty": (openai_chat, {"model": "", "messages": [{"role": "user"}]}, "model", "must not be empty"),
    "no messages": (openai_chat, {"model": "m"}, "messages", "missing"),
    "messages empty": (openai_chat, {"model": "m", "messages": []}, "messages", "at least one"),
    "messages text": (openai_chat, {"model": "m", "messages": "Hi"}, "messages", "not a string"),
    "message text": (openai_chat, {"model": "m", "messages": ["Hi"]}, "messages[0]", "not a string"),
    "no role": (openai_chat, {"model": "m", "messages": [{"content": "Hi"}]}, "messages[0].role", "missing"),
    "bad role": (openai_chat, {"model": "m", "messages": [{"role": "bot"}]}, "messages[0].role", "bot"),
    "content": (
        openai_chat,
        {"model": "m", "messages": [{"role": "user", "content": 5}]},
        "messages[0].content",
        "not a whole number",
    ),
    "part": (
        openai_chat,
        {"model": "m", "messages": [{"role": "user", "content": [{}]}]},
        "messages[0].content[0].type",
        "missing",
    ),
    "n zero": (openai_chat, {"n": 0}, "n", "at least 1"),
    "n true": (openai_chat, {"n": True}, "n", "not true or false"),
    "n float": (openai_chat, {"n": 1.5}, "n", "not a fraction"),
    "n large": (openai_chat, {"n": 1000}, "n", "at most 128"),
    "hot": (openai_chat, {"temperature": "hot"}, "temperature", "not a string"),
    "cold": (openai_chat, {"temperature": -1}, "temperature", "at least 0"),
    "very hot": (openai_chat, {"temperature": 10**400}, "temperature", "range"),
    "stop": (openai_chat, {"stop": ["a"] * 17}, "stop", "at most 16"),
    "stop number": (openai_chat, {"stop": 17}, "stop", "not a whole number"),
    "stop numbers": (openai_chat, {"stop": [17]}, "stop[0]", "not a whole number"),
    "seed": (openai_chat, {"seed": 2**63}, "seed", "9223372036854775807"),
    "max_tokens": (openai_chat, {"max_tokens": 0}, "max_tokens", "at least 1"),
    "max_tokens large": (openai_chat, {"max_tokens": 10**30}, "max_tokens", "2147483647"),
    "logit_bias": (openai_chat, {"logit_bias": {"1": 101}}, "logit_bias[...]", "at most 100"),
    "top_logprobs": (openai_chat, {"top_logprobs": 21}, "top_logprobs", "at most 20"),
    "stream": (openai_chat, {"stream": "yes"}, "stream", "not a string"),
    "stream_options": (openai_chat, {"stream_options": True}, "stream_options", "not true or false"),
    "tools": (openai_chat, {"tools": {}}, "tools", "not an object"),
    "prompt": (openai_completions, {"model": "m"}, "prompt", "missing"),
    "prompt mixed": (openai_completions, {"model": "m", "prompt": ["a", 1]}, "prompt", "all strings"),
    "prompt empty": (openai_completions, {"model": "m", "prompt": []}, "prompt", "at least one"),
    "prompt negative": (openai_completions, {"model": "m", "prompt": [-1]}, "prompt[0]", "at least 0"),
    "input empty": (openai_embeddings, {"model": "m", "input": []}, "input", "at least one"),
    "input empty text": (openai_embeddings, {"model": "m", "input": ["a", ""]}, "input", "empty string"),
    "input mixed": (openai_embeddings, {"model": "m", "input": ["a", 1]}, "input", "only strings"),
    "format": (openai_embeddings, {"model": "m", "input": "a", "encoding_format": "xml"}, "encoding_format", "xml"),
}


@pytest.mark.parametrize(("wire", "fields", "param", "words"), MISFITS.values(), ids=MISFITS)
def test_a_field_that_does_not_fit_is_named(wire: ModuleType, fields: dict[str, Any], param: str, words: str) -> None:
    """The error says which field, and what was wrong with it."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    body = fields if fields.keys() & {"model", "messages", "prompt", "input"} else plain | fields
    with pytest.raises(InvalidRequest) as caught:
        wire.decode(json.dumps(body).encode())
    assert caught.value.param == param
    assert words in str(caught.value)
    assert caught.value.code in {"invalid_value", "missing_field"}


def test_how_many_choices_an_answer_has() -> None:
    """`n` for each prompt."""
    prompts: list[tuple[Any, int]] = [("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2], [3]], 3)]
    for prompt, count in prompts:
        body = {"model": "m", "prompt": prompt, "n": 2}
        assert openai_completions.decode(json.dumps(body).encode()).choices == 2 * count


TOOLS = {"tools": [{"type": "function", "function": {"name": "f"}}]}


@pytest.mark.parametrize(
    ("said", "left_out"),
    [
        ({"tools": []}, {}),
        ({"parallel_tool_calls": True}, {}),
        ({"tool_choice": "none"}, {}),
        ({"tool_choice": "none", "tools": []}, {}),
        (TOOLS | {"tool_choice": "auto", "parallel_tool_calls": True}, TOOLS),
    ],
)
def test_defaults_of_tools_said_out_loud_are_left_out(said: dict[str, Any], left_out: dict[str, Any]) -> None:
    """As OpenAI documents them."""
    plain: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    one, other = (openai_chat.decode(msgspec.json.encode(plain | fields)) for fields in (said, left_out))
    assert one.prompt == other.prompt


@pytest.mark.parametrize(
    "said", [TOOLS | {"tool_choice": "none"}, {"tool_choice": "auto"}, TOOLS | {"parallel_tool_calls": False}]
)
def test_other_choices_of_tools_count(said: dict[str, Any]) -> None:
    """They are no defaults there."""
    plain: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert openai_chat.decode(msgspec.json.encode(plain | said)).prompt.keys() > said.keys() - {"x"}
