"""`cache-control`, policies and deleting, as a client sees them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gateway.config import PolicyConfig
from tests.acceptance.in_thread import MODEL, Gateway
from tests.conftest import Servers
from tests.suites.frozen import frozen

DELETE_S = 20
"""Far more than a deletion waits for a database that hangs, and far less than the 40 seconds it once did."""
CHAT = "/v1/chat/completions"
HI = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}


class Asked:
    """A gateway, asked with headers."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def __call__(
        self, cache_control: str = "", body: Any = HI, path: str = "/v1/chat/completions", **headers: str
    ) -> Any:
        """The reply."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if cache_control:
            sent["cache-control"] = cache_control
        return httpx.post(self.gateway.url + path, json=body, headers=sent, timeout=30)

    def where(self, *arguments: Any, **headers: str) -> str:
        """Where the answer came from."""
        reply = self(*arguments, **headers)
        assert reply.status_code == 200, reply.text
        return f"{reply.headers['x-askonce-cache']} {reply.headers['x-askonce-tier']}"

    def delete(self, path: str) -> Any:
        """Delete something."""
        return httpx.delete(self.gateway.url + "/v1/cache" + path, timeout=30)

    @property
    def calls(self) -> int:
        """How often the model was asked."""
        return len(self.gateway.backend.ends)


@pytest.fixture
def ask(gateway: Callable[..., Gateway]) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway())


def test_no_cache_asks_the_model_and_the_new_answer_is_kept(ask: Asked) -> None:
    """The old one is given no more."""
    first = ask()
    assert ask.where("no-cache") == "bypass backend"
    assert ask.calls == 2
    again = ask()
    assert again.headers["x-askonce-cache"] == "hit"
    assert again.headers["x-askonce-origin-id"] != first.json()["id"]


def test_no_store_keeps_nothing_and_may_be_given_what_is_kept(ask: Asked) -> None:
    """And leaves what is kept alone."""
    assert ask.where("no-store") == "miss backend"
    assert ask.where() == "miss backend"
    assert ask.where("no-store") == "hit memory"
    assert ask.where("no-store, no-cache") == "bypass backend"
    assert ask.calls == 3


def test_only_if_cached_never_asks_the_model(ask: Asked) -> None:
    """504 when nothing is kept, as RFC 9111 has it, for embeddings and Ollama's API too."""
    texts = {"model": MODEL, "input": ["a", "b"]}
    for path, body in (("/v1/chat/completions", HI), ("/v1/embeddings", texts), ("/api/chat", HI)):
        refused = ask("only-if-cached", body, path)
        assert refused.status_code == 504
        assert "only-if-cached" in refused.text
    assert ask("only-if-cached").json()["error"]["code"] == "not_cached"
    assert ask.calls == 0
    ask()
    assert ask.where("only-if-cached") == "hit memory"


def test_max_age_refuses_what_is_older_and_its_answer_is_the_new_one(ask: Asked) -> None:
    """Age is the answer's own, not that of its copy in a tier."""
    ask()
    assert ask.where("max-age=3600") == "hit memory"
    assert ask.where("max-age=0") == "miss backend"
    assert ask.calls == 2
    origin = ask().headers["x-askonce-origin-id"]
    ask.gateway.flushed()
    ask.gateway.parts.tiers._memory.clear()
    assert ask().headers["x-askonce-origin-id"] == origin


@pytest.mark.parametrize("wish", ["", "no-cache"])
def test_what_is_deleted_while_it_is_asked_for_does_not_come_back(ask: Asked, wish: str) -> None:
    """Not even when it was to take the place of another: who asks next hears what the model says then."""
    ask()
    backend = ask.gateway.backend
    backend.hold_after = 1
    with ThreadPoolExecutor(1) as pool:
        body = HI | {"seed": 1} if not wish else HI
        asking = pool.submit(ask, wish, body)
        deadline = time.monotonic() + 30
        while not backend.held:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ask.delete("?all=true").status_code == 200
        backend.hold_after = None
        assert asking.result().status_code == 200
    assert ask.where("", body) == "miss backend"


def test_a_directive_that_cannot_be_meant_is_a_clear_error(ask: Asked) -> None:
    """400 with the header's name."""
    for path in ("/v1/chat/completions", "/v1/embeddings", "/api/chat"):
        body = {"model": MODEL, "input": "a"} if path == "/v1/embeddings" else HI
        assert ask("max-age=soon", body, path).status_code == 400
    assert ask("max-age=soon").json()["error"]["param"] == "cache-control"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
def test_embeddings_are_steered_too(ask: Asked, path: str) -> None:
    """Input by input; what the headers say is true of the reply as a whole."""
    texts = {"model": MODEL, "input": ["a", "b"]}

    def said(cache_control: str = "", body: Any = texts) -> tuple[str, ...]:
        headers = ask(cache_control, body, path).headers
        assert headers["x-askonce-tier"] == ("memory" if headers["x-askonce-cache"] == "hit" else "backend")
        names = ("x-askonce-cache", "x-askonce-provenance", "x-askonce-hits")
        how_old = "no age" if "age" not in headers else "new" if headers["age"] == "0" else "old"
        return (*(headers[name] for name in names), how_old)

    assert said() == ("miss", "generated", "0/2", "new")
    assert said()[:3] == ("hit", "exact", "2/2")
    assert said("no-cache") == ("bypass", "regenerated", "0/2", "new")
    assert said("max-age=0") == ("miss", "regenerated", "0/2", "new")
    assert said("", {"model": MODEL, "input": ["a", "c"]}) == ("miss", "generated", "1/2", "no age")
    assert said("max-age=0", {"model": MODEL, "input": ["d"]}) == ("miss", "generated", "0/1", "new")
    assert said("max-age=0", {"model": MODEL, "input": ["d", "e"]}) == ("miss", "regenerated", "0/2", "new")


def test_policies_say_what_is_kept(gateway: Callable[..., Gateway]) -> None:
    """Sampled answers, large ones, and for how long."""
    strict = Asked(gateway(policies=(PolicyConfig(keep_sampled=False, max_answer_bytes=400),)))
    sampled = {**HI, "temperature": 1}
    assert [strict.where("", sampled) for _ in range(2)] == ["bypass backend"] * 2
    assert [strict.where("", {**sampled, "seed": 1}) for _ in range(2)] == ["miss backend", "hit memory"]
    large = {**HI, "messages": [{"role": "user", "content": "x" * 1000}]}
    assert [strict.where("", large) for _ in range(2)] == ["miss backend"] * 2
    assert strict("only-if-cached", sampled).status_code == 504
    brief = Asked(gateway(policies=(PolicyConfig(model="other", ttl_s=60), PolicyConfig(ttl_s=1e-6))))
    assert [brief.where() for _ in range(2)] == ["miss backend"] * 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/api/embed", "/api/chat"])
def test_a_policy_holds_for_every_name_of_its_model(gateway: Callable[..., Gateway], path: str) -> None:
    """Ollama's `:latest` is no way around it, for no kind of question."""
    brief = Asked(gateway(policies=(PolicyConfig(model=MODEL, ttl_s=1e-6),)))
    for name in (MODEL, f"{MODEL}:latest"):
        body = {**HI, "model": name} if "chat" in path else {"model": name, "input": "a"}
        assert [brief("", body, path).headers["x-askonce-cache"] for _ in range(2)] == ["miss"] * 2


@pytest.mark.parametrize("by", ["key", "model", "tag", "prompt_hash", "all"])
def test_deleting_by(ask: Asked, by: str) -> None:
    """One answer or many; what is kept afterwards is kept again."""
    key = ask(x_askonce_tags="draft, web").headers["x-askonce-key"]
    ask.gateway.flushed()
    explained = ask(path="/v1/cache/explain").json()
    place = {
        "key": f"/{key}", "model": f"?model={MODEL}", "tag": "?tag=web",
        "prompt_hash": f"?prompt_hash={explained['parts']['prompt_hash']}", "all": "?all=true",
    }[by]  # fmt: skip
    done = ask.delete(place)
    assert (done.status_code, done.json()["rows"]) == (200, 1)
    assert ask.where() == "miss backend"
    assert ask.where() == "hit memory"
    ask.gateway.flushed()
    ask.gateway.parts.tiers._memory.clear()
    assert ask.where() == "hit redis"


@pytest.mark.parametrize(
    "path", ["", "?all=false", "?all=true&tag=a", "?nothing=1", "?tag=", "/abc", "?prompt_hash=xyz", "?tag=a&tag2=b"]
)
def test_what_to_delete_must_be_said(ask: Asked, path: str) -> None:
    """Nothing is deleted by mistake."""
    ask()
    refused = ask.delete(path)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_value"
    assert ask.where().startswith("hit ")


def test_a_header_that_comes_twice_is_one_list(ask: Asked) -> None:
    """No line of it is overlooked."""
    twice = [("cache-control", "max-age=100"), ("cache-control", "no-store")]
    reply = httpx.post(ask.gateway.url + CHAT, json=HI, headers=twice, timeout=30)
    assert reply.headers["x-askonce-cache"] == "miss"
    assert ask.where() == "miss backend"


def test_a_deletion_that_is_not_answered_may_have_been_done(ask: Asked, servers: Servers) -> None:
    """A database that hangs does it when it goes on: nobody is told that nothing was deleted, or waits for long."""
    assert ask.where(x_askonce_tags="draft") == "miss backend"
    ask.gateway.flushed()
    with frozen(servers.postgres_process):
        started = time.monotonic()
        refused = ask.delete("?tag=draft")
        assert time.monotonic() - started < DELETE_S
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "storage_unavailable"
    assert "not known" in refused.json()["error"]["message"]
    assert "nothing was deleted" not in refused.json()["error"]["message"]
    assert ask.delete("?tag=draft").status_code == 200
    assert ask.where() == "miss backend"


def test_no_cache_changes_nothing_while_others_cannot_be_told(ask: Asked, servers: Servers) -> None:
    """The client has the new answer; what is kept stays the same on every gateway."""
    first = ask().json()["id"]
    with frozen(servers.postgres_process):
        assert ask.where("no-cache") == "bypass backend"
    assert ask().headers["x-askonce-origin-id"] == first
