"""Tools and response formats through a whole gateway, with the official clients and real engines."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import jsonschema
import ollama
import openai
import pytest

from gateway.canonical import Request
from gateway.config import BackendConfig
from storage.entry import Chunk, Usage
from tests.acceptance.in_thread import MODEL, Gateway
from tests.acceptance.serving import Served

EMBEDDED = "gemma-3-askonce"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "How it is", "parameters": PARAMETERS, "strict": True},
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
            "strict": True,
        },
    },
]
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
NAMED: Any = {"type": "function", "function": {"name": "weather"}}


class Asked:
    """A gateway, and the model to ask."""

    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self.model = model

    def client(self) -> openai.OpenAI:
        """The official client for it."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120)

    def post(self, **fields: Any) -> httpx.Response:
        """The bare reply."""
        body = {"model": self.model, "messages": QUESTION, "temperature": 0, "max_tokens": 300} | fields
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=120)


@pytest.fixture
def embedded(served: Served) -> Asked:
    """`askonce serve` with the llama.cpp that it brings."""
    return Asked(served.url, EMBEDDED)


@pytest.fixture
def over_vllm(gateway: Callable[..., Gateway], vllm_url: str, model_name: str) -> Asked:
    """A gateway over a real vLLM."""
    there = BackendConfig(kind="vllm", model=model_name, url=vllm_url, alias="there")
    return Asked(gateway(backends=(there,)).url, "there")


@pytest.fixture(params=["embedded", pytest.param("over_vllm", marks=pytest.mark.engines)])
def asked(request: pytest.FixtureRequest) -> Asked:
    """Each in turn."""
    return request.getfixturevalue(request.param)


def events(reply: httpx.Response) -> list[Any]:
    """What a stream says, without what every reply has of its own."""
    data = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    own = {"id", "created", "usage"}
    return [{name: value for name, value in json.loads(each).items() if name not in own} for each in data[:-1]]


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_the_clients_stream_helper_assembles_the_calls(asked: Asked, choice: Any) -> None:
    """It checks them against the strict tools by itself; and a second client gets the very same."""
    said: list[Any] = []
    for _ in range(2):
        with (
            asked.client() as client,
            client.chat.completions.stream(
                model=asked.model, messages=QUESTION, tools=TOOLS, tool_choice=choice, temperature=0,
                max_tokens=600, parallel_tool_calls=False,
            ) as stream,
        ):  # fmt: skip
            kinds = [event.type for event in stream]
            (choice_said,) = stream.get_final_completion().choices
        assert "tool_calls.function.arguments.delta" in kinds
        assert "tool_calls.function.arguments.done" in kinds
        assert choice_said.finish_reason == "tool_calls"
        assert not choice_said.message.content
        (call,) = choice_said.message.tool_calls or []
        schema = next(
            tool["function"]["parameters"] for tool in TOOLS if tool["function"]["name"] == call.function.name
        )
        jsonschema.validate(json.loads(call.function.arguments), schema)
        assert call.id.startswith("call_")
        said.append((call.id, call.function.name, call.function.arguments))
    assert said[0] == said[1]


def test_asking_twice_is_a_hit_with_the_same_chunks(asked: Asked) -> None:
    """A stream replays step by step; a reply that is no stream has the same calls."""
    fields = {"tools": TOOLS, "tool_choice": NAMED, "messages": [{"role": "user", "content": "Rome?"}]}
    first, second = [asked.post(stream=True, **fields) for _ in range(2)]
    assert [reply.headers["x-askonce-cache"] for reply in (first, second)] == ["miss", "hit"]
    assert events(first) == events(second)
    deltas = [event["choices"][0]["delta"] for event in events(first)]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "weather"
    assert "name" not in calls[1]["function"]
    whole = asked.post(**fields)
    assert whole.headers["x-askonce-cache"] == "hit"
    (choice,) = whole.json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert call["id"] == calls[0]["id"]
    assert call["function"]["arguments"] == "".join(call["function"].get("arguments", "") for call in calls)


def test_what_is_asked_with_tools_is_another_question(asked: Asked) -> None:
    """Than the same without, or with another choice or another tool."""
    message = {"messages": [{"role": "user", "content": "Oslo?"}], "max_tokens": 40}
    others = ({}, {"tools": TOOLS}, {"tools": TOOLS[:1]}, {"tools": TOOLS, "tool_choice": "none"})
    replies = [asked.post(**message, **fields) for fields in others]
    assert len({reply.headers["x-askonce-key"] for reply in replies}) == len(others)
    assert asked.post(**message, tools=TOOLS, tool_choice="auto").headers["x-askonce-cache"] == "hit"


def test_an_agents_second_turn(asked: Asked) -> None:
    """The model's calls and their results go back, as the client's documentation shows it."""
    with asked.client() as client:
        create: Any = client.chat.completions.create
        first = create(model=asked.model, messages=QUESTION, tools=TOOLS, tool_choice=NAMED, temperature=0)
        message = first.choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "12 degrees"}
        second = create(
            model=asked.model, messages=[*QUESTION, message, result], tools=TOOLS, temperature=0, max_tokens=40
        )
    assert second.choices[0].message.content or second.choices[0].message.tool_calls
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_an_answer_that_fits_its_schema_is_kept_and_another_is_not(asked: Asked) -> None:
    """An error in OpenAI's envelope, each time anew; at the end of a stream it is the last event."""
    fits = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": PARAMETERS}}
    first, second = [asked.post(response_format=fits) for _ in range(2)]
    assert [reply.headers["x-askonce-cache"] for reply in (first, second)] == ["miss", "hit"]
    jsonschema.validate(json.loads(second.json()["choices"][0]["message"]["content"]), PARAMETERS)
    breaks = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": [1], "not": {"type": "number"}}}}
    for _ in range(2):
        reply = asked.post(response_format=breaks)
        assert reply.status_code == 502, reply.text
        assert reply.json()["error"]["code"] == "unfit_answer"
        assert reply.headers["x-askonce-cache"] == "miss"
    streamed = asked.post(response_format=breaks, stream=True)
    if streamed.status_code == 200:
        last = [line for line in streamed.text.splitlines() if line.startswith("data: ")][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "unfit_answer"
        assert "[DONE]" not in streamed.text
    else:
        assert streamed.json()["error"]["code"] == "unfit_answer"


def test_a_schema_that_is_none_is_a_bad_request(asked: Asked) -> None:
    """With the field in the envelope."""
    wrong = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "frob"}}}
    reply = asked.post(response_format=wrong)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "response_format"
    assert reply.json()["error"]["code"] == "invalid_schema"


def test_ollamas_client_calls_tools_too(embedded: Asked) -> None:
    """Its API knows no choice: text or calls come, and earlier calls and results are told."""
    messages: list[Any] = [
        *QUESTION,
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}]},
        {"role": "tool", "tool_name": "weather", "content": "12 degrees"},
    ]
    with ollama.Client(host=embedded.url) as client:
        for turns in (QUESTION, messages):
            reply = client.chat(EMBEDDED, turns, tools=TOOLS, options={"temperature": 0, "num_predict": 40})
            assert reply.message.content or reply.message.tool_calls
            assert reply.done_reason in {"stop", "length"}


FUNCTIONS: list[Any] = [{"type": "function"} | tool["function"] for tool in TOOLS]
"""As responses name them."""


def test_responses_call_functions(asked: Asked) -> None:
    """Whole, by the client's stream helper, and as the chat completion did that asks the same; the result goes back."""
    chat = asked.post(tools=TOOLS, tool_choice=NAMED).json()["choices"][0]["message"]["tool_calls"][0]
    fields: Any = {"model": asked.model, "temperature": 0, "max_output_tokens": 300, "tools": FUNCTIONS}
    named: Any = {"type": "function", "name": "weather"}
    with asked.client() as client:
        raw = client.responses.with_raw_response.create(**fields, input=QUESTION, tool_choice=named)
        with client.responses.stream(**fields, input=QUESTION, tool_choice=named) as stream:
            pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
            streamed: Any = stream.get_final_response().output
        made = raw.parse()
        call: Any = made.output[0]
        result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}]
        second = client.responses.create(**fields, input=result, previous_response_id=made.id, tool_choice="none")
    assert raw.headers["x-askonce-cache"] == "hit"
    assert (call.type, call.name, call.call_id) == ("function_call", "weather", chat["id"])
    assert call.arguments == chat["function"]["arguments"] == "".join(pieces)
    jsonschema.validate(json.loads(call.arguments), PARAMETERS)
    assert [(item.call_id, item.arguments) for item in streamed] == [(call.call_id, call.arguments)]
    assert len(pieces) > 1
    told = [{"role": "assistant", "content": None, "tool_calls": [chat]}]
    told.append({"role": "tool", "tool_call_id": chat["id"], "content": "12 degrees"})
    after = asked.post(messages=[*QUESTION, *told], tools=TOOLS, tool_choice="none")
    assert after.headers["x-askonce-cache"] == "hit"
    assert after.json()["choices"][0]["message"]["content"] == second.output_text


def test_ollamas_client_hears_the_same_in_a_stream(embedded: Asked) -> None:
    """Text and calls, whatever they are; the end says that it is one."""
    with ollama.Client(host=embedded.url) as client:
        options = {"temperature": 0, "num_predict": 40}
        whole = client.chat(EMBEDDED, QUESTION, tools=TOOLS, options=options)
        parts = list(client.chat(EMBEDDED, QUESTION, tools=TOOLS, options=options, stream=True))
    assert "".join(part.message.content or "" for part in parts) == (whole.message.content or "")
    assert [call for part in parts for call in part.message.tool_calls or ()] == list(whole.message.tool_calls or ())
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason == whole.done_reason


def test_ollamas_client_hears_calls(gateway: Callable[..., Gateway]) -> None:
    """With their arguments as objects, before the line that ends the stream, where Ollama itself has them."""
    parrot = gateway()

    async def complete(request: Request) -> AsyncGenerator[Chunk]:
        assert [tool["function"]["name"] for tool in request.prompt["tools"]] == ["weather", "now"]
        yield Chunk(content="Let me see.")
        for place, (name, given) in enumerate((("weather", '{"city": "Paris", "unit": "celsius"}'), ("now", "{}"))):
            yield Chunk(tool_calls=({"index": place, "id": f"c{place}", "function": {"name": name}},))
            for piece in (given[:4], given[4:]):
                if piece:
                    yield Chunk(tool_calls=({"index": place, "function": {"arguments": piece}},))
        yield Chunk(finish_reason="tool_calls")
        yield Chunk(usage=Usage(1, 2))

    parrot.backend.complete = complete
    called = [("weather", {"city": "Paris", "unit": "celsius"}), ("now", {})]
    with ollama.Client(host=parrot.url) as client:
        whole = client.chat(MODEL, QUESTION, tools=TOOLS)
        parts = list(client.chat(MODEL, QUESTION, tools=TOOLS, stream=True))
    assert [(call.function.name, call.function.arguments) for call in whole.message.tool_calls or ()] == called
    heard = [call for part in parts[:-1] for call in part.message.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in heard] == called
    assert "".join(part.message.content or "" for part in parts) == whole.message.content == "Let me see."
    assert (parts[-1].done, parts[-1].done_reason, parts[-1].message.tool_calls) == (True, "stop", None)


@pytest.mark.engines
def test_tools_are_no_ability_where_they_are_refused(gateway: Callable[..., Gateway], llamacpp_url: str) -> None:
    """Ollama's clients look there before they send any."""
    there = BackendConfig(kind="llamacpp", model=EMBEDDED, url=llamacpp_url, tools="refused")
    with ollama.Client(host=gateway(backends=(there,)).url) as client:
        assert client.show(EMBEDDED).capabilities == ["completion", "embedding"]
