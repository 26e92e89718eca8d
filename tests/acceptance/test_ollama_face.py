"""Ollama's endpoints over HTTP, where they are not those of its client's tests: loading, and the older embeddings."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

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
