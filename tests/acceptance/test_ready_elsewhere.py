"""What one gateway has made ready, another one gives: the same reply, and never one that it would not give itself."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from gateway.config import PolicyConfig
from gateway.prepared import MAX_BYTES
from gateway.routes.text import WIRES
from storage import keys, lua
from storage.entry import HEAD_BYTES
from storage.keys import KeyStore, Wanted
from storage.prepared import PREFIX, GuardedReplies
from storage.redis import PREFIX as ENTRY
from tests.acceptance.in_thread import Gateway
from tests.acceptance.test_fastpath import CHAT, HI, LONG_WAY, SHAPES, asked, bare, post, request
from tests.conftest import Servers
from tests.suites.frozen import frozen

Gateways = Callable[..., Gateway]
PATIENT = {"redis_deadline_s": 10.0}
"""A machine that is slow is no fault of Redis."""
WARM = HI | {"max_tokens": 9}
"""Asked first of a gateway that has just started: who asks, and who answers, is known from then on."""


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all requests that went the long way."""
    found: list[str] = []
    for path, wire in WIRES.items():
        plain = wire.decode

        def decode(data: bytes, path: str = path, plain: Any = plain) -> Any:
            found.append(path)
            return plain(data)

        monkeypatch.setattr(wire, "decode", decode)
    return found


def kept(gateways: Gateways, body: Any = HI, path: str = CHAT, **settings: Any) -> tuple[Gateway, Gateway]:
    """One gateway that has been asked, its reply kept, and another one that was only asked something else."""
    one, other = (gateways(**PATIENT | settings) for _ in range(2))
    for _ in range(2):
        post(one, body, path)
    one.flushed()
    post(other, WARM)
    return one, other


@pytest.mark.parametrize(("path", "body"), SHAPES.values(), ids=SHAPES)
def test_it_is_the_same_reply(gateway: Gateways, decoded: list[str], path: str, body: Any) -> None:
    """To the byte; the second one is this gateway's own."""
    one, other = kept(gateway, body, path)
    decoded.clear()
    replies = [post(other, body, path) for _ in range(2)]
    assert decoded == []
    assert [reply.headers["x-askonce-tier"] for reply in replies] == ["redis", "memory"]
    assert [bare(reply) for reply in replies] == [bare(post(one, body, path, **LONG_WAY))] * 2
    assert counted(other, "redis") == 1


def test_other_bytes_find_the_answer_too(gateway: Gateways, decoded: list[str]) -> None:
    """By its name, after what was given made the entry this process's own."""
    _, other = kept(gateway)
    assert post(other).headers["x-askonce-tier"] == "redis"
    decoded.clear()
    reply = httpx.post(other.url + CHAT, content=json.dumps(HI, indent=1), timeout=30)
    assert (reply.headers["x-askonce-tier"], decoded) == ("memory", [CHAT])


def test_the_same_bytes_of_another_tenant_find_nothing(gateway: Gateways) -> None:
    """Nor do those of nobody, and of a key that was revoked."""
    one, other = gateway(**PATIENT), gateway(**PATIENT)
    store = KeyStore(one.parts.invalidations._database)
    acme, rival = (one.run(store.create(Wanted(tenant=name, scopes=("ask",)))) for name in ("acme", "rival"))
    for served in (one, other):
        served.run(served.parts.access.changed())
    for _ in range(2):
        post(one, authorization=f"Bearer {acme}")
    one.flushed()
    for key in (acme, rival):
        assert post(other, WARM, authorization=f"Bearer {key}").headers["x-askonce-cache"] == "miss"
    assert post(other).status_code == 401
    assert post(other, authorization=f"Bearer {rival}").headers["x-askonce-cache"] == "miss"
    one.run(store.revoke(keys.identify(acme) or ""))
    other.run(other.parts.access.changed())
    assert post(other, authorization=f"Bearer {acme}").status_code == 401


def test_a_key_that_was_told_already_finds_its_own(gateway: Gateways, decoded: list[str]) -> None:
    """In the namespace that it asks in, and in no other."""
    one, other = gateway(**PATIENT), gateway(**PATIENT)
    store = KeyStore(one.parts.invalidations._database)
    made = one.run(store.create(Wanted(tenant="acme", scopes=("ask",))))
    one.run(store.create_namespace("team"))
    one.run(store.join("team", "acme"))
    headers = {"authorization": f"Bearer {made}", "x-askonce-namespace": "team"}
    for served in (one, other):
        served.run(served.parts.access.changed())
    for _ in range(2):
        post(one, **headers)
    one.flushed()
    post(other, WARM, **headers)
    decoded.clear()
    assert post(other, **headers).headers["x-askonce-tier"] == "redis"
    assert decoded == []
    assert post(other, authorization=headers["authorization"]).headers["x-askonce-cache"] == "miss"


def test_what_is_deleted_is_not_given(gateway: Gateways) -> None:
    """Although Redis has both of it, the reply and the entry."""
    one, other = kept(gateway)
    key = post(one).headers["x-askonce-key"]
    assert httpx.delete(f"{one.url}/v1/cache/{key}").status_code == 200
    other.run(other.parts.invalidations.refresh())
    assert post(other).headers["x-askonce-cache"] == "miss"


def test_a_policy_of_this_gateway_counts(gateway: Gateways) -> None:
    """What it finds too old, or sampled, is asked anew."""
    sampled = HI | {"temperature": 1}
    one, _ = kept(gateway)
    post(one, sampled)
    one.flushed()
    aged, strict = (
        gateway(**PATIENT, policies=(rules,)) for rules in (PolicyConfig(ttl_s=0.01), PolicyConfig(keep_sampled=False))
    )
    for served in (aged, strict):
        post(served, WARM)
    assert post(aged).headers["x-askonce-cache"] == "miss"
    assert post(strict).headers["x-askonce-tier"] == "redis"
    assert post(strict, sampled).headers["x-askonce-cache"] == "bypass"


def test_other_weights_do_not_give_it(gateway: Gateways) -> None:
    """Their own answer is another one."""
    _, other = kept(gateway)
    other.backend._script = type(other.backend._script)(version="2")
    assert post(other).headers["x-askonce-cache"] == "miss"


def test_a_new_answer_takes_its_place(gateway: Gateways) -> None:
    """In the bytes of the old one, wherever it is asked."""
    one, other = kept(gateway)
    origin = post(one, **{"cache-control": "no-cache"}).headers["x-askonce-record"]
    one.flushed()
    other.run(other.parts.invalidations.refresh())
    new = post(one).headers["x-askonce-origin-id"]
    reply = post(other)
    assert (reply.headers["x-askonce-record"], reply.headers["x-askonce-origin-id"]) == (origin, new)


def test_a_reply_without_its_entry_is_none(gateway: Gateways, redis_url: str) -> None:
    """What Redis has let go of comes out of the record."""
    _, other = kept(gateway)
    with redis.Redis.from_url(redis_url) as client:
        entries = client.keys(ENTRY + b"*")
        assert isinstance(entries, list)
        assert client.delete(*entries)
    assert post(other).headers["x-askonce-tier"] == "postgres"


def test_bytes_that_are_no_reply_are_passed_over(gateway: Gateways, redis_url: str) -> None:
    """As are those of another entry."""
    _, other = kept(gateway)
    with redis.Redis.from_url(redis_url) as client:
        for name in list(client.scan_iter(PREFIX + b"*")):
            said = client.get(name)
            assert isinstance(said, bytes)
            client.set(name, said[:48] + b"nothing that is known")
    assert post(other).headers["x-askonce-tier"] == "redis"


def test_who_finds_next_to_none_seldom_looks(gateway: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    """And looks again as soon as there are some."""
    one, other = gateway(**PATIENT), gateway(**PATIENT)
    post(other, WARM)
    looked: list[bool] = []
    plain = GuardedReplies.ask

    def ask(replies: GuardedReplies, digest: bytes, then: Any) -> None:
        looked.append(True)
        plain(replies, digest, then)

    monkeypatch.setattr(GuardedReplies, "ask", ask)
    for number in range(250):
        post(other, HI | {"max_tokens": 100 + number})
    assert 130 <= len(looked) < 170  # all at first, one of sixteen at last
    ready = [HI | {"max_tokens": 1000 + number} for number in range(32)]
    for body in ready:
        post(one, body)
    one.flushed()
    looked.clear()
    assert {post(other, body).headers["x-askonce-tier"] for body in ready} == {"redis"}
    assert len(looked) > 8


def test_an_entry_that_was_damaged_does_no_harm(gateway: Gateways, redis_url: str) -> None:
    """It comes into memory with a reply that was made of it while it was whole; other bytes find the record."""
    one, other = kept(gateway)
    with redis.Redis.from_url(redis_url) as client:
        for name in list(client.scan_iter(ENTRY + b"*")):
            said = client.get(name)
            assert isinstance(said, bytes)
            client.set(name, said[:HEAD_BYTES] + b"damaged")
    assert bare(post(other)) == bare(post(one))
    reply = httpx.post(other.url + CHAT, content=json.dumps(HI) + " ", timeout=30)
    assert (reply.status_code, reply.headers["x-askonce-tier"]) == (200, "postgres")
    assert bare(reply) == bare(post(one))
    other.flushed()
    with redis.Redis.from_url(redis_url) as client:  # and by now it is whole again
        assert all(not bytes(client.get(name) or b"").endswith(b"damaged") for name in client.scan_iter(ENTRY + b"*"))


def test_a_redis_that_takes_no_scripts_gives_entries(
    gateway: Gateways, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is said once."""
    _, other = kept(gateway)
    plain = lua.text
    refused = "return redis.error_reply('NOPERM no scripts')"
    monkeypatch.setattr(lua, "text", lambda name: refused if name == "prepared" else plain(name))
    for spaces in range(3):
        reply = httpx.post(other.url + CHAT, content=json.dumps(HI) + " " * spaces, timeout=30)
        assert reply.headers["x-askonce-tier"] == ("memory" if spaces else "redis")
    assert [record.getMessage() for record in caplog.records] == [
        "Redis gives no ready replies (NoPermissionError: no scripts); they are made from entries."
    ]


def test_long_replies_are_made_anew(gateway: Gateways, decoded: list[str], redis_url: str) -> None:
    """They would fill Redis."""
    one, other = (gateway("[[line]]\nreply = '" + "x" * MAX_BYTES + "'\n", **PATIENT) for _ in range(2))
    for _ in range(2):
        post(one)
    one.flushed()
    post(other, WARM)
    decoded.clear()
    assert post(other).headers["x-askonce-tier"] == "redis"
    assert decoded == [CHAT]
    with redis.Redis.from_url(redis_url) as client:
        assert list(client.scan_iter(PREFIX + b"*")) == []


def test_a_redis_that_hangs_costs_its_deadline(gateway: Gateways, servers: Servers) -> None:
    """Those who ask in new bytes wait for it once, and are answered."""
    one, _ = kept(gateway, redis_deadline_s=0.25)
    with frozen(servers.redis_process):
        for spaces in range(20):
            content = json.dumps(HI) + " " * (spaces + 1)
            reply = httpx.post(one.url + CHAT, content=content, timeout=30)
            assert reply.headers["x-askonce-tier"] == "memory"
    assert "redis" in httpx.get(f"{one.url}/metrics").text


def test_who_comes_after_it_on_its_connection_waits_for_no_look_up(gateway: Gateways, servers: Servers) -> None:
    """Requests sent at once are answered in their order, also while Redis says nothing."""
    one, other = kept(gateway, redis_deadline_s=0.25)
    old = post(one).json()["choices"][0]["message"]["content"]
    bodies = [HI, WARM, HI, HI | {"max_tokens": 8}]
    post(one, bodies[3])
    one.flushed()
    with frozen(servers.redis_process):
        replies = asked(other, b"".join(map(request, bodies)), len(bodies))
    said = [json.loads(reply.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"] for reply in replies]
    assert said[0] == said[2] == old
    assert all(b"x-askonce-cache: hit" in reply for reply in replies)


def test_who_leaves_meanwhile_is_forgotten(gateway: Gateways, servers: Servers) -> None:
    """And everybody else is answered, from where it would have been."""
    _, other = kept(gateway, redis_deadline_s=0.25)
    with frozen(servers.redis_process):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", other.port), timeout=5) as connection:
                connection.sendall(request(HI))
    while (reply := post(other)).headers["x-askonce-tier"] != "memory":
        assert reply.headers["x-askonce-cache"] == "hit"
    assert counted(other, "backend") == 1


def test_a_gateway_that_stops_answers_what_it_has_taken(gateway: Gateways, servers: Servers) -> None:
    """Also what was being looked up when it was told to."""
    _, other = kept(gateway, redis_deadline_s=1.0)
    replies: list[bytes] = []
    asker = threading.Thread(target=lambda: replies.extend(asked(other, request(HI), 1)))
    with frozen(servers.redis_process):
        asker.start()
        time.sleep(0.1)
        other.stop()
        time.sleep(0.4)  # it looks every tenth of a second whether it is to stop
    asker.join(20)
    assert replies[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in replies[0]


def counted(served: Gateway, tier: str) -> float:
    """How many replies came from there."""
    shown = httpx.get(f"{served.url}/metrics").text
    return sum(map(float, re.findall(rf'askonce_replies_total\{{.*tier="{tier}"\}} ([\d.]+)', shown)))
