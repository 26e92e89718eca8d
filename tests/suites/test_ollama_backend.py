"""What the Ollama backend sends, to a double that writes it all down: nothing of a request may be lost on the way."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from gateway import building
from gateway.canonical import Identity, Request
from gateway.config import BackendConfig
from gateway.errors import BackendRefused, InvalidRequest
from gateway.routing.backend import Backend
from gateway.wire import ollama
from tests.suites.faulty import Peer, faulty

HI = [{"role": "user", "content": "Hi"}]
LINE = {"done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 1}
REPLIES: dict[str, Any] = {
    "/api/version": {"version": "7"},
    "/api/tags": {"models": [{"model": "m", "digest": "d"}]},
    "/api/show": {"capabilities": ["completion", "tools", "vision", "thinking"]},
    "/api/embed": {"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 1},
    "/api/chat": LINE | {"message": {"role": "assistant", "content": "a"}},
    "/api/generate": LINE | {"response": "a"},
}


class Recorder:
    """A backend, and what its server was sent: paths, headers and bodies."""

    def __init__(self) -> None:
        self.backend: Backend
        self.asked: list[tuple[str, dict[str, str], Any]] = []

    async def said(self, request: Request) -> dict[str, Any]:
        """The body by which `request` was asked."""
        async with aclosing(self.backend.complete(request)) as steps:
            assert "".join([step.content async for step in steps]) == "a"
        return next(body for _, _, body in reversed(self.asked) if body)  # who it is it is asked without one


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    """A backend with a key."""
    async with recording(api_key="sesame") as found:
        yield found


@asynccontextmanager
async def recording(**settings: Any) -> AsyncIterator[Recorder]:
    """A backend with these settings over such a server."""
    found = Recorder()

    async def record(peer: Peer) -> None:
        path, headers, body = peer.path, peer.headers, peer.body
        found.asked.append((path, headers, json.loads(body) if body else None))
        await peer.head(kind="application/json")
        await peer.say(json.dumps(REPLIES[path]) + "\n")

    async with faulty(record) as server:
        found.backend = building.BUILD["ollama"](BackendConfig(kind="ollama", model="m", url=server.url, **settings))
        yield found
        await found.backend.aclose()


def chat(messages: Any = HI, *, params: Any = None, extra: Any = None, **prompt: Any) -> Request:
    """A chat."""
    return Request("chat", "m", {"messages": messages, **prompt}, params or {}, extra or {})


async def test_the_key_is_sent_with_every_call(recorder: Recorder) -> None:
    """To each path, by the client as well."""
    await recorder.backend.identity()
    await recorder.backend.ping()
    await recorder.said(chat())
    await recorder.said(Request("completion", "m", {"prompt": "Hi"}, {}, {}))
    await recorder.backend.embed([Request("embedding", "m", {"input": "Hi"}, {}, {})])
    assert {path for path, _, _ in recorder.asked} == REPLIES.keys() - {"/api/show"}
    assert {headers.get("authorization") for _, headers, _ in recorder.asked} == {"Bearer sesame"}


async def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that the environment has for another server."""
    monkeypatch.setenv("OLLAMA_API_KEY", "other")
    async with recording() as recorder:
        await recorder.backend.identity()
        await recorder.said(chat())
        assert all("authorization" not in headers for _, headers, _ in recorder.asked)


async def test_an_identity_in_the_settings_is_not_asked_for() -> None:
    """As with the other kinds."""
    async with recording(model_version="w", engine_version="5") as recorder:
        assert await recorder.backend.identity() == Identity("ollama", "5", "w")
        assert recorder.asked == []


async def test_options_nobody_knows_travel(recorder: Recorder) -> None:
    """As options, and those that Ollama takes beside them there."""
    extra = {
        "mirostat": 2,
        "typical_p": 0.5,
        "num_ctx": 99,
        "repetition_penalty": 1.2,
        "think": True,
        "keep_alive": "1h",
    }
    said = await recorder.said(chat(params={"max_tokens": 5, "temperature": 0.5, "n": 1}, extra=extra))
    assert said["options"] == {
        "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.2, "mirostat": 2, "typical_p": 0.5, "num_ctx": 99,
        "num_predict": 5, "temperature": 0.5,
    }  # fmt: skip
    assert (said["think"], said["keep_alive"], said["stream"]) == (True, "1h", True)
    assert "mirostat" not in said


async def test_what_a_client_of_ollamas_api_does_not_say_is_left_to_the_model(recorder: Recorder) -> None:
    """Its Modelfile's parameters count, which a default said out loud would beat."""
    options: list[Any] = []
    for said in ({}, {"temperature": 0.8}, {"num_predict": -1, "seed": 3}):
        question = ollama.decode_chat(json.dumps({"model": "m", "messages": HI, "options": said}).encode())
        assert isinstance(question, Request)
        options.append((await recorder.said(question))["options"])
    assert options == [{}, {"temperature": 0.8}, {"num_predict": -1, "seed": 3}]


async def test_what_is_the_gateways_to_set_is_held_back(recorder: Recorder) -> None:
    """As with the other kinds."""
    assert "id_slot" not in (await recorder.said(chat(extra={"id_slot": 1})))["options"]


async def test_messages_and_tools_travel_whole(recorder: Recorder) -> None:
    """Deep schemas, thoughts, names of tools, and fields nobody knows."""
    deep = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"minimum": 1}}}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": deep, "strict": True}}]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": {}}'}}
    sent = {"id": "1", "function": {"name": "f", "arguments": {"a": {}}}}
    messages = [
        {"role": "developer", "content": "Be short.", "weight": 1},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]  # fmt: skip
    said = await recorder.said(chat(messages, tools=tools, reasoning_effort="low"))
    assert said["tools"] == tools
    assert said["think"] == "low"
    assert said["messages"] == [
        {"role": "system", "content": "Be short.", "weight": 1},
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [sent]},
        {"role": "tool", "content": "x", "tool_call_id": "1", "tool_name": "f"},
    ]  # fmt: skip
    assert "tools" not in await recorder.said(chat(tools=tools, tool_choice="none"))


async def test_an_image_is_never_a_path(recorder: Recorder) -> None:
    """Whatever stands where its data should be goes to the server as it is: nothing is read from our disk."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,/etc/hostname"}}
    said = await recorder.said(chat([{"role": "user", "content": [part]}]))
    assert said["messages"][0]["images"] == ["/etc/hostname"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", {"type": "grammar"}),
        ("response_format", {"type": "json_schema"}),
        ("reasoning_effort", "extreme"),
    ],
)
async def test_what_ollama_has_no_word_for_is_refused(recorder: Recorder, field: str, value: Any) -> None:
    """Rather than ignored."""
    with pytest.raises((InvalidRequest, BackendRefused)) as refused:
        await recorder.said(chat(**{field: value}))
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, field, "unsupported_parameter")
    assert {path for path, _, _ in recorder.asked} <= {"/api/show"}


async def test_embeddings_have_options_too(recorder: Recorder) -> None:
    """Those of Ollama's own endpoint, and those nobody knows."""
    extra = {"options": {"num_ctx": 5}, "truncate": True, "num_batch": 7}
    await recorder.backend.embed([Request("embedding", "m", {"input": "Hi"}, {"dimensions": 1}, extra)])
    body = {"model": "m", "input": ["Hi"], "dimensions": 1, "truncate": True, "options": {"num_ctx": 5, "num_batch": 7}}
    assert recorder.asked[-1][2] == body
