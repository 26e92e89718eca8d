"""Which requests are the same question: what can change the answer changes the key, and nothing else does."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import key
from gateway.canonical import Identity, Request
from gateway.errors import InvalidRequest
from gateway.wire import openai_chat, openai_completions, openai_embeddings

WHO = Identity("engine", "1", "weights")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SAFE = st.integers(-(2**53) + 1, 2**53 - 1)
SCALARS = st.none() | st.booleans() | SAFE | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))

CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "é漢😀\u2028\x00"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "response_format": {"type": "json_object"},
    "temperature": 0.5,
    "top_k": 40,
    "vendor": {"deep": [{"a": 1, "b": [1, 2, 3]}]},
}


def chat_key(body: dict[str, Any], scope: str = "s", who: Identity = WHO) -> bytes:
    """Name a chat request as it arrives."""
    return key.query(openai_chat.decode(json.dumps(body).encode()), scope, who).key


def completion_key(body: dict[str, Any]) -> bytes:
    """Name a completion request as it arrives."""
    return key.query(openai_completions.decode(json.dumps(body).encode()), "s", WHO).key


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same JSON with every object's fields in another order."""
    if isinstance(value, dict):
        items = [(name, shuffled(inner, chance)) for name, inner in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [shuffled(inner, chance) for inner in value] if isinstance(value, list) else value


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values inside `value`."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(found for name, part in inner for found in paths(part, (*path, name)))]


def without(body: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """A copy without the value at `path`."""
    copy = json.loads(json.dumps(body))
    inner: Any = copy
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copy


def changed(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at `path`."""
    copy = json.loads(json.dumps(body))
    inner: Any = copy
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return copy


@given(st.dictionaries(st.text("xyz", min_size=3, max_size=5), VALUES, max_size=4), st.randoms())
def test_the_order_of_fields_does_not_matter(extra: dict[str, Any], chance: random.Random) -> None:
    """At any depth, known and unknown fields alike."""
    body = CHAT | {f"x_{name}": value for name, value in extra.items()}
    assert chat_key(shuffled(body, chance)) == chat_key(body)


def test_whitespace_and_escapes_do_not_matter() -> None:
    """The same JSON written in another way is the same question."""
    written = [json.dumps(CHAT), json.dumps(CHAT, indent=3), json.dumps(CHAT, ensure_ascii=False)]
    assert len({key.query(openai_chat.decode(text.encode()), "s", WHO).key for text in written}) == 1


@given(st.lists(TEXT, min_size=2, max_size=2, unique=True))
def test_strings_are_byte_exact(texts: list[str]) -> None:
    """No trimming, no normalisation: the model reads bytes."""
    bodies = [CHAT | {"messages": [{"role": "user", "content": text}]} for text in texts]
    assert chat_key(bodies[0]) != chat_key(bodies[1])


@pytest.mark.parametrize(
    ("one", "other"), [("a", "a "), ("é", "e\u0301"), ("\r\n", "\n"), ("\x00", ""), ("K", "\u212a")]
)
def test_texts_that_look_alike_are_different(one: str, other: str) -> None:
    """Byte-exact means byte-exact."""
    assert chat_key({**CHAT, "x": one}) != chat_key({**CHAT, "x": other})


@pytest.mark.parametrize("path", paths(CHAT), ids=str)
def test_every_removed_field_changes_the_key(path: tuple[Any, ...]) -> None:
    """Known or unknown, at the top or nested: what is not there any more makes another question."""
    try:
        other = chat_key(without(CHAT, path))
    except InvalidRequest:
        return
    assert other != chat_key(CHAT)


@given(st.sampled_from(paths(CHAT)), VALUES)
def test_every_changed_value_changes_the_key(path: tuple[Any, ...], value: Any) -> None:
    """Wherever it stands."""
    inner: Any = CHAT
    for name in path:
        inner = inner[name]
    if msgspec.json.encode(inner) == msgspec.json.encode(value) or (isinstance(inner, int | float) and inner == value):
        return
    if path == ("temperature",) and value is None:
        return  # null is the default, 1
    try:
        other = chat_key(changed(CHAT, path, value))
    except InvalidRequest:
        return
    assert other != chat_key(CHAT)


@given(TEXT, VALUES)
def test_every_unknown_field_is_in_the_key(name: str, value: Any) -> None:
    """A field nobody has heard of may change the answer; null is a value too."""
    if name in openai_chat.ChatBody.__struct_fields__ or name in CHAT:
        return
    assert chat_key(CHAT | {name: value}) != chat_key(CHAT)


@given(TEXT, VALUES, VALUES)
def test_two_unknown_values_are_two_questions(name: str, one: Any, other: Any) -> None:
    """Unless they are the same JSON number, written in two ways."""
    if name in openai_chat.ChatBody.__struct_fields__ or json.loads(json.dumps(one)) == json.loads(json.dumps(other)):
        return
    assert chat_key(CHAT | {name: one}) != chat_key(CHAT | {name: other})


PARAMETERS = {
    "temperature": (0, 2),
    "top_p": (0.5, 0.9),
    "n": (2, 3),
    "presence_penalty": (-1, 1),
    "frequency_penalty": (-1, 1),
    "max_tokens": (1, 2),
    "stop": ("a", "b", ["a", "b"], ["b", "a"]),
    "seed": (0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)),
    "logit_bias": ({"1": 1}, {"1": 2}, {"2": 1}),
    "logprobs": (True,),
    "top_logprobs": (1, 2),
    "tools": ([{"type": "function"}], [{"type": "other"}]),
    "tool_choice": ("auto", "required", {"type": "function"}),
    "parallel_tool_calls": (False,),
    "response_format": ({"type": "json_object"}, {"type": "json_schema"}),
    "reasoning_effort": ("low", "high"),
    "num_ctx": (1, 2),
    "top_k": (1, 2),
    "grammar": ("a", "b"),
    "thinking": (True, False, None),
}


def test_turns_of_one_role_are_named_with_what_the_gateway_may_make_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another way to put them together is another question; whoever lets turns alternate is not touched by it."""
    twice = {"model": "m", "messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Bye"}]}
    once = {"model": "m", "messages": [{"role": "user", "content": "Hi\n\nBye"}]}
    before = chat_key(twice), chat_key(once)
    assert before[0] != before[1]
    monkeypatch.setattr(key, "RENDERING", b"another")
    assert chat_key(twice) != before[0]
    assert chat_key(once) == before[1]


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_changes_the_key(name: str) -> None:
    """Each value of each parameter is a question of its own, apart from the documented defaults."""
    plain: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    plain |= {"logprobs": True} if name == "top_logprobs" else {}
    values = PARAMETERS[name]
    assert len({chat_key(plain), *(chat_key({**plain, name: value}) for value in values)}) == len(values) + 1


@pytest.mark.parametrize(
    "same",
    [
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "someone"},
        {"metadata": {"a": "b"}},
        {"store": True},
        {"safety_identifier": "x"},
        {"service_tier": "flex"},
        {"prompt_cache_key": "x"},
        {"prompt_cache_retention": "24h"},
        {"temperature": 1},
        {"temperature": 1.0},
        {"top_p": 1, "n": 1, "presence_penalty": 0, "frequency_penalty": -0.0},
        {"logprobs": False, "stop": [], "logit_bias": {}, "response_format": {"type": "text"}},
        {"temperature": None, "top_p": None, "stop": None, "seed": None, "tools": None},
    ],
    ids=str,
)
def test_what_cannot_change_the_answer_is_not_in_the_key(same: dict[str, Any]) -> None:
    """How the reply travels, who asks, and saying what is the default anyway."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert chat_key(plain | same) == chat_key(plain)


def test_aliases_are_one_parameter() -> None:
    """`max_tokens` and `max_completion_tokens` mean the same; where both are given the newer counts."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert chat_key(plain | {"max_tokens": 5}) == chat_key(plain | {"max_completion_tokens": 5})
    assert chat_key(plain | {"max_tokens": 9, "max_completion_tokens": 5}) == chat_key(plain | {"max_tokens": 5})
    assert chat_key(plain | {"stop": "a"}) == chat_key(plain | {"stop": ["a"]})


def test_a_completion_says_sixteen_tokens_by_default() -> None:
    """As OpenAI documents it."""
    plain = {"model": "m", "prompt": "Hi"}
    assert completion_key(plain | {"max_tokens": 16}) == completion_key(plain)
    assert completion_key(plain | {"max_tokens": 17}) != completion_key(plain)


def test_a_completion_is_no_chat() -> None:
    """The kind is in the key, and so is the form of the prompt."""
    prompts: list[Any] = ["1", ["1"], [1], [[1]], ["1", "1"], [1, 1], [[1, 1]], [[1], [1]]]
    keys = {completion_key({"model": "m", "prompt": prompt, "max_tokens": 1}) for prompt in prompts}
    assert len(keys) == len(prompts)


def test_embeddings_ask_once_for_each_input() -> None:
    """One of several inputs is the same question as that input alone; the encoding is only packaging."""

    def keys(**body: Any) -> list[bytes]:
        asked = openai_embeddings.decode(json.dumps({"model": "m", **body}).encode())
        return [key.query(item, "s", WHO).key for item in asked.items]

    one, other = keys(input=["a", "b"])
    assert keys(input="a") == [one] == keys(input="a", encoding_format="base64", user="u")
    assert keys(input=["b"]) == [other] != [one]
    assert keys(input="a", dimensions=3) != [one]
    assert keys(input="a", unknown=3) != [one]
    assert keys(input=[1, 2]) == keys(input=[[1, 2]]) != keys(input=[[1], [2]])


def test_who_answers_and_who_may_ask_are_in_the_key() -> None:
    """Scope, model, weights, engine and its version."""
    others = [
        chat_key(CHAT, scope="other"),
        chat_key(CHAT | {"model": "other"}),
        chat_key(CHAT, who=Identity("other", "1", "weights")),
        chat_key(CHAT, who=Identity("engine", "other", "weights")),
        chat_key(CHAT, who=Identity("engine", "1", "other")),
        chat_key(CHAT, who=Identity("engine", "1weights", "")),
        chat_key(CHAT, who=Identity("engine1", "", "weights")),
    ]
    assert len({chat_key(CHAT), *others}) == len(others) + 1


@given(st.lists(st.lists(st.binary(max_size=4), max_size=4), min_size=2, max_size=2))
def test_parts_never_run_together(lists: list[list[bytes]]) -> None:
    """Two different lists of parts have different digests, however they are cut."""
    one, other = lists
    assert (key.digest(one) == key.digest(other)) == (one == other)


def test_an_unknown_field_cannot_pose_as_a_known_one() -> None:
    """Whatever a client calls its fields, they are kept apart from parameters and prompt."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    shams = [
        {"known": {"seed": "5"}},
        {"extra": {}},
        {"params": {"seed": 5}},
        {"prompt": {}},
        {"input": "Hi"},
        {"seed ": 5},
        {"Seed": 5},
        {"seed\x00": 5},
    ]
    keys = {chat_key(plain), chat_key(plain | {"seed": 5}), *(chat_key(plain | sham) for sham in shams)}
    assert len(keys) == len(shams) + 2


def test_a_seed_is_not_its_decimal_text_elsewhere() -> None:
    """A seed is written as text into the canonical form, and only a seed."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert chat_key(plain | {"x": 5}) != chat_key(plain | {"x": "5"})


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**64, 10**400])
def test_an_integer_json_cannot_hold_is_refused_kindly(number: int) -> None:
    """Two such integers could share one double, and so one key."""
    with pytest.raises(InvalidRequest, match="use a smaller one") as caught:
        chat_key(CHAT | {"x": [number]})
    assert caught.value.code == "integer_out_of_range"


def test_half_a_character_has_no_canonical_form() -> None:
    """A `Request` made by hand is refused too."""
    request = Request(kind="chat", model="m", prompt={"messages": [{"content": "\ud800"}]}, params={}, extra={})
    with pytest.raises(InvalidRequest, match="surrogate") as caught:
        key.query(request, "s", WHO)
    assert caught.value.code == "invalid_unicode"


def test_a_key_is_the_same_tomorrow() -> None:
    """What is kept stays reachable: this value changes only together with `key.VERSION`."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "é漢😀"}], "seed": 7, "top_k": 1}
    assert chat_key(plain).hex() == "e1ff0b2a1cf9d8d328ded8b142fc971f2f7360fe2a28a6e87aae2f9555170efa"


TOUCHED: dict[str, dict[str, Any]] = {
    "tools": {"tools": [{"type": "function"}]},
    "a call": {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
    "a result": {"messages": [{"role": "tool", "content": "x"}]},
    "a response format": {"response_format": {"type": "json_object"}},
}


@pytest.mark.parametrize("fields", TOUCHED.values(), ids=TOUCHED)
def test_what_the_gateway_says_itself_has_its_version_in_the_key(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New words for tools must not be given the answers to the old; all other answers stay."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    before = chat_key(plain), chat_key(plain | fields)
    monkeypatch.setattr(key, "RENDERING", b"other")
    after = chat_key(plain), chat_key(plain | fields)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_query_says_what_was_asked() -> None:
    """Its canonical texts are JSON again, and the searchable text is what a person wrote."""
    query = key.query(openai_chat.decode(json.dumps(CHAT).encode()), "s", WHO)
    assert json.loads(query.prompt)["messages"] == CHAT["messages"]
    assert json.loads(query.params)["extra"] == {"top_k": 40, "vendor": CHAT["vendor"]}
    assert query.text == "Be brief.\nHi\né漢😀\u2028\x00"
