"""`/v1/cache/explain`: why a request missed."""

import re
from collections.abc import Callable
from typing import Any

import httpx

from gateway.config import PolicyConfig
from tests.acceptance.in_thread import MODEL, Gateway
from tests.conftest import Servers
from tests.suites.frozen import frozen

CHAT = "/v1/chat/completions"


def question(text: str = "What is the capital of France?", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0, **fields}


def asked(gateway: Gateway, body: dict[str, Any]) -> str:
    """Ask, and wait until the record has it. Returns the key."""
    reply = httpx.post(gateway.url + CHAT, json=body, timeout=30)
    assert reply.status_code == 200, reply.text
    gateway.flushed()
    return reply.headers["x-askonce-key"]


def explained(gateway: Gateway, body: dict[str, Any], cache_control: str = "") -> Any:
    """What it is to the cache."""
    headers = {"cache-control": cache_control}
    reply = httpx.post(f"{gateway.url}/v1/cache/explain", json=body, headers=headers, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_nearest_kept_request_is_named_with_what_differs(gateway: Callable[..., Gateway]) -> None:
    """Each field with both values."""
    found = gateway()
    key = asked(found, question(seed=7, top_k=40))
    asked(found, question("Something else altogether."))
    said = explained(found, question(seed=8, top_k=40, max_tokens=9))
    assert said["tier"] == "backend"
    assert said["nearest"]["key"] == key
    assert sorted(said["nearest"]["differs"], key=lambda each: each["field"]) == [
        {"field": "max_tokens", "asked": 9},
        {"field": "seed", "asked": 8, "kept": 7},
    ]
    assert "seed" in said["why"]
    said = explained(found, question("What is the capital of France? ", seed=7, top_k=40))
    (differs,) = said["nearest"]["differs"]
    assert differs["field"] == "messages[0].content"
    assert differs["asked"] == differs["kept"] + " "


def test_a_hit_says_so(gateway: Callable[..., Gateway]) -> None:
    """And for how long the answer has been kept."""
    found = gateway()
    asked(found, question())
    said = explained(found, question())
    assert (said["tier"], said["nearest"]) == ("memory", None)
    assert re.search(r"answered \d+ s ago", said["why"])


def test_what_was_deleted_or_is_too_old_is_why(gateway: Callable[..., Gateway]) -> None:
    """Rather than another request that is merely like it."""
    found = gateway()
    key = asked(found, question())
    asked(found, question(seed=1))
    assert "too old" in explained(found, question(), "max-age=0")["why"]
    assert "no-cache" in explained(found, question(), "no-cache")["why"]
    assert httpx.delete(f"{found.url}/v1/cache/{key}", timeout=30).status_code == 200
    assert "deleted" in explained(found, question())["why"]
    strict = gateway(policies=(PolicyConfig(keep_sampled=False),))
    assert "policy" in explained(strict, question(temperature=1))["why"]


def test_with_nothing_kept_there_is_no_nearest(gateway: Callable[..., Gateway]) -> None:
    """And other kinds of requests are no neighbours."""
    found = gateway()
    assert explained(found, question())["nearest"] is None
    asked(found, question())
    texts = {"model": MODEL, "input": "What is the capital of France?"}
    assert explained(found, texts)["nearest"] is None


def test_without_the_record_the_key_is_explained_all_the_same(
    gateway: Callable[..., Gateway], servers: Servers
) -> None:
    """A database that hangs costs a few seconds, and only the nearest request."""
    found = gateway()
    asked(found, question())
    with frozen(servers.postgres_process):
        said = explained(found, question(seed=2))
    assert said["nearest"] is None
    assert "cannot be read" in said["why"]
    assert len(said["key"]) == 64
