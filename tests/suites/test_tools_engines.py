"""Tools and response formats on the real engines: the bundled model knows neither, and its template shows no tools."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import jsonschema
import msgspec
import pytest

from gateway import asking, building
from gateway.config import BackendConfig
from gateway.errors import BackendRefused, InvalidRequest, UnfitAnswer
from gateway.routing.backend import Backend
from gateway.wire import openai_chat, reply
from storage.entry import Chunk

pytestmark = pytest.mark.engines

CITY = {"type": "string", "maxLength": 12}
WEATHER = {
    "type": "object",
    "properties": {"city": CITY, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
}
PLACE = {"type": "object", "properties": {"city": CITY}, "required": ["city"], "additionalProperties": False}
ROUTE = {
    "type": "object",
    "properties": {"start": {"$ref": "#/$defs/place"}, "end": {"$ref": "#/$defs/place"}},
    "required": ["start", "end"],
    "$defs": {"place": PLACE},
}
SCHEMAS: dict[str, Any] = {"weather": WEATHER, "route": ROUTE, "now": {"type": "object", "properties": {}}}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "How it is", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "route", "parameters": ROUTE}},
    {"type": "function", "function": {"name": "now"}},
]
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]
KINDS = {
    "vllm": ("vllm", "vllm_url", False),
    "llamacpp with guidance": ("llamacpp", "llamacpp_url", True),
    "llamacpp": ("llamacpp", "llamacpp_url", False),
    "ollama": ("ollama", "ollama_url", False),
}
GUIDED = ["vllm", "llamacpp with guidance"]


@pytest.fixture(params=KINDS)
async def backend(request: pytest.FixtureRequest, model_name: str) -> AsyncIterator[Backend]:
    """Each engine in turn."""
    kind, url, guidance = KINDS[request.param]
    address = request.getfixturevalue(url)
    config = BackendConfig(kind=kind, model=model_name, url=address, guidance=guidance)  # type: ignore[arg-type]
    built = building.BUILD[kind](config)
    yield built
    await built.aclose()


def only(kinds: Sequence[str]) -> pytest.MarkDecorator:
    """Run a test with these alone."""
    return pytest.mark.parametrize("backend", kinds, indirect=True)


async def heard(backend: Backend, **fields: Any) -> list[Chunk]:
    """The whole answer, as a proof or a flight would hear it."""
    body = {"model": "m", "messages": QUESTION, "max_tokens": 400, "temperature": 0} | fields
    request = openai_chat.decode(msgspec.json.encode(body))
    async with aclosing(asking.asked(backend, request)) as steps:
        return [step async for step in steps]


def message(steps: Sequence[Chunk], index: int = 0) -> dict[str, Any]:
    """The steps of one choice, folded."""
    return reply.message([step for step in steps if step.index == index and step.usage is None])


def finish(steps: Sequence[Chunk], index: int = 0) -> str | None:
    """Why a choice ended."""
    return next(step.finish_reason for step in steps if step.index == index and step.finish_reason)


def check_calls(said: dict[str, Any]) -> list[str]:
    """Every call fits its tool, by another library than the gateway's; what was called."""
    assert said["content"] is None
    ids = [call["id"] for call in said["tool_calls"]]
    assert len(set(ids)) == len(ids)
    for call in said["tool_calls"]:
        assert call["type"] == "function"
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMAS[call["function"]["name"]])
    return [call["function"]["name"] for call in said["tool_calls"]]


async def test_a_named_function_is_called_once(backend: Backend) -> None:
    """With arguments that fit its schema, also one with references."""
    for name in ("weather", "route", "now"):
        steps = await heard(backend, tools=TOOLS, tool_choice={"type": "function", "function": {"name": name}})
        assert check_calls(message(steps)) == [name]
        assert finish(steps) == "tool_calls"


async def test_something_is_called_where_it_must_be(backend: Backend) -> None:
    """One, where several are not wanted; and the same again for the same question, ids and all."""
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    first, second = [await heard(backend, **fields) for _ in range(2)]
    assert len(check_calls(message(first))) == 1
    assert message(first) == message(second)
    assert finish(first) == "tool_calls"


async def test_calls_come_as_deltas(backend: Backend) -> None:
    """The name first and once, with the id; then the arguments in pieces, and never an event that says nothing."""
    steps = await heard(backend, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "weather"}})
    deltas = [delta for step in steps for delta in step.tool_calls]
    assert [delta["index"] for delta in deltas] == [0] * len(deltas)
    assert [("id" in delta, "name" in delta["function"]) for delta in deltas[:2]] == [(True, True), (False, False)]
    assert len([delta for delta in deltas if delta["function"].get("arguments")]) > 1
    assert all(step.tool_calls or step.finish_reason or step.usage for step in steps)
    assert len([step for step in steps if step.finish_reason]) == 1


async def test_each_choice_has_its_own_calls(backend: Backend) -> None:
    """Under ids of their own."""
    choice = {"type": "function", "function": {"name": "now"}}
    steps = await heard(backend, tools=TOOLS, tool_choice=choice, n=2, temperature=1, seed=1)
    assert [check_calls(message(steps, index)) for index in range(2)] == [["now"], ["now"]]
    ids = {call["id"] for index in range(2) for call in message(steps, index)["tool_calls"]}
    assert len(ids) == 2


async def test_tools_that_may_be_left_alone(backend: Backend) -> None:
    """Text or calls, and either is whole; the tools are part of the prompt."""
    plain, told = await heard(backend), await heard(backend, tools=TOOLS)
    assert finish(told) in {"stop", "tool_calls"}
    if finish(told) == "tool_calls":
        check_calls(message(told) | {"content": None})
    else:
        assert message(told)["content"]
    assert plain[-1].usage is not None
    assert told[-1].usage is not None
    assert told[-1].usage.prompt_tokens > plain[-1].usage.prompt_tokens + 50


async def test_results_of_calls_are_told(backend: Backend) -> None:
    """In turns that the template takes: it wants users and models to alternate, and knows no tools."""
    calls = [
        {"id": f"c{place}", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
        for place in range(2)
    ]
    results = [{"role": "tool", "tool_call_id": f"c{place}", "content": "12 degrees"} for place in range(2)]
    system = {"role": "system", "content": "Be brief."}
    messages = [system, *QUESTION, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    for fields in ({"tools": TOOLS}, {}, {"tools": TOOLS, "tool_choice": "none"}):
        steps = await heard(backend, messages=messages, **fields)
        assert message(steps)["content"] or message(steps).get("tool_calls")
    shorter, longer = [await heard(backend, messages=messages[:length]) for length in (2, 5)]
    assert shorter[-1].usage is not None
    assert longer[-1].usage is not None
    assert longer[-1].usage.prompt_tokens > shorter[-1].usage.prompt_tokens + 20


def schema(of: Any) -> dict[str, Any]:
    """A response format with this schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": of}}


FLOODED = 60
"""More tokens than any of these answers needs: a model that fills gaps with white space comes to no end before."""


@pytest.mark.parametrize(
    "wanted", [WEATHER | {"additionalProperties": False}, ROUTE | {"additionalProperties": False}, {"enum": [1, "two"]}]
)
async def test_an_answer_fits_its_schema(backend: Backend, wanted: Any, request: pytest.FixtureRequest) -> None:
    """And ends: engines that can be told so leave out white space."""
    bounded = "llamacpp]" not in request.node.name
    steps = await heard(backend, response_format=schema(wanted), max_tokens=FLOODED if bounded else 400)
    assert finish(steps) == "stop"
    jsonschema.validate(json.loads(message(steps)["content"]), wanted)


async def test_any_object_is_an_object(backend: Backend) -> None:
    """`json_object` has no schema, and is one."""
    steps = await heard(backend, response_format={"type": "json_object"})
    assert isinstance(json.loads(message(steps)["content"]), dict)
    assert finish(steps) == "stop"


TWO_ONES = {"type": "array", "items": {"enum": [1]}, "minItems": 2, "maxItems": 2, "uniqueItems": True}


@pytest.mark.parametrize("wanted", [{"type": "integer", "not": {"type": "number"}}, TWO_ONES], ids=["not", "unique"])
async def test_an_answer_that_breaks_its_schema_is_an_error(backend: Backend, wanted: Any) -> None:
    """Engines let it pass: they do not know every keyword."""
    with pytest.raises((UnfitAnswer, BackendRefused)) as caught:
        await heard(backend, response_format=schema(wanted), max_tokens=100)
    if isinstance(caught.value, UnfitAnswer):
        assert (caught.value.status, caught.value.code) == (502, "unfit_answer")
    else:
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "wrong", [{"type": "frob"}, {"$ref": "https://example.com/schema.json"}, {"$ref": "#/none"}, {"pattern": "("}]
)
async def test_a_schema_that_is_none_is_refused(backend: Backend, wrong: Any) -> None:
    """Naming the field, for every engine alike; nothing is fetched from anywhere."""
    with pytest.raises(InvalidRequest) as caught:
        await heard(backend, response_format=schema(wrong))
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "invalid_schema", "response_format")
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": wrong}}}}
    with pytest.raises(InvalidRequest) as caught:
        await heard(backend, tools=[tool])
    assert (caught.value.code, caught.value.param) == ("invalid_schema", "tools[0].function.parameters")


@only(GUIDED)
async def test_a_schema_and_tools_together(backend: Backend) -> None:
    """Calls or JSON, never another text: so the engine has understood the form for both."""
    steps = await heard(backend, tools=TOOLS[2:], response_format=schema(PLACE), max_tokens=200)
    if finish(steps) == "tool_calls":
        check_calls(message(steps))
    else:
        jsonschema.validate(json.loads(message(steps)["content"]), PLACE)


@only(["llamacpp", "ollama"])
async def test_a_schema_and_tools_together_where_that_cannot_be_said(backend: Backend) -> None:
    """A refusal, rather than a form that nothing holds the model to."""
    with pytest.raises(BackendRefused) as caught:
        await heard(backend, tools=TOOLS, response_format=schema(PLACE))
    assert (caught.value.status, caught.value.param) == (400, "response_format")


async def test_tokens_and_probabilities_of_a_call_are_all_there(backend: Backend) -> None:
    """Those of pieces that say nothing by themselves are given with the next."""
    choice = {"type": "function", "function": {"name": "now"}}
    steps = await heard(backend, tools=TOOLS, tool_choice=choice, logprobs=True, top_logprobs=1)
    usage = steps[-1].usage
    assert usage is not None
    entries = [entry for step in steps if step.logprobs for entry in step.logprobs["content"]]
    assert 0 < len(entries) <= usage.completion_tokens
    ids = [step.token_ids for step in steps if step.usage is None]
    if any(ids):
        assert sum(len(each or ()) for each in ids) == usage.completion_tokens


@only(["llamacpp with guidance"])
async def test_a_bias_for_a_token_that_does_not_exist_is_refused(backend: Backend) -> None:
    """llama.cpp would ignore it."""
    with pytest.raises(BackendRefused) as caught:
        await heard(backend, logit_bias={"1024": 5})
    assert (caught.value.status, caught.value.param) == (400, "logit_bias")
    assert finish(await heard(backend, logit_bias={"1023": 5})) == "stop"


async def test_an_image_needs_eyes(backend: Backend) -> None:
    """A refusal that says so, whatever the engine would have made of it."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with pytest.raises(BackendRefused) as caught:
        await heard(backend, messages=[{"role": "user", "content": [{"type": "text", "text": "What?"}, part]}])
    assert caught.value.status == 400
