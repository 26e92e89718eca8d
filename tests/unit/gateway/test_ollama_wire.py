"""Ollama's own endpoints: the same questions in other words, and what can be wrong with them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import key
from gateway.canonical import Identity, Request
from gateway.errors import InvalidRequest
from gateway.wire import ollama, openai_chat, openai_completions

WHO = Identity("e", "1", "w")
HI = [{"role": "user", "content": "Hi"}]
OPTIONS = ("temperature", "top_p", "seed", "stop", "num_predict", "max_tokens", "presence_penalty", "top_k", "num_ctx")
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.text(max_size=2))


def chat(**fields: Any) -> Request:
    """A chat."""
    return ollama.decode_chat(json.dumps({"model": "m", "messages": HI} | fields).encode())


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
    raw = {"model": "m", "prompt": "Hi", "raw": True, "options": options}
    other = openai_completions.decode(json.dumps({"model": "m", "prompt": "Hi"} | spoken).encode())
    assert name(ollama.decode_generate(json.dumps(raw).encode())) == name(other)


def test_left_out_and_null_options_are_ollamas_defaults() -> None:
    """0.8, 0.9 and 40; no limit on tokens."""
    plain = name(chat())
    assert name(chat(options=None)) == plain
    assert name(chat(options={"temperature": 0.8, "top_p": 0.9, "top_k": 40, "num_predict": -1})) == plain
    assert name(chat(options={"temperature": None, "num_predict": None})) == plain
    assert name(chat(options={"temperature": 1})) != plain
    assert name(chat(stream=False)) == plain


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
