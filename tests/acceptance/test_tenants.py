"""Two tenants and a gateway: what one was answered the other never sees, and a key is good for what it says."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import BackendConfig
from storage import keys
from storage.keys import Key, Wanted
from tests.acceptance.in_thread import MODEL, Gateway
from tests.conftest import Servers
from tests.suites.frozen import frozen

HI = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
CHAT = "/v1/chat/completions"


class Served:
    """A gateway and keys for it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.store: Any = gateway.parts.access._kept._kept

    def key(self, tenant: str = "acme", scopes: tuple[str, ...] = ("ask", "cache"), **wanted: Any) -> str:
        """A new key's text."""
        text = self.gateway.run(self.store.create(Wanted(tenant=tenant, scopes=scopes, **wanted)))
        self.gateway.run(_until(lambda: self.gateway.parts.access._was_required[1]))
        return text

    def heard(self, text: str, change: Callable[[Key], object]) -> None:
        """Wait until the gateway knows of `change` to this key, without asking it anything."""
        known = self.gateway.parts.access._known
        self.gateway.run(_until(lambda: (found := known.get(keys.identify(text))) is not None and change(found)))

    def ask(self, key: str | None, body: Any = HI, path: str = CHAT, **headers: str) -> httpx.Response:
        """One request."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        method = "POST" if body is not None else "GET"
        return httpx.request(method, self.gateway.url + path, json=body, headers=sent, timeout=30)


async def _until(happened: Callable[[], object]) -> None:
    import asyncio

    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110 -- a notification of the database's
            await asyncio.sleep(0.01)


@pytest.fixture
def served(gateway: Callable[..., Gateway]) -> Served:
    """A gateway of this test's own."""
    return Served(gateway())


def code(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return response.status_code, response.json()["error"]["code"]


def test_one_tenants_answers_are_never_anothers(served: Served) -> None:
    """Not by any header or field of theirs; and each has its own."""
    acme, rival = served.key("acme"), served.key("rival")
    first = served.ask(acme)
    assert (first.status_code, first.headers["x-askonce-cache"]) == (200, "miss")
    assert served.ask(acme).headers["x-askonce-cache"] == "hit"
    tricks: list[dict[str, str]] = [
        {},
        {"x_askonce_tenant": "acme"},
        {"x_askonce_scope": "acme"},
        {"x_askonce_key": first.headers["x-askonce-key"]},
        {"openai_organization": "acme"},
    ]
    for trick in tricks:
        second = served.ask(rival, **trick)
        assert second.headers["x-askonce-key"] != first.headers["x-askonce-key"]
    for field in ("cache_salt", "scope", "tenant", "user", "namespace"):
        reply = served.ask(rival, {**HI, field: "acme"})
        assert reply.headers["x-askonce-key"] != first.headers["x-askonce-key"]


def test_one_tenants_requests_are_not_named_to_another(served: Served) -> None:
    """However alike the questions are: why a request missed is told from the asker's own."""
    acme, rival = served.key("acme"), served.key("rival")
    kept = served.ask(acme, {**HI, "seed": 1})
    served.gateway.flushed()
    explained = {key: served.ask(key, HI, "/v1/cache/explain").json() for key in (acme, rival)}
    assert explained[acme]["nearest"]["key"] == kept.headers["x-askonce-key"]
    assert explained[rival]["nearest"] is None


def test_requests_to_models_a_key_may_not_ask_are_not_named(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    """Not as the nearest, nor in how many were looked at: for this key these models do not exist."""
    script = tmp_path / "other.toml"
    script.write_text("[[line]]\n")
    served = Served(gateway(backends=(BackendConfig(kind="scripted", model="other", script=script),)))
    everything, one = served.key(), served.key(models=(MODEL,))
    kept = served.ask(everything, {**HI, "model": "other"})
    served.gateway.flushed()
    assert served.ask(everything, HI, "/v1/cache/explain").json()["nearest"]["key"] == kept.headers["x-askonce-key"]
    said = served.ask(one, HI, "/v1/cache/explain").json()
    assert (said["nearest"], said["looked_at"]) == (None, 0)


def test_a_request_without_a_good_key_is_refused(served: Served) -> None:
    """401 in OpenAI's envelope, with the way to mend it; health stays open to all."""
    key = served.key()
    for path, body in ((CHAT, HI), ("/v1/models", None), ("/api/tags", None), ("/metrics", None), ("/schema", None)):
        refused = served.ask(None, body, path)
        assert refused.status_code == 401, path
        assert refused.headers["www-authenticate"] == "Bearer"
    assert code(served.ask(None)) == (401, "missing_api_key")
    assert code(served.ask(key[:-1] + ("a" if key[-1] != "a" else "b"))) == (401, "invalid_api_key")
    assert served.ask(None, None, "/healthz").status_code == 200
    assert served.ask(None, None, "/readyz").status_code == 200
    assert served.ask(None, HI, CHAT, x_api_key=key).status_code == 200


def test_models_are_named_to_who_may_ask_them(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    """By /readyz too, which tells everybody whether askonce is ready, and how many models are."""
    script = tmp_path / "other.toml"
    script.write_text("[[line]]\n")
    served = Served(gateway(backends=(BackendConfig(kind="scripted", model="other", script=script),)))
    everything = {"other": "ok", MODEL: "ok"}
    assert served.ask(None, None, "/readyz").json()["models"] == everything
    one, all_, looks = served.key(models=(MODEL,)), served.key(), served.key(scopes=("cache",))
    named = {key: served.ask(key, None, "/readyz").json().get("models") for key in (one, all_, looks, "wrong", None)}
    assert named == {one: {MODEL: "ok"}, all_: everything, looks: None, "wrong": None, None: None}
    stranger = served.ask(None, None, "/readyz")
    assert (stranger.status_code, stranger.json()["status"]) == (200, "ok")
    assert stranger.json()["why"] == "2 of 2 models can be asked."
    assert stranger.json()["tiers"] == {"redis": "ok", "postgres": "ok"}
    assert "other" not in stranger.text


def test_a_revoked_key_opens_nothing_at_once(served: Served) -> None:
    """Also for an answer that is in memory already."""
    key, other = served.key("acme"), served.key("acme")
    assert served.ask(key).status_code == 200
    served.gateway.run(served.store.revoke(keys.identify(key)))
    served.heard(key, lambda found: found.revoked_at)
    assert code(served.ask(key)) == (401, "invalid_api_key")
    assert served.ask(other).headers["x-askonce-cache"] == "hit"


def test_a_key_stays_revoked_while_the_database_is_down(served: Served, servers: Servers) -> None:
    """So does a tenant that left a namespace stay out; nobody has to have asked in between. Other keys go on."""
    key, rival, other = served.key("acme"), served.key("rival"), served.key("acme")
    served.gateway.run(served.store.create_namespace("docs"))
    served.gateway.run(served.store.join("docs", "rival"))
    for text in (key, other):
        assert served.ask(text).status_code == 200
    assert served.ask(rival, x_askonce_namespace="docs").status_code == 200
    served.gateway.run(served.store.revoke(keys.identify(key)))
    served.gateway.run(served.store.leave("docs", "rival"))
    served.heard(key, lambda found: found.revoked_at)
    served.heard(rival, lambda found: not found.namespaces)
    with frozen(servers.postgres_process):
        served.gateway.parts.access._known.clear()  # as half a minute does
        assert code(served.ask(key)) == (401, "invalid_api_key")
        assert code(served.ask(rival, x_askonce_namespace="docs")) == (403, "namespace_not_allowed")
        assert served.ask(other).status_code == 200


def test_a_key_asks_its_own_models_only(served: Served) -> None:
    """Others do not exist for it: not in lists, not by name, not in the sentence that refuses."""
    none, all_ = served.key(models=("another",)), served.key()
    refused = served.ask(none)
    assert code(refused) == (404, "model_not_found")
    assert "these do: none" in refused.json()["error"]["message"]
    assert served.ask(none, None, "/v1/models").json()["data"] == []
    assert served.ask(none, None, f"/v1/models/{MODEL}").status_code == 404
    assert served.ask(none, None, "/api/tags").json()["models"] == []
    assert served.ask(none, {"model": MODEL}, "/api/show").status_code == 404
    assert served.ask(none, {"model": MODEL, "input": "a"}, "/v1/embeddings").status_code == 404
    assert served.ask(none, HI, "/api/chat").status_code == 404
    assert [model["id"] for model in served.ask(all_, None, "/v1/models").json()["data"]] == [MODEL]


def test_a_key_without_the_scope_is_refused(served: Served) -> None:
    """403, and which scope is missing."""
    looks, asks = served.key(scopes=("cache",)), served.key(scopes=("ask",))
    assert code(served.ask(looks)) == (403, "insufficient_scope")
    assert code(served.ask(asks, HI, "/v1/cache/explain")) == (403, "insufficient_scope")
    assert served.ask(looks, HI, "/v1/cache/explain").status_code == 200


def test_metrics_are_a_tenants_own_or_the_operators(served: Served) -> None:
    """Nobody counts another's requests."""
    acme, rival, operator = served.key("acme"), served.key("rival"), served.key("ops", ("admin", "ask"))
    served.ask(acme)
    served.ask(rival)
    own = served.ask(acme, None, "/metrics").text
    assert 'tenant="acme"' in own
    assert "rival" not in own
    everything = served.ask(operator, None, "/metrics").text
    assert 'tenant="acme"' in everything
    assert 'tenant="rival"' in everything


def test_tenants_share_answers_where_an_operator_lets_them(served: Served) -> None:
    """Only there, only when they ask so, and not after they left."""
    acme, rival, third = served.key("acme"), served.key("rival"), served.key("third")
    for name in ("acme", "rival"):
        if name == "acme":
            served.gateway.run(served.store.create_namespace("docs"))
        served.gateway.run(served.store.join("docs", name))
    served.gateway.run(served.gateway.parts.access.changed())
    assert served.ask(acme, x_askonce_namespace="docs").headers["x-askonce-cache"] == "miss"
    assert served.ask(rival, x_askonce_namespace="docs").headers["x-askonce-cache"] == "hit"
    assert served.ask(rival).headers["x-askonce-cache"] == "miss"
    assert code(served.ask(third, x_askonce_namespace="docs")) == (403, "namespace_not_allowed")
    assert code(served.ask(third, x_askonce_namespace="nope")) == (403, "namespace_not_allowed")
    served.gateway.run(served.store.leave("docs", "rival"))
    served.heard(rival, lambda found: not found.namespaces)
    assert code(served.ask(rival, x_askonce_namespace="docs")) == (403, "namespace_not_allowed")


def test_a_key_for_some_models_deletes_no_others(served: Served) -> None:
    """Not by their answers' keys, not by name, and not with everything else."""
    all_, other, own = served.key(), served.key(models=("another",)), served.key(models=(MODEL,))
    key = served.ask(all_).headers["x-askonce-key"]

    def deleted(who: str, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {who}"}
        return httpx.delete(f"{served.gateway.url}/v1/cache{path}", headers=headers, timeout=30)

    assert deleted(other, f"/{key}").status_code == 404
    for query in ("?all=true", f"?model={MODEL}", "?tag=a"):
        assert code(deleted(other, query)) == (403, "model_not_allowed")
    assert served.ask(all_).headers["x-askonce-cache"] == "hit"
    assert code(deleted(own, "?all=true")) == (403, "model_not_allowed")
    assert deleted(own, f"?model={MODEL}").status_code == 200
    assert served.ask(all_).headers["x-askonce-cache"] == "miss"
    assert deleted(own, f"/{key}").status_code == 200


def test_deleting_tells_nothing_of_another_tenants_answers(served: Served) -> None:
    """A key that somebody else has an answer under is like one that nobody has, for every key; and the answer stays."""
    key = served.ask(served.key()).headers["x-askonce-key"]
    acme = served.key()
    for rival in (served.key("rival"), served.key("rival", models=(MODEL,)), served.key("rival", models=("another",))):
        replies = [
            httpx.delete(
                f"{served.gateway.url}/v1/cache/{wanted}", headers={"authorization": f"Bearer {rival}"}, timeout=30
            )
            for wanted in (key, "ab" * 32)
        ]
        assert [reply.status_code for reply in replies] == [200, 200]
        shown = [{k: v for k, v in reply.json().items() if k not in ("key", "epoch")} for reply in replies]
        assert shown[0] == shown[1] == {"object": "cache.deleted", "rows": 0}
    assert served.ask(acme).headers["x-askonce-cache"] == "hit"


def test_a_key_for_some_models_deletes_what_is_still_being_said(served: Served) -> None:
    """Nothing is kept of it yet; it does not come back when it is."""
    own = served.key(models=(MODEL,))
    served.gateway.backend.hold_after = 1
    with ThreadPoolExecutor(1) as pool:
        try:
            asking = pool.submit(served.ask, own)
            served.gateway.run(_until(lambda: served.gateway.backend.held))
            explained = served.ask(own, HI, "/v1/cache/explain").json()
            headers = {"authorization": f"Bearer {own}"}
            done = httpx.delete(f"{served.gateway.url}/v1/cache/{explained['key']}", headers=headers, timeout=30)
        finally:
            served.gateway.backend.hold_after = None
        assert asking.result().headers["x-askonce-cache"] == "miss"
    assert (done.status_code, done.json()["rows"]) == (200, 0)
    assert served.ask(own).headers["x-askonce-cache"] == "miss"
