"""Responses that are kept: found again, listed, forgotten, deleted with their answers, and nobody else's."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from gateway.canonical import Request
from gateway.config import PolicyConfig
from gateway.sweeping import Sweeper
from storage import postgres, responses
from storage.entry import Chunk
from storage.guard import Guard
from storage.invalidations import Invalidations
from storage.keys import Wanted
from storage.responses import Response, Responses
from tests.acceptance.responding import HI, Asked, Make, events
from tests.conftest import Servers
from tests.suites.frozen import frozen

PATIENCE = responses._AGAIN_S


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there is not waited for as long as on a busy machine."""
    monkeypatch.setattr(responses, "_AGAIN_S", (0.02, 0.05))


@pytest.fixture
def ask(gateway: Make) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway())


def test_a_response_is_found_again_as_it_was_given(ask: Asked) -> None:
    """At once, when it is written, after a new answer to the same question; its events too, from any on."""
    given = ask(stream=True)
    whole = events(given.text)[-1]["response"]
    name = whole["id"]
    assert ask.found(name).json() == whole
    ask.gateway.run(ask.gateway.parts.conversations._kept.flush(10))
    assert ask.found(name).json() == whole
    ask({"cache-control": "no-cache"})
    assert ask.found(name).json() == whole
    assert ask.found(name, stream="true").text == given.text
    after = events(ask.found(name, stream="true", starting_after=5).text)
    assert after == events(given.text)[6:]
    assert ask.found(name, stream="true", starting_after=1000).text == ""
    assert ask.found(name).headers["x-askonce-key"] == given.headers["x-askonce-key"]


def test_another_gateway_and_another_day(gateway: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response is found by every gateway of the database, as soon as its reply has been read, and by the next one."""
    monkeypatch.setattr(responses, "_AGAIN_S", PATIENCE)
    one, other = Asked(gateway()), Asked(gateway())
    for number in range(5):
        made = one.made(input=f"Question {number}")
        assert other.found(made["id"]).json() == made
    slow = one.gateway.parts.conversations._kept._sink
    plain = slow.put

    async def late(items: Any) -> None:
        await asyncio.sleep(2)  # so much has its machine to do
        await plain(items)

    monkeypatch.setattr(slow, "put", late)
    made = one.made(input="Hello", stream=False)
    followed = other.made(input="And now?", previous_response_id=made["id"])
    assert followed["previous_response_id"] == made["id"]
    assert Asked(gateway()).found(followed["id"]).json() == followed


def test_the_input_is_listed(ask: Asked) -> None:
    """In pages, newest first unless asked otherwise; each item has an id."""
    items = [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": [{"type": "input_text", "text": "Three"}]},
    ]
    name = ask.made(input=items)["id"]
    listed = ask.found(name, "/input_items").json()
    assert (listed["object"], listed["has_more"]) == ("list", False)
    assert [item["content"][0]["text"] for item in listed["data"]] == ["Three", "Two", "One"]
    assert [item["content"][0]["type"] for item in listed["data"]] == ["input_text", "output_text", "input_text"]
    page = ask.found(name, "/input_items", order="asc", limit=2).json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (page["data"][0]["id"], page["data"][1]["id"], True)
    rest = ask.found(name, "/input_items", order="asc", after=page["last_id"]).json()
    assert [item["content"][0]["text"] for item in rest["data"]] == ["Three"]
    for params in ({"limit": 0}, {"limit": "x"}, {"order": "up"}, {"after": "msg_none"}, {"what": 1}):
        refused = ask.found(name, "/input_items", **params)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(params)))


def test_what_is_not_stored_is_not_there(gateway: Make) -> None:
    """`store: false`, `no-store` and a policy that keeps nothing all mean that; the response says so."""
    ask = Asked(gateway(policies=(PolicyConfig(keep_sampled=False),)))
    for made in (ask.made(store=False), ask.made({"cache-control": "no-store"}), ask.made(temperature=1)):
        assert made["store"] is False
        assert ask.found(made["id"]).status_code == 404
        refused = ask(previous_response_id=made["id"])
        assert refused.status_code == 404
        assert refused.json()["error"]["param"] == "previous_response_id"
    short = Asked(gateway(policies=(PolicyConfig(max_answer_bytes=10),)))
    assert short.made()["store"] is False


def test_a_response_is_forgotten(ask: Asked) -> None:
    """It is gone, also for those that follow it; its answer stays in the cache."""
    first = ask.made()
    second = ask.made(previous_response_id=first["id"], input="More")
    gone = httpx.delete(f"{ask.url}/{first['id']}")
    assert gone.json() == {"id": first["id"], "object": "response", "deleted": True}
    assert httpx.delete(f"{ask.url}/{first['id']}").status_code == 404
    assert ask.found(first["id"]).status_code == 404
    assert ask.found(second["id"]).status_code == 200
    broken = ask(previous_response_id=second["id"], input="Even more")
    assert (broken.status_code, broken.json()["error"]["param"]) == (400, "previous_response_id")
    assert ask.where() == "hit"


@pytest.mark.parametrize(
    "selector", ["/{key}", "?model=parrot", "?tag=draft", "?prompt_hash={prompt_hash}", "?all=true"]
)
def test_deleting_answers_takes_what_responses_have_of_them(ask: Asked, selector: str) -> None:
    """Whoever gave them: the first reply, a hit, also when a new answer has taken the old one's place."""
    tagged = {"x-askonce-tags": "draft"}
    first = ask(tagged)
    hit = ask.made()
    newer = ask.made({"cache-control": "no-cache", **tagged})
    names = [first.json()["id"], hit["id"], newer["id"]]
    assert {ask.found(name).status_code for name in names} == {200}
    key = first.headers["x-askonce-key"]
    ask.gateway.flushed()
    prompt_hash = httpx.get(f"{ask.gateway.url}/v1/cache/{key}").json()["prompt_hash"]
    path = "/v1/cache" + selector.format(key=key, prompt_hash=prompt_hash)
    assert httpx.delete(ask.gateway.url + path).status_code == 200
    assert {ask.found(name).status_code for name in names} == {404}


def test_a_response_to_what_is_deleted_meanwhile_is_gone(gateway: Make) -> None:
    """The deletion came while it was being given: it is not found afterwards."""
    ask = Asked(gateway("[[line]]\nreply = 'one two three'\n"))
    backend = ask.gateway.backend
    backend.hold_after = 2
    with httpx.stream("POST", ask.url, json=HI | {"stream": True}, timeout=30) as reply:
        lines = reply.iter_lines()
        name = json.loads(next(line for line in lines if line.startswith("data:"))[5:])["response"]["id"]
        assert httpx.delete(ask.gateway.url + "/v1/cache?all=true").status_code == 200
        backend.hold_after = None
        assert any("response.completed" in line for line in lines)
    ask.gateway.run(ask.gateway.parts.conversations._kept.flush(10))
    assert ask.found(name).status_code == 404


@pytest.mark.parametrize("selector", ["?tag=draft", "?tag=other"])
def test_who_hears_along_is_deleted_along(gateway: Make, selector: str) -> None:
    """Words that somebody else gave the answer that is being made hold for all who hear it; other words do not."""
    ask = Asked(gateway("[[line]]\nreply = 'one two three'\n"))
    ask.gateway.backend.hold_after = 2
    with (
        httpx.stream("POST", ask.url, json=HI | {"stream": True}, headers={"x-askonce-tags": "draft"}) as first,
        httpx.stream("POST", ask.url, json=HI | {"stream": True}) as second,
    ):
        assert [reply.headers["x-askonce-cache"] for reply in (first, second)] == ["miss", "coalesced"]
        ask.gateway.backend.hold_after = None
        names = [events(reply.read().decode())[-1]["response"]["id"] for reply in (first, second)]
    ask.gateway.run(ask.gateway.parts.conversations._kept.flush(10))
    assert {ask.found(name).status_code for name in names} == {200}
    assert httpx.delete(ask.gateway.url + "/v1/cache" + selector).status_code == 200
    assert {ask.found(name).status_code for name in names} == {404 if selector == "?tag=draft" else 200}


def test_a_newer_answer_takes_nothing_back_that_is_being_given(gateway: Make) -> None:
    """Two ask anew at the same time: what the slower one is given stays given, and can be followed."""
    ask = Asked(gateway("[[line]]\nreply = 'one two three'\n"))
    ask()
    anew = {"cache-control": "no-cache"}
    go_on, complete = threading.Event(), ask.gateway.backend.complete

    async def held(request: Request) -> AsyncGenerator[Chunk]:
        ask.gateway.backend.complete = complete  # whoever comes next is not held
        async with aclosing(complete(request)) as steps:
            yield await anext(steps)
            await asyncio.to_thread(go_on.wait)
            async for step in steps:
                yield step

    ask.gateway.backend.complete = held
    with httpx.stream("POST", ask.url, json=HI | {"stream": True}, headers=anew, timeout=30) as reply:
        quicker = ask.made(anew)
        go_on.set()
        slower = events(reply.read().decode())[-1]
    assert slower["type"] == "response.completed"
    ask.gateway.run(ask.gateway.parts.conversations._kept.flush(10))
    for response in (quicker, slower["response"]):
        assert ask.found(response["id"]).json() == response
        assert ask(previous_response_id=response["id"], input="More").status_code == 200


async def test_what_was_asked_since_stays(database_url: str) -> None:
    """Rows go after the deletion has its number: a response that was asked for since is not among them."""
    pool = await postgres.connect(database_url, 4)
    marks = Invalidations(pool)
    guards = (Guard("postgres", lambda *_: None), Guard("postgres", lambda *_: None))
    kept = Responses(pool, marks, guards, 1.0, lambda _: None)
    try:
        kept.put(given("1", await number(pool, "all", "") - 1))
        assert await kept.flush(10)
        assert await kept.get("resp_1", "t") is None  # it was deleted while it was given
        tagged = await number(pool, "tag", "draft")
        kept.put(given("2", tagged))
        assert await kept.flush(10)
        await pool.execute("select askonce.forget('s', 'tag', 'draft', $1)", tagged)
        assert await kept.get("resp_2", "t") is not None
        await pool.execute("select askonce.forget('s', 'tag', 'draft', $1)", tagged + 1)
        assert await kept.get("resp_2", "t") is None
    finally:
        await kept.aclose()
        pool.terminate()


async def number(pool: Any, kind: str, value: str) -> int:
    """That of a new invalidation."""
    return await pool.fetchval("select askonce.invalidate('s', $1, $2)", kind, value)


def given(name: str, epoch: int) -> Response:
    """A response that was asked for when `epoch` was known."""
    return Response(
        id=f"resp_{name}",
        tenant="t",
        scope="s",
        model="m",
        key=bytes(32),
        prompt_hash=bytes(32),
        tags=("draft",),
        previous_id=None,
        request="{}",
        steps=b"",
        provenance="generated",
        created_at=1.0,
        completed_at=2.0,
        epoch=epoch,
    )


def test_a_client_that_leaves_leaves_no_response(gateway: Make) -> None:
    """Nothing partial is kept."""
    ask = Asked(gateway("[[line]]\nreply = 'one two three'\n"))
    ask.gateway.backend.hold_after = 2
    with httpx.stream("POST", ask.url, json=HI | {"stream": True}, timeout=30) as reply:
        name = json.loads(next(line for line in reply.iter_lines() if line.startswith("data:"))[5:])["response"]["id"]
    assert ask.gateway.backend.ended.wait(10)
    assert ask.found(name).status_code == 404


def test_a_response_is_its_tenants_alone(gateway: Make) -> None:
    """Another tenant, or a key that may not ask its model, finds nothing, follows nothing and forgets nothing."""
    ask = Asked(gateway())
    store: Any = ask.gateway.parts.access._kept._kept

    def key(**wanted: Any) -> dict[str, str]:
        text = ask.gateway.run(store.create(Wanted(scopes=("ask", "cache"), **wanted)))
        return {"authorization": f"Bearer {text}"}

    acme, rival, other_model = key(tenant="acme"), key(tenant="rival"), key(tenant="acme", models=("other",))
    while httpx.get(ask.gateway.url + "/v1/models").status_code != 401:
        pass
    name = ask.made(acme)["id"]
    assert httpx.get(f"{ask.url}/{name}", headers=acme).status_code == 200
    for headers in (rival, other_model):
        assert httpx.get(f"{ask.url}/{name}", headers=headers).status_code == 404
        assert httpx.get(f"{ask.url}/{name}/input_items", headers=headers).status_code == 404
        assert httpx.get(f"{ask.url}/{name}?stream=true", headers=headers).status_code == 404
        assert ask(headers, previous_response_id=name).status_code == 404
        assert httpx.delete(f"{ask.url}/{name}", headers=headers).status_code == 404
    assert httpx.get(f"{ask.url}/{name}", headers=acme).status_code == 200


def test_while_the_database_is_down(gateway: Make, servers: Servers) -> None:
    """The answer is given, and this gateway still finds it; others say that they cannot know. Later all do."""
    one, other = Asked(gateway(database_deadline_s=0.2)), Asked(gateway(database_deadline_s=0.2))
    one.made()
    with frozen(servers.postgres_process):
        made = one.made()
        assert one.found(made["id"]).json() == made
        unknown = other.found(made["id"])
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "storage_unavailable")
        assert other(previous_response_id=made["id"], input="More").status_code == 503
    assert one.gateway.run(one.gateway.parts.conversations._kept.flush(10))
    deadline = time.monotonic() + 10
    while (found := other.found(made["id"])).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)  # its breaker rests
    assert found.json() == made


def test_responses_end_with_their_time(ask: Asked) -> None:
    """Young ones stay."""
    name = ask.made()["id"]
    parts = ask.gateway.parts
    ask.gateway.run(parts.conversations._kept.flush(10))
    pool: Any = parts.conversations._kept._pool

    async def swept(ttl_s: float, policies: tuple[PolicyConfig, ...] = ()) -> None:
        sweeper = Sweeper(pool, parts.invalidations, policies, marks_needed_s=1e6, responses_ttl_s=ttl_s)
        await sweeper.sweep()
        await sweeper.aclose()

    ask.gateway.run(swept(1000, (PolicyConfig(ttl_s=1000),)))
    assert ask.found(name).status_code == 200
    ask.gateway.run(swept(1000, (PolicyConfig(model="other", ttl_s=0.001),)))
    assert ask.found(name).status_code == 200
    ask.gateway.run(swept(1000, (PolicyConfig(ttl_s=0.001),)))
    assert ask.found(name).status_code == 404
    other = ask.made(input="Other")["id"]
    ask.gateway.run(parts.conversations._kept.flush(10))
    ask.gateway.run(swept(0.001))
    assert ask.found(other).status_code == 404


def test_ids_that_are_none(ask: Asked) -> None:
    """404, whatever they hold; following them too."""
    for name in ("resp_" + "0" * 32, "resp_1", "%00", "msg_" + "a" * 32, "x" * 3000):
        assert ask.found(name).status_code == 404, name
    assert ask(previous_response_id="\x00").status_code == 404
    assert ask.found("resp_" + "0" * 32, "/cancel").status_code == 404
