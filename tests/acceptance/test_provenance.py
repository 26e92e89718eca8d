"""What every reply says of its answer: where it came from, how old it is, what it cost, and where its record is."""

import asyncio
import contextlib
import itertools
import json
import threading
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

HI = {"model": MODEL, "messages": [{"role": "user", "content": "one two three four"}], "temperature": 0}
TEXT = {"model": MODEL, "prompt": "one two three", "temperature": 0}
STEP_S = 0.05
SLOW = f'[[line]]\nreply = "{{prompt}}"\nfirst_delay_s = {STEP_S}\nstep_delay_s = {STEP_S}\n'
FACES = {"/v1/chat/completions": HI, "/v1/completions": TEXT, "/api/chat": {**HI, "stream": False}}


def post(gateway: Gateway, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    """One request."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = httpx.post(gateway.url + path, json=body, headers=sent, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply


def marker(reply: httpx.Response) -> dict[str, Any]:
    """What the usage of a reply says of its answer."""
    body = reply.json()
    return body.get("usage", body)["askonce"]


@pytest.mark.parametrize("path", FACES)
def test_a_reply_says_what_its_answer_is(gateway: Callable[..., Gateway], path: str) -> None:
    """New, kept, and asked for anew; in headers and in the usage, with the counts of the first."""
    found, body = gateway(), FACES[path]
    replies = [post(found, path, body, cache_control=wish) for wish in ("", "", "no-cache", "max-age=0", "")]
    new, kept, anew, too_old, last = replies
    said = [reply.headers["x-askonce-provenance"] for reply in replies]
    assert said == ["generated", "exact", "regenerated", "regenerated", "exact"]
    assert [marker(reply) for reply in replies] == [
        {"provenance": word, "cached": word == "exact"} | ({"cost_usd": 0} if word == "exact" else {}) for word in said
    ]
    assert all(int(reply.headers["age"]) >= 0 for reply in replies)
    assert {reply.headers["x-askonce-record"] for reply in replies} == {f"/v1/cache/{new.headers['x-askonce-key']}"}
    assert "x-askonce-origin-id" not in new.headers
    if "id" in new.json():
        ids = [reply.json()["id"] for reply in replies]
        assert len(set(ids)) == 5
        assert kept.headers["x-askonce-origin-id"] == ids[0]
        assert last.headers["x-askonce-origin-id"] == ids[3]
        counts = [{k: v for k, v in reply.json()["usage"].items() if k != "askonce"} for reply in (new, kept)]
        assert counts[0] == counts[1]
        assert counts[0]["completion_tokens"] > 0
    assert [r.headers["x-askonce-cache"] for r in (anew, too_old)] == ["bypass", "miss"]


def test_what_is_not_kept_has_no_record(gateway: Callable[..., Gateway]) -> None:
    """There is nothing to read about it later."""
    reply = post(gateway(), "/v1/chat/completions", HI, cache_control="no-store")
    assert "x-askonce-record" not in reply.headers
    assert reply.headers["x-askonce-provenance"] == "generated"


@pytest.mark.parametrize("path", [*FACES, "/v1/embeddings"])
def test_what_could_not_be_kept_has_no_record(gateway: Callable[..., Gateway], servers: Servers, path: str) -> None:
    """Too large for the policy, or new while others cannot be told that the old one is not wanted."""
    body = FACES.get(path, {"model": MODEL, "input": "a"})
    small = gateway(policies=(PolicyConfig(max_answer_bytes=3),))
    found = gateway()
    with frozen(servers.postgres_process):
        replies = [post(small, path, body), post(found, path, body, cache_control="no-cache")]
    for reply in replies:
        assert "x-askonce-record" not in reply.headers
        assert "x-askonce-key" in reply.headers


def test_embeddings_say_it_too(gateway: Callable[..., Gateway]) -> None:
    """A reply is exact when all of it was kept."""
    found = gateway()
    replies = [post(found, "/v1/embeddings", {"model": MODEL, "input": texts}) for texts in (["a"], ["a"], ["a", "b"])]
    assert [marker(reply)["provenance"] for reply in replies] == ["generated", "exact", "generated"]
    assert replies[0].headers["x-askonce-record"] == replies[1].headers["x-askonce-record"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
def test_equal_embeddings_at_the_same_time_are_one_call(gateway: Callable[..., Gateway], path: str) -> None:
    """One has the model asked, and the others say that they are told what it is told."""
    found, go_on = gateway(), threading.Event()
    embed, calls = found.backend.embed, []

    async def slowly(requests: Any) -> Any:
        calls.append(len(requests))
        while not go_on.is_set():  # noqa: ASYNC110 -- a test's own thread sets it
            await asyncio.sleep(0.01)
        return await embed(requests)

    found.backend.embed = slowly
    asking = found.parts.embedder._batches._asking
    body = {"model": MODEL, "input": ["a", "b"]}
    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(post, found, path, body) for _ in range(5)]
        try:
            until(lambda: [batch._listeners for batch in list(asking.values())] == [5, 5])
        finally:
            go_on.set()
        replies = [future.result() for future in futures]
    assert calls == [2]
    said = [(reply.headers["x-askonce-cache"], marker(reply)["provenance"]) for reply in replies]
    assert sorted(said) == [("coalesced", "coalesced")] * 4 + [("miss", "generated")]
    assert {marker(reply)["cached"] for reply in replies if reply.headers["x-askonce-cache"] == "coalesced"} == {True}


def until(reached: Callable[[], bool]) -> None:
    """Wait for what the gateway's own thread does."""
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_end_of_a_stream_says_it_when_usage_is_asked_for(gateway: Callable[..., Gateway]) -> None:
    """And no event says anything else than the first time."""
    found = gateway()
    body = {**HI, "stream": True, "stream_options": {"include_usage": True}}
    first, second = [events(post(found, "/v1/chat/completions", body)) for _ in range(2)]
    assert first[-1]["usage"].pop("askonce") == {"provenance": "generated", "cached": False}
    assert second[-1]["usage"].pop("askonce") == {"provenance": "exact", "cached": True, "cost_usd": 0}
    for event in first + second:
        del event["id"], event["created"]
    assert first == second


def events(reply: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream that has ended."""
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


async def test_equal_questions_at_once_name_the_reply_they_share(gateway: Callable[..., Gateway]) -> None:
    """One is new, the others are coalesced: they cost nothing, and say whose answer it is."""
    found = gateway()
    found.backend.hold_after = 2
    body = {**HI, "stream": True, "stream_options": {"include_usage": True}}
    async with httpx.AsyncClient(base_url=found.url, timeout=30) as client, contextlib.AsyncExitStack() as stack:
        asking = [client.stream("POST", "/v1/chat/completions", json=body) for _ in range(5)]
        replies = [await stack.enter_async_context(one) for one in asking]  # none of them is complete yet
        found.backend.hold_after = None
        for reply in replies:
            await reply.aread()
    (leader,) = [reply for reply in replies if reply.headers["x-askonce-provenance"] == "generated"]
    others = [reply for reply in replies if reply is not leader]
    assert {reply.headers["x-askonce-provenance"] for reply in others} == {"coalesced"}
    assert {reply.headers["x-askonce-origin-id"] for reply in others} == {events(leader)[0]["id"]}
    free = {"provenance": "coalesced", "cached": True, "cost_usd": 0}
    assert [events(reply)[-1]["usage"]["askonce"] for reply in others] == [free] * 4
    assert len({events(reply)[0]["id"] for reply in replies}) == 5
    assert found.backend.calls == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_kept_answer_can_be_given_at_the_pace_of_the_first(gateway: Callable[..., Gateway], stream: bool) -> None:
    """No step comes sooner after the question than it did then."""
    found = gateway(SLOW)
    post(found, "/v1/chat/completions", HI)
    started, arrived = time.monotonic(), list[float]()
    body, headers = {**HI, "stream": stream}, {"x-askonce-replay": "paced"}
    with httpx.stream("POST", f"{found.url}/v1/chat/completions", json=body, headers=headers, timeout=30) as reply:
        assert reply.headers["x-askonce-provenance"] == "exact"
        for line in reply.iter_lines():
            if '"content":"' in line and '"content":""' not in line:
                arrived.append(time.monotonic() - started)
    count = 4
    if stream:
        assert len(arrived) == count
        assert all(at >= STEP_S * (number + 1) for number, at in enumerate(arrived))
        assert all(later > sooner for sooner, later in itertools.pairwise(arrived))
    else:
        assert time.monotonic() - started >= STEP_S * count


def test_a_pace_that_is_none_is_refused(gateway: Callable[..., Gateway]) -> None:
    """With the words there are."""
    url = f"{gateway().url}/v1/chat/completions"
    reply = httpx.post(url, json=HI, headers={"x-askonce-replay": "slow"}, timeout=30)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "x-askonce-replay"
    assert "'paced'" in reply.json()["error"]["message"]
