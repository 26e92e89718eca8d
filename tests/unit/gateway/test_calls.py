"""Results of tools whose call nobody made: refused by OpenAI's dialects, with the field's name."""

import json
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.wire import openai_chat
from gateway.wire.openai_responses import asked, items

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ITEM = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}


def result(name: Any) -> dict[str, Any]:
    """What a tool gave back."""
    return {"role": "tool", "tool_call_id": name, "content": "sunny"}


def chat(*messages: Any) -> Any:
    """A chat with these turns."""
    return openai_chat.decode(json.dumps({"model": "m", "messages": messages}).encode())


def response(*said: Any) -> asked.Asked:
    """A request for a response with these items."""
    return asked.decode(json.dumps({"model": "m", "input": said}).encode())


def output(name: str) -> dict[str, Any]:
    """The same as an item."""
    return {"type": "function_call_output", "call_id": name, "output": "sunny"}


@pytest.mark.parametrize("name", ["c1", "weather"])
def test_a_result_is_of_a_call_before_it(name: str) -> None:
    """By its id, or by its tool's name, as some clients of Ollama's put it."""
    assert chat(CALLED, result(name)).prompt["messages"][-1] == result(name)


@pytest.mark.parametrize("turns", [[result("c1")], [CALLED, result("c2")], [result("c1"), CALLED]], ids=repr)
def test_a_result_of_no_call_is_refused_in_a_chat(turns: Any) -> None:
    """Also of one that is made only later."""
    with pytest.raises(InvalidRequest, match="no call before it") as caught:
        chat(*turns)
    assert caught.value.param == f"messages[{turns.index(next(t for t in turns if t['role'] == 'tool'))}].tool_call_id"


def test_ids_that_are_none_are_no_mistake_of_ours() -> None:
    """Whatever a client calls its calls."""
    with pytest.raises(InvalidRequest):
        chat(CALLED | {"tool_calls": [CALL | {"id": ["c1"], "function": 5}]}, result("c1"))


def test_a_result_of_no_call_is_refused_in_a_response() -> None:
    """Calls of the responses before it count too."""
    with pytest.raises(InvalidRequest, match="no call before it") as caught:
        response(output("nope")).question()
    assert caught.value.param == "input"
    earlier = items.read([ITEM])
    with pytest.raises(InvalidRequest):
        response(output("nope")).question(earlier)
    assert response(output("c1")).question(earlier).prompt["messages"][-1]["tool_call_id"] == "c1"
