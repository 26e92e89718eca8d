"""`/v1/cache/explain`: why a request missed."""

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.config import PolicyConfig
from storage import sql
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


def changed(gateway: Gateway, statement: str) -> None:
    """Somebody changes the record."""
    database: Any = gateway.parts.listing._database
    gateway.run(database.execute(statement))


def copied(gateway: Gateway, key: str, count: int, **fields: str) -> None:
    """Put later rows into the record that are as the one of `key`, but for `fields`, SQL of the number `n`."""
    pairs = ", ".join(f"'{name}', {value}" for name, value in fields.items())
    other = "'key', E'\\\\x' || encode(sha256(convert_to(n::text, 'utf8')), 'hex'), 'created_at', clock_timestamp()"
    made = f"jsonb_populate_record(c, jsonb_build_object({other}, {pairs})) as r"
    rows = f"select {made} from askonce.completions c, generate_series(1, {count}) n where key = E'\\\\x{key}'"
    changed(gateway, f"insert into askonce.completions select (r).* from ({rows}) made")


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


def test_a_row_that_somebody_has_changed_stops_nothing(gateway: Callable[..., Gateway]) -> None:
    """The others are compared."""
    found = gateway()
    damaged, key = asked(found, question(seed=1)), asked(found, question(seed=2))
    changed(found, f"update askonce.completions set params = '{{' where key = '\\x{damaged}'")
    said = explained(found, question())
    assert (said["nearest"]["key"], said["looked_at"]) == (key, 1)


def test_what_is_too_old_is_not_called_kept(gateway: Callable[..., Gateway]) -> None:
    """By the policy of its model, or by what the client wants."""
    found = gateway(policies=(PolicyConfig(ttl_s=3600),))
    old, young = asked(found, question(seed=1)), asked(found, question("Something else altogether."))
    assert explained(found, question(seed=2))["nearest"]["key"] == old
    assert explained(found, question(seed=2), "max-age=0")["nearest"] is None
    changed(found, f"update askonce.completions set created_at = created_at - interval '2 h' where key = '\\x{old}'")
    assert explained(found, question(seed=2))["nearest"]["key"] == young
    listed = httpx.get(f"{found.url}/v1/cache?last=10", timeout=30).json()["data"]
    assert [one["key"] for one in listed] == [young]


@pytest.mark.parametrize("same", ["beginning", "params"])
def test_the_nearest_is_found_behind_many_others(gateway: Callable[..., Gateway], same: str) -> None:
    """By what its words begin with, or by its parameters; that others were not looked at is said."""
    found = gateway()
    near = question("A story of a dog, told " + "slowly, " * 20, top_k=3) if same == "beginning" else question("?", n=1)
    key = asked(found, near)
    other = asked(found, question("Something else altogether.", seed=9))
    assert "were looked at" not in explained(found, question())["why"]
    prompt = """'{"messages":[{"content":"' || n || '","role":"user"}]}'"""
    copied(found, other, 1000, prompt=prompt, prompt_text="n::text", prompt_hash="E'\\\\x' || repeat('00', 32)")
    wanted = near | {"top_k": 4} if same == "beginning" else question("!", n=1)
    said = explained(found, wanted)
    assert said["nearest"]["key"] == key
    assert 200 <= said["looked_at"] < 1002
    assert f"Only {said['looked_at']} kept requests were looked at." in said["why"]


def test_large_requests_cost_no_more_than_others(gateway: Callable[..., Gateway]) -> None:
    """Of very large ones nothing is compared, and of many differences some are shown."""
    found = gateway()
    asked(found, question())
    said = explained(found, question("x" * 70_000))
    assert (said["nearest"], said["looked_at"]) == (None, 0)
    assert "more than 64 KiB" in said["why"]
    said = explained(found, question(many=[0] * 20_000))
    assert [one["field"] for one in said["nearest"]["differs"]] == ["extra.many"]
    said = explained(found, question(many=[0] * 1500))
    assert (len(said["nearest"]["differs"]), said["nearest"]["more"]) == (20, 1480)
    assert "and 1495 more." in said["why"]
    key = asked(found, question(many=["x" * 60_000]))
    copied(found, key, 100, params="replace(c.params, 'xx\"', 'y' || n || '\"')")
    said = explained(found, question(many=["y"]))
    assert said["looked_at"] < 20
    assert "were looked at" in said["why"]


class _Hanging:
    """A record that never answers, and tells when nobody waits for it any more."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    async def candidates(self, *_: Any) -> Any:
        """Wait."""
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def test_who_leaves_is_not_worked_for(gateway: Callable[..., Gateway]) -> None:
    """The search ends long before its own time is up."""
    found, hanging = gateway(), _Hanging()
    explainer: Any = found.parts.explainer
    explainer._near = hanging
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{found.url}/v1/cache/explain", json=question(), timeout=0.5)
    assert hanging.ended.wait(5)


def test_indexes_are_used(gateway: Callable[..., Gateway]) -> None:
    """For each way to look, however many answers there are."""
    found = gateway()
    key = asked(found, question())
    prompt = "E'\\\\x' || encode(sha256(convert_to(n::text, 'utf8')), 'hex')"
    copied(found, key, 20_000, prompt_text="n::text", params="n::text", prompt_hash=prompt, scope="(n % 2)::text")
    changed(found, "analyze askonce.completions")
    words = [bytes(32), "1", "chat", None, 0.0, bytes(32), "{}", "Hi", 2**16, 2**20, 200, 5000]
    database: Any = found.parts.listing._database

    async def plan() -> str:
        rows = await database.fetch("explain " + sql.query("completion_near"), *words)
        return "\n".join(row[0] for row in rows)

    shown = found.run(plan())
    assert "Seq Scan" not in shown
    for name in ("params", "beginning", "prompt_hash"):
        assert f"completions_{name}" in shown


OLLAMA = {
    "/api/chat": {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": False},
    "/api/generate": {"model": MODEL, "prompt": "Hi", "stream": False, "options": {"num_predict": 5}},
    "/api/embed": {"model": MODEL, "input": "Hi"},
    "/api/embeddings": {"model": MODEL, "prompt": "Ho"},
    "/v1/completions": {"model": MODEL, "prompt": "Hi"},
    "/v1/embeddings": {"model": MODEL, "input": "Hu"},
}


@pytest.mark.parametrize("path", OLLAMA)
def test_a_request_is_explained_as_where_it_is_sent(gateway: Callable[..., Gateway], path: str) -> None:
    """Ollama's bodies too: the key is the one that its reply has."""
    found = gateway()
    key = httpx.post(found.url + path, json=OLLAMA[path], timeout=30).headers["x-askonce-key"]
    said = httpx.post(f"{found.url}/v1/cache/explain?path={path}", json=OLLAMA[path], timeout=30).json()
    assert (said["key"], said["tier"]) == (key, "memory")


@pytest.mark.parametrize(
    ("query", "body", "word"),
    [
        ("path=/api/nothing", question(), "/api/chat"),
        ("path=", question(), "empty"),
        ("path=/api/chat&path=/api/chat", question(), "twice"),
        ("api=/api/chat", question(), "not known"),
        ("path=/api/chat", {"model": MODEL}, "load"),
        ("path=/api/embed", {"model": MODEL, "input": ["a", "b"]}, "one at a time"),
        ("path=/api/chat", {"model": MODEL, "messages": [{"role": "user", "content": 1}]}, "content"),
        ("", {"model": MODEL}, "none of them"),
    ],
)
def test_what_is_no_request_there_is_refused(
    gateway: Callable[..., Gateway], query: str, body: dict[str, Any], word: str
) -> None:
    """With what to do about it."""
    reply = httpx.post(f"{gateway().url}/v1/cache/explain?{query}", json=body, timeout=30)
    assert reply.status_code == 400
    assert word in reply.json()["error"]["message"]
