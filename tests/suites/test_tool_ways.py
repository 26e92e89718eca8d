"""How tools reach a model, decided by what its server says; what is asked, and what a client hears of the answer."""

import json
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from gateway import asking, building
from gateway.config import BackendConfig
from gateway.errors import BackendError, BackendRefused, BackendUnavailable, InvalidRequest, UnfitAnswer
from gateway.routing.backend import Backend
from gateway.wire import openai_chat, openai_completions, reply
from storage.entry import Chunk
from tests.suites.faulty import Peer, faulty
from tests.suites.test_backend_faults import ending, piece

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}
]
HELLO = [{"role": "user", "content": "Hi"}]
CHATS = frozenset({"/v1/chat/completions", "/api/chat"})


class Model:
    """A server of one kind: what it says of itself, what it answers, and what it was asked."""

    def __init__(self, kind: str, said: str = "", /, **replies: Any) -> None:
        self.kind = kind
        self.said = said
        """The body of each answer; by default a short text."""
        self.replies = {name.replace("_", "/"): told for name, told in replies.items()}
        """What it says at other paths; what it does not say is 404."""
        self.asked: list[tuple[str, Any]] = []

    async def serve(self, peer: Peer) -> None:
        """Answer one request."""
        body = json.loads(peer.body) if peer.body else None
        self.asked.append((peer.path, body))
        told = self.replies.get(peer.path)
        told = told(body) if callable(told) else told
        if peer.path in CHATS and told is None:
            await peer.head()
            await peer.say(self.said or piece(self.kind, "hello") + ending(self.kind))
        elif isinstance(told, int) or told is None:
            status = told or 404
            await peer.head(f"{status} Refused", "application/json")
            await peer.say(json.dumps({"error": {"message": "no", "param": "x"}}))
        else:
            await peer.head(kind="application/json")
            await peer.say(json.dumps(told))

    def chats(self) -> list[Any]:
        """What it was asked to answer."""
        return [body for path, body in self.asked if path in CHATS]


def tokens(*, shows: bool) -> Any:
    """A tokenizer that counts tools, or does not."""
    return lambda body: {"tokens": [1, 2] if shows and "tools" in body else [1]}


def props(**caps: Any) -> dict[str, Any]:
    """What llama.cpp says of itself."""
    return {"_props": {"chat_template": "{{ messages }}", **caps}, "_v1_models": {"data": [{"id": "m"}]}}


TOLD_NATIVELY = {
    "vllm": Model("vllm", _tokenize=tokens(shows=True)),
    "llamacpp": Model("llamacpp", **props(chat_template_caps={"supports_tools": True})),
    "an older llamacpp": Model("llamacpp", **props(chat_template="{% if tools %}")),
    "ollama": Model("ollama", _api_show={"capabilities": ["completion", "tools"]}),
    "any server": Model("openai"),
}
TOLD_IN_THE_PROMPT = {
    "vllm": Model("vllm", _tokenize=tokens(shows=False)),
    "vllm that does not say": Model("vllm"),
    "vllm behind a key": Model("vllm", _tokenize=401),
    "llamacpp": Model("llamacpp", **props(chat_template_caps={"supports_tools": False})),
    "an older llamacpp": Model("llamacpp", **props()),
    "ollama": Model("ollama", _api_show={"capabilities": ["completion"]}),
    "an older ollama": Model("ollama", _api_show={}),
}


def build(kind: str, url: str, **settings: Any) -> Backend:
    """A backend as the composition root makes it."""
    return building.BUILD[kind](BackendConfig(kind=kind, model="m", url=url, model_version="w", **settings))  # type: ignore[arg-type]


async def ask(model: Model, *, times: int = 1, settings: Any = None, text: bool = False, **fields: Any) -> list[Chunk]:
    """The answer, asked for so many times."""
    body: dict[str, Any] = {"model": "m"} | ({"prompt": "Hi"} if text else {"messages": HELLO})
    decode = openai_completions.decode if text else openai_chat.decode
    request = decode(msgspec.json.encode(body | fields))
    async with faulty(model.serve) as server:
        backend = build(model.kind, server.url, **(settings or {}))
        try:
            for _ in range(times):
                async with aclosing(asking.asked(backend, request)) as steps:
                    heard = [step async for step in steps]
        finally:
            await backend.aclose()
    return heard


@pytest.mark.parametrize("model", TOLD_NATIVELY.values(), ids=TOLD_NATIVELY)
async def test_an_engine_that_shows_tools_is_given_them(model: Model) -> None:
    """Asked once what it can; then the tools travel as they came."""
    model.asked.clear()
    await ask(model, times=2, tools=TOOLS)
    first, second = model.chats()[-2:]
    assert first["tools"] == second["tools"] == TOOLS
    assert first["messages"] == [{"role": "user", "content": "Hi"}]
    paths = [path for path, _ in model.asked if path not in CHATS]
    assert len(paths) == len(set(paths)) + (model.kind == "vllm"), "it was asked again"


@pytest.mark.parametrize("model", TOLD_IN_THE_PROMPT.values(), ids=TOLD_IN_THE_PROMPT)
async def test_an_engine_that_does_not_is_told_in_the_prompt(model: Model) -> None:
    """Also one that does not say: the engines themselves would drop them without a word."""
    model.asked.clear()
    await ask(model, tools=TOOLS)
    (body,) = model.chats()
    assert "tools" not in body
    assert json.dumps(TOOLS[0]["function"]) in body["messages"][0]["content"]


async def test_a_vllm_that_finds_no_calls_is_told_in_the_prompt() -> None:
    """Its template shows tools, but it was started without a parser: it refuses the one token it is asked for."""
    model = Model("vllm", _tokenize=tokens(shows=True))
    model.replies["/v1/chat/completions"] = lambda body: 400 if "tools" in body else None
    await ask(model, tools=TOOLS)
    assert "tools" not in model.chats()[-1]


async def test_a_server_that_cannot_be_reached_decides_nothing() -> None:
    """It is asked again with the next request."""
    backend = build("vllm", "http://127.0.0.1:1")
    request = openai_chat.decode(json.dumps({"model": "m", "messages": [{"role": "user"}], "tools": TOOLS}).encode())
    with pytest.raises(BackendUnavailable):
        _ = [step async for step in backend.complete(request)]
    await backend.aclose()


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "ollama", "openai"])
async def test_the_settings_decide(kind: str) -> None:
    """Whatever the server would say; it is not asked."""
    model = Model(kind)
    await ask(model, tools=TOOLS, settings={"tools": "native"})
    await ask(model, tools=TOOLS, settings={"tools": "prompted"})
    native, prompted = model.chats()
    assert native["tools"] == TOOLS
    assert "tools" not in prompted
    with pytest.raises(BackendRefused) as refused:
        await ask(model, tools=TOOLS, settings={"tools": "refused"})
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, "tools", "unsupported_parameter")
    assert len(model.asked) == 2


def event(**fields: Any) -> str:
    """One event of OpenAI's."""
    choice = {"index": 0, "delta": {}, "finish_reason": None} | fields
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


def delta(call: dict[str, Any]) -> str:
    """An event with this piece of a call."""
    return event(delta={"tool_calls": [call]})


ONE = {"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a":'}}
TWO = {"id": "y", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REST = {"function": {"arguments": " 1}"}}
DONE = event(finish_reason="stop") + "data: [DONE]\n\n"
UNNUMBERED = {
    "ids and rests": [ONE, REST, TWO],
    "ids said again": [ONE, {"id": "x", **REST}, TWO],
    "no ids": [{"function": ONE["function"]}, REST, {"function": TWO["function"]}],
    "numbers": [{"index": 0, **ONE}, {"index": 1, **TWO}, {"index": 0, **REST}],
    "nulls beside": [ONE | {"type": None}, REST | {"id": None}, TWO],
}


@pytest.mark.parametrize("calls", UNNUMBERED.values(), ids=UNNUMBERED)
async def test_calls_that_are_not_numbered_are_told_apart(calls: Sequence[dict[str, Any]]) -> None:
    """By their ids and names. Every call has an id, and the answer ends as OpenAI's do."""
    model = Model("openai", "".join(map(delta, calls)) + DONE)
    steps = await ask(model, tools=TOOLS)
    folded = reply.message(steps)["tool_calls"]
    assert [call["function"] for call in folded] == [{"name": "f", "arguments": text} for text in ('{"a": 1}', "{}")]
    assert len({call["id"] for call in folded}) == 2
    assert all(call["id"] and call["type"] == "function" for call in folded)
    assert [step.finish_reason for step in steps if step.finish_reason] == ["tool_calls"]


async def test_ollamas_calls_come_one_in_a_line() -> None:
    """Each line counts anew, and its last one does not know that anything was called."""
    lines = [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": n}}}]} for n in (1, 2)]
    said = "".join(json.dumps({"message": line, "done": False}) + "\n" for line in lines) + ending("ollama")
    model = Model("ollama", said, _api_show={"capabilities": ["tools"]})
    steps = await ask(model, tools=TOOLS)
    folded = reply.message(steps)["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in folded] == [{"a": 1}, {"a": 2}]
    assert len({call["id"] for call in folded}) == 2
    assert steps[-2].finish_reason == "tool_calls"


async def test_ids_differ_from_turn_to_turn() -> None:
    """Results of calls are told by id: two calls of one conversation must not share one."""
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    said = json.dumps({"message": called, "done": False}) + "\n"
    model = Model("ollama", said + ending("ollama"), _api_show={"capabilities": ["tools"]})
    turns: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
    ids: list[str] = []
    for _ in range(3):
        call = reply.message(await ask(model, messages=turns, tools=TOOLS))["tool_calls"][0]
        ids.append(call["id"])
        result = {"role": "tool", "tool_call_id": call["id"], "content": "1"}
        turns += [{"role": "assistant", "tool_calls": [call]}, result]
    assert len(set(ids)) == 3


def words(*texts: str) -> str:
    """A stream of text and its end."""
    return "".join(piece("vllm", text) for text in texts) + ending("vllm")


STRICT = [{"type": "function", "function": {**TOOLS[0]["function"], "parameters": {"required": ["a"]}, "strict": True}}]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tool_choice": "required"}, "I will not."),
        ({"tool_choice": "required"}, '[{"name": "g", "arguments": {}}]'),
        ({"tool_choice": "required"}, '[{"name": "f", "arguments": {}'),
        ({"tool_choice": "required"}, '[{"name": "f", "arguments": {"a": nul}}]'),
        ({}, '<tool_call>{"name": "g", "arguments": {}}</tool_call>'),
        ({}, '<tool_call>{"name": "f", "arguments": {"a'),
        ({"tools": STRICT}, '<tool_call>{"name": "f", "arguments": {}}</tool_call>'),
        ({"parallel_tool_calls": False}, '<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "f"}</tool_call>'),
        ({"tools": [], "response_format": {"type": "json_object"}}, "[1]"),
        ({"tools": [], "response_format": {"type": "json_object"}}, '{"a": NaN}'),
        ({"tools": [], "response_format": {"type": "json_object"}}, "{"),
    ],
)
async def test_an_answer_that_is_not_what_was_promised_is_an_error(fields: dict[str, Any], said: str) -> None:
    """From an engine that was told, and did not heed it."""
    for texts in ([said], list(said)):
        with pytest.raises(UnfitAnswer) as unfit:
            await ask(Model("vllm", words(*texts)), **{"tools": TOOLS} | fields)
        assert (unfit.value.status, unfit.value.code) == (502, "unfit_answer")


async def test_an_engines_own_calls_are_checked_where_they_are_strict() -> None:
    """Others are as good as the model is: OpenAI promises no more."""
    call = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    model = Model("vllm", delta(call) + DONE, _tokenize=tokens(shows=True))
    with pytest.raises(UnfitAnswer, match="'f'"):
        await ask(model, tools=STRICT)
    loose = [{"type": "function", "function": {**STRICT[0]["function"], "strict": False}}]
    assert reply.message(await ask(model, tools=loose))["tool_calls"]


async def test_a_cut_answer_is_given_as_it_is() -> None:
    """Its finish reason says that it is not whole."""
    said = piece("vllm", '{"a": [1, ') + ending("vllm").replace('"stop"', '"length"')
    steps = await ask(Model("vllm", said), response_format={"type": "json_object"})
    assert (reply.message(steps)["content"], steps[-2].finish_reason) == ('{"a": [1, ', "length")


async def test_a_refusal_need_not_fit() -> None:
    """It is said beside the text."""
    said = event(delta={"refusal": "No."}) + DONE
    steps = await ask(Model("openai", said), response_format={"type": "json_object"})
    assert reply.message(steps)["refusal"] == "No."


async def test_an_older_vllm_is_asked_in_plainer_words() -> None:
    """It refuses structural tags; the same in OpenAI's words, and calls that nobody holds it to."""
    model = Model("vllm", words('{"a": 1}'))
    tight = "structural_tag"
    model.replies["/v1/chat/completions"] = lambda body: 400 if tight in json.dumps(body) else None
    await ask(model, response_format={"type": "json_object"})
    assert [body["response_format"]["type"] for body in model.chats()] == [tight, "json_object"]
    model.said = words('<tool_call>{"name": "f"}</tool_call>')
    assert reply.message(await ask(model, tools=TOOLS))["tool_calls"]
    assert "response_format" not in model.chats()[-1]


async def test_a_refusal_of_everything_is_the_clients() -> None:
    """The plainest way's, in the engine's words, and not asked for ever."""
    model = Model("vllm")
    model.replies["/v1/chat/completions"] = 400
    with pytest.raises(BackendRefused) as refused:
        await ask(model, response_format={"type": "json_object"})
    assert (refused.value.status, len(model.asked)) == (400, 2)


UNSUPPORTED = {
    "modalities": ["text", "audio"],
    "audio": {"voice": "a"},
    "prediction": {"type": "content"},
    "functions": [{"name": "f"}],
    "guided_json": {"type": "object"},
    "min_tokens": 5,
}


@pytest.mark.parametrize(("field", "value"), UNSUPPORTED.items())
@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "ollama"])
async def test_what_an_engine_would_ignore_is_refused_or_passed_on(kind: str, field: str, value: Any) -> None:
    """As the operator wants it; by default it is refused, naming it."""
    model = Model(kind)
    if (kind, field) != ("vllm", "min_tokens"):
        with pytest.raises(BackendRefused) as refused:
            await ask(model, **{field: value})
        assert (refused.value.status, refused.value.param) == (400, field)
        assert refused.value.code == "unsupported_parameter"
        assert model.asked == []
    await ask(model, settings={"unsupported": "pass"}, **{field: value})
    (body,) = model.chats()
    assert (body["options"] if kind == "ollama" else body)[field] == value


@pytest.mark.parametrize(
    ("field", "value"),
    {
        "modalities": ["text"],
        "verbosity": "medium",
        "functions": [],
        "think": False,
        "min_tokens": 0,
        "audio": None,
    }.items(),
)
@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "ollama"])
async def test_what_asks_for_nothing_is_taken(kind: str, field: str, value: Any) -> None:
    """A default said out loud is no reason to refuse."""
    model = Model(kind)
    await ask(model, **{field: value})
    assert len(model.chats()) == 1


async def test_vllm_takes_four_stop_strings() -> None:
    """More are refused before it is asked; the others take them."""
    stop = ["a", "b", "c", "d", "e"]
    with pytest.raises(BackendRefused) as refused:
        await ask(Model("vllm"), stop=stop)
    assert refused.value.param == "stop"
    for kind in ("llamacpp", "ollama", "openai"):
        await ask(Model(kind), stop=stop)


EFFORTS = {
    "reads the effort": (lambda told: [1, len(told["reasoning_effort"])], True),
    "thinks or does not": (lambda told: [int(told["enable_thinking"])], True),
    "reads neither": (lambda _: [1], False),
    "does not tell": (None, True),
}


@pytest.mark.parametrize(("reads", "fine"), EFFORTS.values(), ids=EFFORTS)
async def test_vllm_is_not_asked_for_an_effort_that_its_template_does_not_read(reads: Any, fine: bool) -> None:
    """It would take it and make none; asked once, by tokenizing with and without."""
    counted = (lambda body: {"tokens": reads(body["chat_template_kwargs"])}) if reads else 404
    model = Model("vllm", _tokenize=counted)
    if fine:
        await ask(model, times=2, reasoning_effort="high")
        assert [body["reasoning_effort"] for body in model.chats()] == ["high", "high"]
        assert sum(path == "/tokenize" for path, _ in model.asked) in {1, 3}
        return
    with pytest.raises(BackendRefused) as refused:
        await ask(model, reasoning_effort="high")
    assert (refused.value.status, refused.value.param) == (400, "reasoning_effort")
    await ask(model, reasoning_effort="none")
    assert len(model.chats()) == 1


def picture(url: Any) -> list[dict[str, Any]]:
    """A conversation with an image."""
    image = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [{"type": "text", "text": "x"}, image]}]


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "ollama", "openai"])
@pytest.mark.parametrize("url", ["http://10.0.0.1/x.png", "https://example.com/x", "file:///etc/passwd", "data:,x", 5])
async def test_images_elsewhere_are_refused(kind: str, url: Any) -> None:
    """Nothing is fetched, by us or by an engine; an operator may let it pass."""
    model = Model(kind)
    with pytest.raises(BackendRefused) as refused:
        await ask(model, messages=picture(url))
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "unsupported_content", "messages")
    assert model.asked == []


BLIND = {
    "llamacpp": Model("llamacpp", **props(modalities={"vision": False})),
    "ollama": Model("ollama", _api_show={"capabilities": ["completion"]}),
}
SEEING = {
    "llamacpp": Model("llamacpp", **props(modalities={"vision": True})),
    "ollama": Model("ollama", _api_show={"capabilities": ["completion", "vision"]}),
    "an older ollama": Model("ollama", _api_show={}),
    "vllm": Model("vllm"),
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize("model", BLIND.values(), ids=BLIND)
async def test_a_model_that_does_not_see_is_not_asked(model: Model) -> None:
    """llama.cpp would answer 500, and Ollama after it has loaded the model."""
    with pytest.raises(BackendRefused, match="image") as refused:
        await ask(model, messages=picture(PIXEL))
    assert (refused.value.status, refused.value.code) == (400, "unsupported_content")
    assert model.chats() == []


@pytest.mark.parametrize("model", SEEING.values(), ids=SEEING)
async def test_a_model_that_sees_is_sent_the_image(model: Model) -> None:
    """In its engine's own form; also beside tools that are told in the prompt."""
    for fields in ({}, {"tools": TOOLS}):
        await ask(model, messages=picture(PIXEL), **fields)
        message = model.chats()[-1]["messages"][-1]
        if model.kind == "ollama":
            assert message["images"] == ["iVBORw0KGgo="]
        else:
            assert {"type": "image_url", "image_url": {"url": PIXEL}} in message["content"]


@pytest.mark.parametrize(("token", "fine"), [("9", True), ("10", False), ("-1", False), ("x", False), ("²", False)])
async def test_llamacpps_vocabulary_is_known(token: str, fine: bool) -> None:
    """It ignores biases for tokens that are not in it."""
    model = Model("llamacpp", **props() | {"_v1_models": {"data": [{"id": "m", "meta": {"n_vocab": 10}}]}})
    for text in (False, True):
        if fine:
            await ask_any(model, text=text, token=token)
            continue
        with pytest.raises(BackendRefused) as refused:
            await ask_any(model, text=text, token=token)
        assert refused.value.param == "logit_bias"


async def ask_any(model: Model, *, text: bool, token: str) -> None:
    """A chat or a completion with a bias."""
    model.replies["/v1/completions"] = None
    if not text:
        await ask(model, logit_bias={token: 1})
        return
    try:
        await ask(model, text=True, logit_bias={token: 1})
    except BackendRefused as refused:
        if refused.status != 404:
            raise


async def test_an_effort_that_means_nothing_is_refused() -> None:
    """Where the template does not read it; `none` asks for nothing."""
    model = Model("llamacpp", **props(chat_template_caps={"supports_reasoning_effort": False}))
    with pytest.raises(BackendRefused) as refused:
        await ask(model, reasoning_effort="high")
    assert refused.value.param == "reasoning_effort"
    await ask(model, reasoning_effort="none")


async def test_no_client_ends_a_llamacpp_without_guidance() -> None:
    """It would, if it were asked for it, and all others' answers with it."""
    for settings in ({}, {"unsupported": "pass"}):
        model = Model("llamacpp")
        with pytest.raises(BackendRefused) as refused:
            await ask(model, settings=settings, grammar="%llguidance {}\nstart: /a/")
        assert (refused.value.param, model.asked) == ("grammar", [])
    await ask(model, grammar='root ::= "a"')
    await ask(model, settings={"guidance": True}, grammar="%llguidance {}\nstart: /a/")
    assert len(model.chats()) == 2


async def test_ollama_is_told_to_cut_nothing() -> None:
    """Unless a client wants it cut."""
    model = Model("ollama")
    await ask(model)
    await ask(model, truncate=True)
    first, second = model.chats()
    assert (first["truncate"], first["shift"]) == (False, False)
    assert (second["truncate"], second["shift"]) == (True, False)


async def test_a_schema_that_takes_a_pattern_for_ever_does_not() -> None:
    """A client's pattern and a model's answer must not stop everybody else: such a one is decided at once."""
    schema = {"type": "string", "pattern": "^(a+)+$"}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with pytest.raises((UnfitAnswer, InvalidRequest, BackendError)):
        await ask(Model("vllm", words(json.dumps("a" * 5000 + "!"))), response_format=wanted)
