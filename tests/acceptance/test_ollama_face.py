"""Ollama's endpoints over HTTP, where they are not those of its client's tests: loading, older ways, and streams."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal

import httpx
import ollama
import pytest

from gateway.canonical import Request
from gateway.config import BackendConfig
from gateway.errors import BackendError
from storage.entry import Chunk, Usage
from tests.acceptance.in_thread import MODEL, Gateway


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/generate", {}, {"response": "", "done_reason": "load"}),
        ("/api/generate", {"prompt": "", "keep_alive": 0}, {"response": "", "done_reason": "unload"}),
        ("/api/chat", {"messages": []}, {"message": {"role": "assistant", "content": ""}, "done_reason": "load"}),
    ],
)
def test_saying_nothing_loads_the_model(
    gateway: Callable[..., Gateway], path: str, body: dict[str, Any], said: dict[str, Any]
) -> None:
    """Nothing is asked of the model, and nothing kept."""
    parrot = gateway()
    reply = httpx.post(parrot.url + path, json={"model": MODEL} | body)
    assert reply.status_code == 200
    assert reply.json().pop("created_at")
    assert reply.json() == reply.json() | said | {"model": MODEL, "done": True}
    assert parrot.backend.calls == 0
    assert httpx.post(parrot.url + path, json={"model": "nope"} | body).status_code == 404


def test_the_older_embeddings_and_large_names(gateway: Callable[..., Gateway]) -> None:
    """One vector; the newer endpoint has it already. A large body to describe a model is read in a thread."""
    parrot = gateway()
    older = httpx.post(parrot.url + "/api/embeddings", json={"model": MODEL, "prompt": "a"}).json()
    newer = httpx.post(parrot.url + "/api/embed", json={"model": MODEL, "input": "a"})
    assert newer.headers["x-askonce-cache"] == "hit"
    assert [older["embedding"]] == newer.json()["embeddings"]
    assert httpx.post(parrot.url + "/api/embeddings", json={"model": MODEL, "prompt": ""}).json() == {"embedding": []}
    shown = httpx.post(parrot.url + "/api/show", json={"model": MODEL, "x": "x" * 2**20})
    assert shown.status_code == 200


def test_older_and_other_clients_ways(gateway: Callable[..., Gateway]) -> None:
    """A model by `name`, a message whose content is null, and the look at the root before anything else."""
    parrot = gateway()
    assert httpx.head(parrot.url).status_code == 200
    root = httpx.get(parrot.url)
    assert (root.status_code, root.text) == (200, "Ollama is running")
    assert root.headers["content-type"].startswith("text/plain")
    assert httpx.head(parrot.url + "/api/tags").status_code == 200
    assert httpx.post(parrot.url + "/api/show", json={"name": MODEL}).status_code == 200
    assert httpx.post(parrot.url + "/api/show", json={}).status_code == 400
    said = [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "user", "content": "Hi"}]
    reply = httpx.post(parrot.url + "/api/chat", json={"model": MODEL, "messages": said, "stream": False})
    assert reply.json()["message"]["content"] == "You said: Hi"


def test_a_stream_has_likelihoods_and_an_error_is_a_line(gateway: Callable[..., Gateway]) -> None:
    """What the whole reply has the stream has too; a stream that breaks off says so in its last line."""
    parrot = gateway()
    likely = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}

    async def complete(request: Request) -> AsyncGenerator[Chunk]:
        yield Chunk(content="a", logprobs={"content": [likely]})
        if request.params.get("seed"):
            message = "It broke."
            raise BackendError(message)
        yield Chunk(content="b", finish_reason="stop")
        yield Chunk(usage=Usage(1, 2))

    parrot.backend.complete = complete

    def lines(**options: int) -> list[Any]:
        body = {"model": MODEL, "prompt": "Hi", "logprobs": True, "options": options}
        reply = httpx.post(parrot.url + "/api/generate", json=body)
        assert reply.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in reply.text.splitlines()]

    assert [line.get("logprobs") for line in lines()] == [[likely], None, None]
    assert lines(seed=1)[-1] == {"error": "It broke."}


@pytest.mark.engines
def test_thinking_is_done_or_refused(gateway: Callable[..., Gateway], llamacpp_url: str, model_name: str) -> None:
    """This model does not think: to ask it to is a mistake that says so, unless the operator lets it pass."""

    def asked(unsupported: Literal["refuse", "pass"]) -> list[httpx.Response]:
        there = BackendConfig(kind="llamacpp", model=model_name, url=llamacpp_url, unsupported=unsupported)
        url = gateway(backends=(there,)).url
        body = {"model": model_name, "prompt": "Hi", "stream": False, "options": {"num_predict": 2}}
        thoughts = (True, "high", False, None)
        return [httpx.post(f"{url}/api/generate", json=body | {"think": one}, timeout=60) for one in thoughts]

    refused = asked("refuse")
    assert [reply.status_code for reply in refused] == [400, 400, 200, 200]
    assert "'think'" in refused[0].json()["error"]
    assert "'reasoning_effort'" in refused[1].json()["error"]
    assert [reply.status_code for reply in asked("pass")] == [200] * 4


@pytest.mark.engines
def test_models_are_described_by_their_servers(
    gateway: Callable[..., Gateway], llamacpp_url: str, ollama_url: str
) -> None:
    """Size, parameters, length and abilities, in the list and one by one; of the script there is nothing to tell."""
    there = (
        BackendConfig(kind="llamacpp", model="gemma-3-askonce", alias="bare", url=llamacpp_url),
        BackendConfig(kind="ollama", model="gemma-3-askonce", alias="theirs", url=ollama_url),
    )
    with ollama.Client(host=gateway(backends=there).url) as client:
        listed = {model.model: model for model in client.list().models}
        bare, theirs = client.show("bare"), client.show("theirs")
    for name in ("bare", "theirs"):
        assert listed[name].size is not None
        assert listed[name].size > 3_000_000
        assert listed[name].digest
        details = listed[name].details
        assert details is not None
        assert details.parameter_size == "1.87M"
        assert details.quantization_level in {"BF16", "F16"}
    assert set(bare.capabilities or ()) == {"completion", "embedding", "tools"}
    assert set(theirs.capabilities or ()) == {"completion", "tools"}, "what it lists, and what the gateway adds"
    assert (bare.modelinfo or {})["general.context_length"] == 8192
    assert (theirs.modelinfo or {})["gemma3.context_length"] == 8192
    assert bare.template == theirs.template
    assert listed[MODEL].size == 0
