"""What is asked of an engine instead of what it cannot do: tools told in words, answers held to schemas."""

import hashlib
import itertools
import json
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.constraints import Manner
from gateway.backends.forms import Form, Manners, form
from gateway.backends.parameters import Engine
from gateway.canonical import RENDERING, Request
from gateway.errors import BackendRefused, InvalidRequest
from gateway.wire import openai_chat

MANNERS: dict[Engine, Manner] = {"vllm": "structural", "llamacpp": "guided", "ollama": "format", "openai": "plain"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "description": "How it is", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "now", "strict": True}},
]
HELLO = [{"role": "user", "content": "Hello"}]
CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
TOLD = [*HELLO, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c", "content": "wet"}]
NAMED = {"type": "function", "function": {"name": "now"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer"}}}


def request(messages: Any = HELLO, **fields: Any) -> Request:
    """As it comes from a client; of Ollama's, results may be of calls that nobody knows."""
    asked = openai_chat.decode(msgspec.json.encode({"model": "m", "messages": HELLO} | fields))
    return msgspec.structs.replace(asked, prompt=asked.prompt | {"messages": messages})


def shaped(asked: Request, engine: Engine = "vllm", *, native: bool = False, **manners: Any) -> Form:
    """The form for one engine."""
    spoken = Manners(**{"engine": engine, "constrains": MANNERS[engine]} | manners)
    return form("b", spoken, asked, native=native)


def turns(shape: Form) -> list[tuple[str, Any]]:
    """Who says what."""
    return [(message["role"], message["content"]) for message in shape.request.prompt["messages"]]


def test_tools_are_told_in_the_users_first_turn() -> None:
    """Where the template of Gemma 3 puts what a system says; a system's own words are kept with them."""
    ((role, content),) = turns(shaped(request(tools=TOOLS)))
    assert role == "user"
    assert content.endswith("\n\nHello")
    assert json.dumps(TOOLS[0]["function"]) in content
    system, user = turns(shaped(request([{"role": "developer", "content": "Be brief."}, *HELLO], tools=TOOLS)))
    assert system[0] == "system"
    assert system[1].startswith("Be brief.\n\nYou can call functions")
    assert user == ("user", "Hello")


def test_no_field_of_tools_is_left() -> None:
    """The engine would refuse or ignore it."""
    told = shaped(request(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)).request
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & told.prompt.keys()


def test_calls_and_results_are_turns() -> None:
    """The model's own, and the user's with the name of the tool."""
    _, called, result = turns(shaped(request(TOLD, tools=TOOLS)))
    assert called == ("assistant", '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>')
    assert result == ("user", '<tool_response>{"name": "weather", "content": "wet"}</tool_response>')


def test_a_result_has_the_name_of_the_call_before_it() -> None:
    """Clients of Ollama's count anew in each turn, or know calls by name only."""
    other = CALL | {"function": {"name": "now", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c", "content": "x"}
    by_name = {"role": "tool", "tool_call_id": "weather", "content": "y"}
    turn = {"role": "assistant", "tool_calls": [other]}
    said = turns(shaped(request([*TOLD[:2], result, turn, result, by_name, result | {"tool_call_id": "z"}])))
    shown = [content for role, content in said if role == "user"]
    assert '"name": "weather", "content": "x"' in shown[1]
    assert '"name": "now", "content": "x"' in shown[2]
    assert '"name": "weather", "content": "y"' in shown[2]
    assert '<tool_response>{"content": "x"}' in shown[2]


ROLES = st.sampled_from(
    [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "user", "content": [{"type": "text", "text": "p"}, {"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        {"role": "assistant", "content": "b", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
        {"role": "tool", "tool_call_id": "unknown", "content": [{"type": "text", "text": "q"}]},
    ]
)


@given(st.lists(ROLES, min_size=1, max_size=8), st.booleans())
def test_turns_alternate_whatever_came(messages: list[dict[str, Any]], offered: bool) -> None:
    """Gemma's template raises otherwise. Nothing that was said is lost."""
    asked = request([*messages, TOLD[-1]], **({"tools": TOOLS} if offered else {}))
    said = turns(shaped(asked))
    roles = [role for role, _ in said]
    assert "system" not in roles[1:]
    assert all(one != other for one, other in itertools.pairwise(roles))
    shown = json.dumps([content for _, content in said])
    for message in messages:
        contents = message["content"] if isinstance(message["content"], list) else [{"text": message["content"] or ""}]
        assert all(part.get("text", "") in shown for part in contents)
    assert shown.count("<tool_call>") >= sum(len(message.get("tool_calls", ())) for message in messages)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]},
         "tools[0].function.parameters"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": NAMED}, "tool_choice"),
        ({"messages": [*HELLO, {"role": "assistant", "tool_calls": [{"id": "c"}]}]}, "messages"),
        ({"messages": [*HELLO, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
         "messages"),
        ({"response_format": {"type": "frob"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("engine", ["vllm", "llamacpp", "ollama"])
def test_what_cannot_be_meant_is_refused_by_name(engine: Engine, fields: dict[str, Any], param: str) -> None:
    """Before any engine is asked."""
    with pytest.raises(InvalidRequest) as refused:
        shaped(request(**fields), engine)
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize("field", ["grammar", "json_schema", "structured_outputs"])
def test_two_forms_of_one_answer_are_refused(field: str) -> None:
    """A client's own grammar and ours cannot both hold."""
    for fields in ({"response_format": {"type": "json_object"}}, {"tools": TOOLS}):
        with pytest.raises(InvalidRequest) as refused:
            shaped(request(**fields, **{field: "root ::= 'a'"}))
        assert refused.value.param == field


def test_allowed_tools_are_the_only_ones() -> None:
    """As OpenAI's `allowed_tools` says; in the prompt, and to engines that show tools."""
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
    asked = request(tools=TOOLS, tool_choice=choice)
    assert "weather" not in str(turns(shaped(asked)))
    native = shaped(asked, native=True).request.prompt
    assert (native["tools"], native["tool_choice"]) == ([TOOLS[1]], "required")


@pytest.mark.parametrize(
    ("engine", "fields", "sent"),
    [
        ("vllm", {}, {"tools": TOOLS}),
        ("vllm", {"tool_choice": "none"}, {"tools": TOOLS, "tool_choice": "none"}),
        ("vllm", {"tool_choice": NAMED}, {"tools": TOOLS[1:], "tool_choice": "required", "parallel_tool_calls": False}),
        ("llamacpp", {}, {"tools": TOOLS, "parallel_tool_calls": True}),
        ("llamacpp", {"parallel_tool_calls": False}, {"tools": TOOLS, "parallel_tool_calls": False}),
        ("ollama", {}, {"tools": TOOLS}),
        ("ollama", {"tool_choice": "none"}, {}),
        ("openai", {"tool_choice": NAMED}, {"tools": TOOLS, "tool_choice": NAMED}),
        ("openai", {"tools": [{"type": "custom"}]}, {"tools": [{"type": "custom"}]}),
    ],
)
def test_an_engine_that_shows_tools_gets_them(engine: Engine, fields: dict[str, Any], sent: dict[str, Any]) -> None:
    """In the words it has; the conversation as it came."""
    asked = request(TOLD, **{"tools": TOOLS} | fields)
    prompt = shaped(asked, engine, native=True).request.prompt
    assert {name: value for name, value in prompt.items() if name != "messages"} == sent
    assert prompt["messages"] == asked.prompt["messages"]


@pytest.mark.parametrize(
    "fields", [{"tool_choice": "required"}, {"tool_choice": NAMED}, {"parallel_tool_calls": False}]
)
def test_what_ollama_has_no_word_for_is_told_in_the_prompt(fields: dict[str, Any]) -> None:
    """Unless the operator wants its own way only: then it is refused by name."""
    asked = request(tools=TOOLS, **fields)
    assert "You can call functions" in turns(shaped(asked, "ollama", native=True))[0][1]
    with pytest.raises(BackendRefused) as refused:
        shaped(asked, "ollama", native=True, tools="native")
    assert refused.value.param in {"tool_choice", "parallel_tool_calls"}


def test_tools_can_be_refused() -> None:
    """By the operator; results of earlier calls too."""
    for asked in (request(tools=TOOLS), request(TOLD)):
        with pytest.raises(BackendRefused) as refused:
            shaped(asked, tools="refused")
        assert (refused.value.status, refused.value.param) == (400, "tools")
    assert shaped(request(parallel_tool_calls=False), tools="refused").request.prompt == {"messages": HELLO}


def test_one_call_ends_an_answer_that_nothing_else_ends() -> None:
    """Where an engine cannot be told the form, the closing tag is a stop string beside the client's."""
    fields = {"tools": TOOLS, "parallel_tool_calls": False, "stop": ["x"]}
    for engine in ("ollama", "openai"):
        assert shaped(request(**fields), engine).request.params["stop"] == ["x", "</tool_call>"]
    assert shaped(request(**fields), "vllm").request.params["stop"] == ["x"]


def test_a_stricter_way_comes_before_a_plainer_one() -> None:
    """A vLLM that does not know structural tags is asked for the same in OpenAI's words."""
    tight, plain = shaped(request(response_format=SCHEMA)).ways
    assert tight["response_format"]["type"] == "structural_tag"
    assert plain["response_format"] == SCHEMA
    (guided,) = shaped(request(response_format=SCHEMA), "llamacpp").ways
    assert guided["grammar"].startswith("%llguidance")
    (plain,) = shaped(request(response_format=SCHEMA), "llamacpp", constrains="plain").ways
    assert "grammar" not in plain


LEAVES = st.sampled_from(
    [
        {"type": "integer"},
        {"enum": ["#/$defs/p", 1]},
        {"$ref": "#/$defs/p"},
        {"$ref": "#"},
        {"const": {"$ref": "#"}},
        True,
    ]
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda one, two: {"type": "object", "properties": {"$ref": one, "a": two}}, inner, inner)
        | st.builds(lambda one: {"type": "array", "items": one}, inner)
        | st.builds(lambda one: {"anyOf": [one, {"type": "null"}]}, inner)
    ),
    max_leaves=5,
)
VALUES = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from(["x", "#/$defs/p"]) | st.just({"$ref": "#"}),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["$ref", "a"]), inner, max_size=2),
    max_leaves=4,
)


@given(NESTED, NESTED, VALUES)
def test_schemas_mean_the_same_below_another(one: Any, other: Any, value: Any) -> None:
    """References lead where they led, and plain values that look like references stay plain."""
    parameters = {"properties": {"a": one}, "anyOf": [{}], "$defs": {"p": {"type": "integer"}, "q": other}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    (way, *_) = shaped(request(tools=[tool], tool_choice="required"), "ollama").ways
    arguments = {"a": value}
    there = jsonschema.Draft202012Validator(way["format"])
    here = jsonschema.Draft202012Validator(parameters)
    try:
        fits = here.is_valid(arguments)
    except RecursionError:
        return
    assert there.is_valid([{"name": "f", "arguments": arguments}]) == fits


def test_arguments_that_a_schema_leaves_open_are_closed() -> None:
    """A model would fill them at random. Where the schema says it, or composes, it is left alone."""
    for more, closed in (({}, True), ({"additionalProperties": True}, False), ({"anyOf": [{}]}, False)):
        tool = {"type": "function", "function": {"name": "f", "parameters": PARAMETERS | more}}
        (way, *_) = shaped(request(tools=[tool], tool_choice="required"), "ollama").ways
        answer = [{"name": "f", "arguments": {"city": "a", "other": 1}}]
        assert jsonschema.Draft202012Validator(way["format"]).is_valid(answer) != closed


FIXED = (
    {},
    {"tools": TOOLS},
    {"tools": TOOLS, "parallel_tool_calls": False},
    {"tools": TOOLS, "tool_choice": "required"},
    {"tools": TOOLS, "tool_choice": NAMED},
    {"tools": TOOLS, "response_format": SCHEMA},
    {"messages": TOLD, "tools": TOOLS},
    {"messages": [{"role": "system", "content": "s"}, *TOLD]},
    {"response_format": SCHEMA},
    {"response_format": {"type": "json_object"}},
)
DIGESTS = {b"1": "589a508c5b01fb6a23fecf8565e04aabacbb745a0c38c24a4632871217bfbe4b"}


def test_what_is_told_changes_only_with_its_version() -> None:
    """Answers to the old words would be given to the new. After a change: a new `RENDERING`, and its digest here."""
    told: list[Any] = []
    for engine, fields in itertools.product(MANNERS, FIXED):
        if engine not in {"vllm", "llamacpp"} and {"tools", "response_format"} <= fields.keys():
            continue
        shape = shaped(request(**fields), engine)
        told.append([shape.request.prompt, shape.request.params, shape.ways])
    assert hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest() == DIGESTS[RENDERING]
