"""The record of an answer and the proof of it, as a client sees them."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from gateway.config import PolicyConfig
from gateway.sweeping import Sweeper
from storage.entry import Chunk, Entry
from storage.keys import Wanted
from storage.vector import packed, unpacked
from storage.verifications import Verification
from tests.acceptance.in_thread import MODEL, Gateway

CHAT = "/v1/chat/completions"
HI = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "seed": 2**60 + 1, "x": [1.5]}
PARIS = '[[line]]\nreply = "The capital of France is Paris, on the Seine."\n'
LYON = '[[line]]\nreply = "The capital of France is Lyon, on the Rhone."\n'


class Asked:
    """A gateway, and somebody who asks it."""

    def __init__(self, gateway: Gateway, key: str = "", **headers: str) -> None:
        self.gateway = gateway
        self.headers = ({"authorization": f"Bearer {key}"} if key else {}) | headers

    def ask(self, body: Any = HI, path: str = CHAT, **headers: str) -> str:
        """Ask, and return the key of the answer."""
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        reply = httpx.post(self.gateway.url + path, json=body, headers=sent, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.headers["x-askonce-key"]

    def get(self, key: str) -> httpx.Response:
        """The record."""
        return httpx.get(f"{self.gateway.url}/v1/cache/{key}", headers=self.headers, timeout=30)

    def list(self, query: str) -> httpx.Response:
        """Some keys."""
        return httpx.get(f"{self.gateway.url}/v1/cache?{query}", headers=self.headers, timeout=30)

    def verify(self, key: str) -> httpx.Response:
        """The proof."""
        return httpx.post(f"{self.gateway.url}/v1/cache/{key}/verify", headers=self.headers, timeout=30)

    def proved(self, key: str) -> Any:
        """The proof's JSON."""
        reply = self.verify(key)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def entry(self, key: str) -> Entry:
        """What is kept."""
        looked = self.gateway.run(self.gateway.parts.tiers.find(bytes.fromhex(key)))
        return looked.found.entry

    def changed(self, key: str, **fields: Any) -> None:
        """Put another answer in its place, as somebody would who changes the record."""
        entry = self.entry(key)
        newer = {"created_at": entry.created_at + 1e-3, "replaces": True}
        self.gateway.parts.tiers.put(msgspec.structs.replace(entry, **(newer | fields)))


@pytest.fixture
def asked(gateway: Callable[..., Gateway]) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway(PARIS))


def refusal(reply: httpx.Response) -> tuple[int, str]:
    """Status and code, of OpenAI's envelope."""
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return reply.status_code, error["code"]


def test_the_record_is_whole(asked: Asked) -> None:
    """What was asked, as JSON; what was said, step by step; by whom and when; and where it is kept."""
    key = asked.ask(x_askonce_tags="draft")
    shown = asked.get(key).json()
    assert {name: shown[name] for name in ("key", "scope", "kind", "model", "backend", "engine", "tier")} == {
        "key": key, "scope": "default", "kind": "chat", "model": MODEL, "backend": "scripted", "engine": "scripted",
        "tier": "memory",
    }  # fmt: skip
    assert shown["prompt"] == {"messages": HI["messages"]}
    assert shown["params"]["extra"] == {"x": [1.5]}
    assert shown["params"]["known"]["temperature"] == 0
    assert shown["seed"] == 2**60 + 1
    assert (shown["made_by"], shown["tags"], shown["verifications"]) == ("", ["draft"], [])
    [choice] = shown["choices"]
    assert choice["message"]["content"] == "The capital of France is Paris, on the Seine."
    assert (choice["finish_reason"], choice["token_ids"]) == ("stop", list(range(9)))
    assert "".join(step.get("content", "") for step in shown["steps"]) == choice["message"]["content"]
    assert [step["after_ms"] for step in shown["steps"]] == sorted(step["after_ms"] for step in shown["steps"])
    assert shown["usage"]["completion_tokens"] == 9
    assert shown["created_at"].endswith("Z")
    assert 0 <= shown["age_s"] < 60


@pytest.mark.parametrize("tier", ["redis", "postgres"])
def test_the_record_is_the_same_from_every_tier(asked: Asked, tier: str) -> None:
    """And looking moves nothing: it is found there again."""
    key = asked.ask()
    first = asked.get(key).json()
    asked.gateway.flushed()
    if tier == "postgres":
        asked.gateway.run(asked.gateway.parts.tiers._lower[0]._tier._client.flushall())
    for _ in range(2):
        asked.gateway.parts.tiers._memory.clear()
        shown = asked.get(key).json()
        assert shown.pop("tier") == tier
        assert shown.pop("age_s") >= first["age_s"]
        assert shown == {name: value for name, value in first.items() if name not in ("tier", "age_s")}


def test_tokens_are_whole_or_null(asked: Asked) -> None:
    """Never a part of them, for each choice by itself."""
    key = asked.ask({**HI, "n": 2})
    steps = asked.entry(key).chunks
    one = next(place for place, step in enumerate(steps) if step.index == 1)
    asked.changed(key, chunks=(*steps[:one], msgspec.structs.replace(steps[one], token_ids=None), *steps[one + 1 :]))
    assert [choice["token_ids"] for choice in asked.get(key).json()["choices"]] == [list(range(9)), None]


def test_an_embedding_has_a_record_and_a_proof(asked: Asked) -> None:
    """The vector as numbers; the first dimension that differs, and how far apart the two are."""
    key = asked.ask({"model": MODEL, "input": "Hi"}, "/v1/embeddings")
    shown = asked.get(key).json()
    assert shown["dimensions"] == len(shown["embedding"]) == 8
    assert (shown["prompt"], shown["kind"]) == ({"input": "Hi"}, "embedding")
    done = asked.proved(key)
    assert (done["outcome"], done["compared"], done["divergence"]) == ("identical", "vector", None)
    assert done["reproducible"] is True
    values = unpacked(asked.entry(key).embedding)
    values[5] += 0.25
    asked.changed(key, embedding=packed(values))
    done = asked.proved(key)
    assert done["outcome"] == "diverged"
    assert done["divergence"]["dimension"] == 5
    assert done["divergence"]["max_difference"] == pytest.approx(0.25)
    assert 0.9 < done["divergence"]["cosine"] < 1
    asked.changed(key, embedding=packed(values[:3]))
    assert asked.proved(key)["divergence"]["dimensions"] == [3, 8]


def test_an_answer_that_is_said_again_is_proved(asked: Asked) -> None:
    """The model is asked, past the cache; nothing else is kept; and the record has the outcome, newest first."""
    key = asked.ask()
    before = asked.get(key).json()
    first, second = asked.proved(key), asked.proved(key)
    assert first["outcome"] == second["outcome"] == "identical"
    assert (first["compared"], first["divergence"], first["kept"], first["reproducible"]) == (
        "tokens",
        None,
        True,
        True,
    )
    assert first["identity"]["same"] is True
    assert first["key_matches"] is True
    assert first["notes"] == []
    assert asked.gateway.backend.calls == 3
    shown = asked.get(key).json()
    assert [one["outcome"] for one in shown["verifications"]] == ["identical"] * 2
    assert [one["at"] for one in shown["verifications"]] == [second["at"], first["at"]]
    assert shown["choices"] == before["choices"]
    assert asked.entry(key).origin_id == before["origin_id"]


def test_a_model_that_says_something_else_now_is_shown_to(gateway: Callable[..., Gateway]) -> None:
    """Where, with how each goes on; and that another model answers."""
    key = Asked(gateway(PARIS)).ask()
    later = Asked(gateway(f'version = "2"\n{LYON}'))
    _until(lambda: later.get(key).status_code == 200)
    done = later.proved(key)
    where = done["divergence"]
    assert (done["outcome"], where["where"], where["choice"]) == ("diverged", "content", 0)
    assert (where["character"], where["before"]) == (25, "The capital of France is ")
    assert where["then"]["text"] == "Paris, on the Seine."
    assert where["now"]["text"] == "Lyon, on the Rhone."
    assert done["repeats"] is True
    assert done["identity"]["same"] is False
    assert (done["identity"]["then"]["model_version"], done["identity"]["now"]["model_version"]) == ("1", "2")
    assert done["notes"] == ["Another version of the model answers now."]
    [kept] = later.get(key).json()["verifications"]
    assert kept["divergence"] == where
    assert kept["identity"]["model_version"] == "2"


def test_a_changed_record_is_found_out(asked: Asked) -> None:
    """In the text, in the tokens alone, in the reason for the end, in the question."""
    key = asked.ask()
    entry = asked.entry(key)
    asked.changed(key, chunks=_with(entry.chunks, 5, content=" Pakis,"))
    where = asked.proved(key)["divergence"]
    assert (where["where"], where["character"], where["then"]["text"][:5]) == ("content", 27, "kis, ")
    asked.changed(key, chunks=_with(entry.chunks, 3, token_ids=(77,)))
    where = asked.proved(key)["divergence"]
    assert (where["where"], where["token"], where["character"]) == ("tokens", 3, None)
    assert (where["then"]["token_id"], where["now"]["token_id"]) == (77, 3)
    asked.changed(key, chunks=_with(entry.chunks, 9, finish_reason="length"))
    where = asked.proved(key)["divergence"]
    assert (where["where"], where["then"]["finish_reason"], where["now"]["finish_reason"]) == (
        "finish_reason", "length", "stop",
    )  # fmt: skip
    params = entry.query.params.replace('"temperature":0', '"temperature":0.5')
    asked.changed(key, chunks=entry.chunks, query=msgspec.structs.replace(entry.query, params=params))
    done = asked.proved(key)
    assert (done["outcome"], done["key_matches"]) == ("identical", False)
    assert "somebody changed the record" in done["notes"][0]
    asked.changed(key, query=msgspec.structs.replace(entry.query, params="{"))
    assert refusal(asked.verify(key)) == (409, "damaged_record")
    assert asked.get(key).json()["params"] == "{"


def test_what_was_drawn_by_lot_is_verified_all_the_same(asked: Asked) -> None:
    """And the reply says that it could not be repeated."""
    key = asked.ask({name: value for name, value in HI.items() if name not in ("seed", "temperature")})
    done = asked.proved(key)
    assert (done["outcome"], done["reproducible"], done["repeats"]) == ("identical", False, None)
    assert "without a seed" in done["notes"][0]


def test_a_key_that_is_nobodys_or_anothers_is_404(gateway: Callable[..., Gateway]) -> None:
    """In the same words: unknown, deleted, of another tenant, of a model the key may not ask, or too old."""
    made = gateway(PARIS)
    acme, rival, barred = (
        Asked(made, _key(made, "acme")),
        Asked(made, _key(made, "rival")),
        Asked(made, _key(made, "acme", models=("another",))),
    )
    key, gone = acme.ask(), acme.ask({**HI, "seed": 1})
    httpx.delete(f"{made.url}/v1/cache/{gone}", headers=acme.headers, timeout=30)
    assert acme.get(key).status_code == 200
    replies = {
        call(who, place).text
        for call in (Asked.get, Asked.verify)
        for who, place in ((rival, key), (barred, key), (acme, gone), (acme, "0" * 64))
    }
    assert len(replies) == 1
    assert refusal(rival.get(key)) == (404, "not_found")
    assert made.backend.calls == 2
    strict = Asked(gateway(PARIS, policies=(PolicyConfig(ttl_s=1e-6),)), _key(made, "acme"))
    assert refusal(strict.get(key)) == refusal(strict.verify(key)) == (404, "not_found")
    for bad in ("x", "0" * 63, "g" * 64):
        assert refusal(acme.get(bad)) == refusal(acme.verify(bad)) == (400, "invalid_value")
    plain = Asked(made, _key(made, "acme", scopes=("ask",)))
    assert refusal(plain.get(key)) == refusal(plain.verify(key)) == refusal(plain.list("last=1"))
    assert refusal(plain.get(key)) == (403, "insufficient_scope")


def test_who_may_not_ask_has_nothing_verified(gateway: Callable[..., Gateway]) -> None:
    """Verifying has the model work; reading does not."""
    made = gateway(PARIS)
    key = Asked(made, _key(made, "acme")).ask()
    reader = Asked(made, _key(made, "acme", scopes=("cache",)))
    assert reader.get(key).status_code == 200
    assert refusal(reader.verify(key)) == (403, "insufficient_scope")
    assert made.backend.calls == 1


def test_who_asked_first_is_recorded(gateway: Callable[..., Gateway]) -> None:
    """By the key's id; in a namespace that tenants share, only for that key itself and for operators."""
    made = gateway(PARIS)
    text, other = _key(made, "acme"), _key(made, "acme")
    acme, colleague = Asked(made, text), Asked(made, other)
    mine = text.split("-")[1]
    key = acme.ask()
    assert colleague.ask() == key
    assert colleague.get(key).json()["made_by"] == mine
    assert colleague.proved(key)["made_by"] == other.split("-")[1]
    store: Any = made.parts.access._kept._kept
    made.run(store.create_namespace("shelf"))
    for tenant in ("acme", "rival"):
        made.run(store.create(Wanted(tenant=tenant, scopes=("ask",))))
        made.run(store.join("shelf", tenant))
    space = {"x-askonce-namespace": "shelf"}
    asker, rival = Asked(made, text, **space), Asked(made, _key(made, "rival"), **space)
    _until(lambda: asker.get("0" * 64).status_code == 404)
    key = asker.ask()
    asker.proved(key)
    shown, hidden = asker.get(key).json(), rival.get(key).json()
    assert (shown["made_by"], shown["verifications"][0]["made_by"]) == (mine, mine)
    assert (hidden["made_by"], hidden["verifications"][0]["made_by"]) == (None, None)


def test_deleting_an_answer_deletes_its_proofs(asked: Asked, database_url: str) -> None:
    """They quote it. One that is asked again later starts without any."""
    key = asked.ask()
    steps = asked.entry(key).chunks
    asked.changed(key, chunks=_with(steps, 1, content=" secret\0"))
    assert asked.proved(key)["kept"] is True
    assert "secret\u2400" in asked.get(key).json()["verifications"][0]["divergence"]["then"]["text"]
    assert _rows(database_url) == 1
    httpx.delete(f"{asked.gateway.url}/v1/cache?model={MODEL}", timeout=30)
    assert _rows(database_url) == 0
    assert asked.ask() == key
    assert asked.get(key).json()["verifications"] == []


def test_a_proof_of_an_answer_that_is_deleted_meanwhile_is_not_kept(asked: Asked) -> None:
    """It would bring back words that are to be gone."""
    key = asked.ask()
    proof, entry = asked.gateway.parts.proof, asked.entry(key)
    httpx.delete(f"{asked.gateway.url}/v1/cache/{key}", timeout=30)
    done = Verification(outcome="identical", compared="text", divergence=None, identity={}, at=0, duration_ms=1)
    assert asked.gateway.run(proof._kept.put(entry, done)) is False


def test_a_proof_waits_for_a_deletion_that_is_under_way(asked: Asked, database_url: str) -> None:
    """Neither sees the other's rows before they are committed; without turns the words would stay."""
    key = asked.ask()
    asked.gateway.flushed()
    proof, entry = asked.gateway.parts.proof, asked.entry(key)
    done = Verification(outcome="identical", compared="text", divergence=None, identity={}, at=0, duration_ms=1)

    async def race() -> bool:
        deleting, watching = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
        try:
            async with deleting.transaction():
                await deleting.execute("select askonce.invalidate('default', 'key', $1)", key)
                putting = asyncio.ensure_future(proof._kept.put(entry, done))
                waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
                while not (putting.done() or await watching.fetchval(waiting)):
                    pass  # each look gives the other its turn
            return await putting
        finally:
            await deleting.close()
            await watching.close()

    assert asked.gateway.run(race()) is False
    assert _rows(database_url) == 0


def test_proofs_of_answers_that_are_gone_are_swept(asked: Asked, database_url: str) -> None:
    """A day later; those of answers that are there stay, however old."""
    gone, kept = asked.ask(), asked.ask({**HI, "seed": 1})
    for key in (gone, gone, kept):
        asked.proved(key)
    asked.gateway.flushed()
    parts = asked.gateway.parts
    database: Any = parts.listing._database

    async def swept(*statements: str) -> None:
        for statement in statements:
            await database.execute(statement)
        sweeper = Sweeper(database, parts.invalidations, (), marks_needed_s=1e6, responses_ttl_s=1e6)
        await sweeper.sweep()
        await sweeper.aclose()

    asked.gateway.run(swept(f"delete from askonce.completions where key = '\\x{gone}'"))
    assert _rows(database_url) == 3
    asked.gateway.run(swept("update askonce.verifications set at = at - interval '2 days'"))
    assert _rows(database_url) == 1
    assert len(asked.get(kept).json()["verifications"]) == 1


def test_a_new_answer_does_not_inherit_proofs(asked: Asked) -> None:
    """The key is the same; what was proved is not."""
    key = asked.ask()
    asked.proved(key)
    asked.ask(cache_control="no-cache")
    assert asked.get(key).json()["verifications"] == []


def test_a_backend_that_fails_is_the_usual_error(gateway: Callable[..., Gateway]) -> None:
    """502 and 503 in OpenAI's envelope, and a model nobody serves any more is named; nothing is kept of either."""
    key = Asked(gateway(PARIS)).ask()
    broken = Asked(gateway("[[line]]\nbreak_after = 1\nreply = 'a b c'\n"))
    _until(lambda: broken.get(key).status_code == 200)
    assert refusal(broken.verify(key)) == (502, "backend_error")
    full = Asked(gateway("[[line]]\nrefuse_status = 429\n"))
    _until(lambda: full.get(key).status_code == 200)
    assert refusal(full.verify(key)) == (429, "rate_limit_exceeded")
    assert broken.get(key).json()["verifications"] == []
    entry = broken.entry(key)
    broken.changed(key, query=msgspec.structs.replace(entry.query, model="gone"))
    reply = broken.verify(key)
    assert refusal(reply) == (404, "model_not_found")
    assert "'gone'" in reply.json()["error"]["message"]
    assert broken.get(key).json()["model"] == "gone"


def test_who_leaves_cancels_the_proof(asked: Asked) -> None:
    """The backend is told at once, and nothing is kept."""
    key = asked.ask()
    backend = asked.gateway.backend
    backend.hold_after = 2
    with closing(socket.create_connection(("127.0.0.1", asked.gateway.port))) as client:
        client.sendall(f"POST /v1/cache/{key}/verify HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n".encode())
        _until(lambda: backend.calls == 2)
    assert backend.ended.wait(15)
    assert backend.ends == ["complete", "cancelled"]
    backend.hold_after = None
    assert asked.get(key).json()["verifications"] == []


def test_without_postgres_answers_are_shown_and_proved(gateway: Callable[..., Gateway]) -> None:
    """What cannot be known or kept then is said."""
    asked = Asked(gateway(PARIS, database_url="postgresql://nobody@127.0.0.1:9/none"))
    key = asked.ask()
    shown = asked.get(key)
    assert (shown.status_code, shown.json()["verifications"]) == (200, None)
    done = asked.proved(key)
    assert (done["outcome"], done["kept"]) == ("identical", False)
    assert refusal(asked.list("last=3")) == (503, "storage_unavailable")


def test_keys_are_listed(asked: Asked) -> None:
    """The last ones, newest first, or some by lot; with a model, only of that one; never another's."""
    keys = [asked.ask({**HI, "seed": seed}) for seed in range(3)]
    sampled = asked.ask({"model": MODEL, "messages": HI["messages"]})
    asked.gateway.flushed()
    found = asked.list("last=10").json()["data"]
    assert [one["key"] for one in found] == [sampled, *reversed(keys)]
    assert [one["reproducible"] for one in found] == [False, True, True, True]
    assert [one["key"] for one in asked.list("last=2").json()["data"]] == [sampled, keys[2]]
    for count in (1, 3, 4, 100):
        drawn = [one["key"] for one in asked.list(f"sample={count}&model={MODEL}").json()["data"]]
        assert len(set(drawn)) == len(drawn) == min(count, 4)
        assert set(drawn) <= {*keys, sampled}
    assert asked.list("last=10&model=other").json()["data"] == []
    latest = asked.list(f"last=10&model={MODEL}:latest").json()["data"]
    assert [one["key"] for one in latest] == [one["key"] for one in found]
    rival, barred = _key(asked.gateway, "rival"), _key(asked.gateway, "default", models=("another",))
    for key in (rival, barred):
        assert Asked(asked.gateway, key).list("last=10").json()["data"] == []
        assert Asked(asked.gateway, key).list("sample=10").json()["data"] == []


@pytest.mark.parametrize(
    "query",
    [
        *("", "last=0", "last=x", "last=1&sample=1", "last=10001", "sample=-1", "last=1&scope=acme"),
        *("last=1&last=2", "last=1&model=a&model=b", "last=1&model=%00", "last=1&model=", "last=100000000000000"),
        *("last=%D9%A1", "last=+1", "last=1_0", "last=1%00", "last=1&%00=1", "last=0000000001", "last=1.0"),
    ],
)
def test_what_to_list_is_read_strictly(asked: Asked, query: str) -> None:
    """Nothing is guessed, and nothing is a fault of the server's."""
    assert refusal(asked.list(query)) == (400, "invalid_value")


@pytest.mark.parametrize(
    "query",
    [
        *("model=%00", "tag=%00", "model=a&model=b", "tag=a%00b", "model=", "all=true&all=1"),
        *("tag=" + "x" * 65, "tag=a%20b", "tag=a,b", "tag=%C3%A9", "model=" + "x" * 5000, "model=a%0Ab"),
    ],
)
def test_what_to_delete_is_read_strictly(asked: Asked, query: str) -> None:
    """Nothing is deleted that was not said once and plainly."""
    assert refusal(httpx.delete(f"{asked.gateway.url}/v1/cache?{query}", timeout=30)) == (400, "invalid_value")


def _with(chunks: tuple[Chunk, ...], place: int, **fields: Any) -> tuple[Chunk, ...]:
    return (*chunks[:place], msgspec.structs.replace(chunks[place], **fields), *chunks[place + 1 :])


def _key(gateway: Gateway, tenant: str, scopes: tuple[str, ...] = ("ask", "cache"), **wanted: Any) -> str:
    store: Any = gateway.parts.access._kept._kept
    text = gateway.run(store.create(Wanted(tenant=tenant, scopes=scopes, **wanted)))
    _until(lambda: httpx.get(f"{gateway.url}/v1/models", timeout=30).status_code == 401)
    return text


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _rows(url: str) -> int:
    async def count() -> int:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("select count(*) from api.verifications")
        finally:
            await connection.close()

    return asyncio.run(count())
