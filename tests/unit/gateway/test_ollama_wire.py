"""Ollama's own endpoints: the same questions in other words, and what can be wrong with them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import key
from gateway.canonical import Identity, Request
from gateway.errors import InvalidRequest
from gateway.proof import rebuilding
from gateway.wire import ollama, openai_chat, openai_completions

WHO = Identity("e", "1", "w")
HI = [{"role": "user", "content": "Hi"}]
OPTIONS = ("temperature", "top_p", "seed", "stop", "num_predict", "max_tokens", "presence_penalty", "top_k", "num_ctx")
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.text(max_size=2))


def chat(**fields: Any) -> Request:
    """A chat."""
    return asked(ollama.decode_chat(json.dumps({"model": "m", "messages": HI} | fields).encode()))


def generate(**fields: Any) -> Request:
    """A prompt."""
    return asked(ollama.decode_generate(json.dumps({"model": "m", "prompt": "Hi"} | fields).encode()))


def asked(question: Request | ollama.Load) -> Request:
    """It says something."""
    assert isinstance(question, Request)
    return question


def name(request: Request) -> bytes:
    """Its key."""
    return key.query(request, "s", WHO).key


@given(st.dictionaries(st.sampled_from(OPTIONS), VALUES, max_size=4))
def test_any_options_are_a_request_or_a_refusal(options: dict[str, Any]) -> None:
    """Nothing else comes of them."""
    try:
        request = chat(options=options)
    except InvalidRequest as error:
        assert error.code in {"invalid_value", "invalid_json"}  # noqa: PT017 -- either may happen
        return
    try:
        name(request)
    except InvalidRequest as error:
        assert error.code == "integer_out_of_range"  # noqa: PT017 -- either may happen


def test_a_question_in_either_dialect_is_one_question() -> None:
    """What OpenAI's clients asked serves Ollama's, and the reverse."""
    options = {"temperature": 0.5, "top_p": 1, "num_predict": 5, "seed": 3, "stop": ["a"], "top_k": 7}
    spoken = {"temperature": 0.5, "max_tokens": 5, "seed": 3, "stop": "a", "top_k": 7}
    other = openai_chat.decode(json.dumps({"model": "m", "messages": HI} | spoken).encode())
    assert name(chat(options=options)) == name(other)
    other = openai_completions.decode(json.dumps({"model": "m", "prompt": "Hi"} | spoken).encode())
    assert name(generate(raw=True, options=options)) == name(other)


def test_left_out_and_null_options_are_ollamas_defaults() -> None:
    """0.8, 0.9 and 40; no limit on tokens."""
    plain = name(chat())
    assert name(chat(options=None)) == plain
    assert name(chat(options={"temperature": 0.8, "top_p": 0.9, "top_k": 40, "num_predict": -1})) == plain
    assert name(chat(options={"temperature": None, "num_predict": None})) == plain
    assert name(chat(options={"temperature": 1})) != plain
    assert name(chat(stream=False)) == plain


def test_what_is_not_said_is_the_models_own_with_ollama_only() -> None:
    """There a default said out loud is another question, also than OpenAI's with the same options."""
    said = {"temperature": 0.8, "top_p": 0.9, "top_k": 40}
    other = openai_chat.decode(json.dumps({"model": "m", "messages": HI} | said).encode())
    asked = {
        "nothing": chat(),
        "all": chat(options=said),
        "no limit": chat(options={"num_predict": -1}),
        "other": other,
    }
    theirs = Identity("ollama", "1", "w")
    names = {word: key.query(request, "s", theirs).key for word, request in asked.items()}
    assert len(set(names.values())) == len(asked)
    assert len({name(request) for request in asked.values()}) == 1
    for request in asked.values():
        query = key.query(request, "s", theirs)
        again = rebuilding.request(query)
        assert key.query(again, "s", theirs) == query
        assert again.of("ollama").params == request.of("ollama").params


@pytest.mark.parametrize(
    "changes", [{"options": {"num_ctx": 1}}, {"options": {"mirostat": 1}}, {"think": True}, {"x": 1}]
)
def test_unknown_fields_and_options_count(changes: dict[str, Any]) -> None:
    """As everywhere."""
    assert name(chat(**changes)) != name(chat())


def test_openais_name_for_an_option_is_refused_with_ollamas() -> None:
    """It would otherwise be unchecked, or ignored."""
    with pytest.raises(InvalidRequest, match="it is called 'num_predict'") as caught:
        chat(options={"max_tokens": 5})
    assert caught.value.param == "options.max_tokens"


CALL = {"function": {"name": "f", "arguments": {"a": 1}}}
MESSAGES: dict[str, dict[str, Any]] = {
    "an unknown field": {"role": "user", "content": "Hi", "x": 1},
    "a thought": {"role": "assistant", "content": "Hi", "thinking": "Hm."},
    "a call": {"role": "assistant", "content": "Hi", "tool_calls": [CALL]},
    "a call's id": {"role": "assistant", "content": "Hi", "tool_calls": [CALL | {"id": "1"}]},
    "an unknown field of a call": {"role": "assistant", "content": "Hi", "tool_calls": [CALL | {"x": 1}]},
    "an unknown field of a function": {
        "role": "assistant",
        "content": "Hi",
        "tool_calls": [{"function": CALL["function"] | {"index": 3}}],
    },
    "a tool's name": {"role": "tool", "content": "Hi", "tool_name": "f"},
    "a call's answer": {"role": "tool", "content": "Hi", "tool_call_id": "f", "tool_name": "g"},
    "no more": {"role": "assistant", "content": "Hi"},
}


def test_every_field_of_a_message_counts() -> None:
    """Nine messages, nine questions; and each field is there for the backend."""
    assert len({name(chat(messages=[*HI, message])) for message in MESSAGES.values()}) == len(MESSAGES)
    sent = chat(messages=[MESSAGES["an unknown field"]]).prompt["messages"][0]
    assert sent["x"] == 1
    assert chat(messages=[MESSAGES["a thought"]]).prompt["messages"][0]["reasoning_content"] == "Hm."


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"raw": True, "system": "s"}, "raw", "invalid_value"),
        ({"raw": True, "template": "t"}, "raw", "invalid_value"),
        ({"raw": True, "context": [1]}, "raw", "invalid_value"),
        ({"raw": True, "images": ["iVBOR"]}, "images", "unsupported_parameter"),
        ({"template": "t"}, "template", "unsupported_parameter"),
        ({"context": [1]}, "context", "unsupported_parameter"),
        ({"context": [1], "prompt": ""}, "context", "unsupported_parameter"),
    ],
)
def test_what_cannot_be_applied_is_refused(fields: dict[str, Any], param: str, code: str) -> None:
    """Rather than left out of both the question and its name."""
    with pytest.raises(InvalidRequest) as refused:
        generate(**fields)
    assert (refused.value.param, refused.value.code) == (param, code)


@pytest.mark.parametrize("empty", [{}, {"prompt": ""}, {"prompt": None}, {"messages": []}, {"messages": None}])
@pytest.mark.parametrize("keep_alive", [None, 0, "5m"])
def test_saying_nothing_loads_the_model(empty: dict[str, Any], keep_alive: Any) -> None:
    """Or unloads it."""
    data = json.dumps({"model": "m", "keep_alive": keep_alive} | empty).encode()
    for decode in (ollama.decode_chat, ollama.decode_generate, ollama.decode_embeddings):
        assert decode(data) == ollama.Load("m", unload=keep_alive == 0)


def test_the_older_way_to_embed_asks_the_same() -> None:
    """`/api/embeddings` and `/api/embed` are one question."""
    older = asked(ollama.decode_embeddings(b'{"model": "m", "prompt": "a"}'))
    assert name(older) == name(ollama.decode_embed(b'{"model": "m", "input": "a"}')[0])


def test_large_requests_say_so() -> None:
    """Naming them is work for a thread."""
    assert chat().size_bytes == len(json.dumps({"model": "m", "messages": HI}))
    assert generate(prompt="x" * 1000).size_bytes > 1000
    assert generate(prompt="x" * 1000, raw=True).size_bytes > 1000


@pytest.mark.parametrize("ask", [chat, generate])
def test_how_much_is_thought(ask: Any) -> None:
    """A level, or none, is what OpenAI's clients call effort; `true` names none, and stays; nothing is nothing."""
    assert ask(think="low").prompt["reasoning_effort"] == "low"
    assert ask(think=False).prompt["reasoning_effort"] == "none"
    assert (ask(think=True).extra["think"], "reasoning_effort" in ask(think=True).prompt) == (True, False)
    assert name(ask(think=None)) == name(ask())
    assert len({name(ask(think=think)) for think in (None, True, False, "low", "medium", "high")}) == 6
    effort = {"model": "m", "messages": HI, "reasoning_effort": "high", "top_k": 40, "top_p": 0.9, "temperature": 0.8}
    other = openai_chat.decode(json.dumps(effort).encode())
    assert ask(think="high").prompt == other.prompt
    for wrong in ("much", 1, {"level": "low"}):
        with pytest.raises(InvalidRequest) as caught:
            ask(think=wrong)
        assert caught.value.param == "think"


def test_a_bare_text_is_continued_without_thought() -> None:
    """There is no such parameter of completions; what was asked for is not dropped."""
    assert generate(raw=True, think="low").extra["think"] == "low"
    assert name(generate(raw=True, think=False)) == name(generate(raw=True))
