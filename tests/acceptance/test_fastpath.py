"""What is given the short way is what the long way gives, and nothing is given that the long way would not."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gateway.config import BackendConfig, ModelConfig, PolicyConfig
from gateway.ready import Shelf
from storage import keys
from storage.keys import KeyStore, Wanted
from tests.acceptance.in_thread import MODEL, Gateway

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
LONG_WAY = {"x-askonce-replay": "instant"}
"""A wish that changes nothing, but that the short way knows nothing of."""
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": (CHAT, HI),
    "choices": (CHAT, HI | {"n": 3, "temperature": 1}),
    "stream": (CHAT, HI | {"stream": True}),
    "stream with usage": (CHAT, HI | {"stream": True, "n": 2, "stream_options": {"include_usage": True}}),
    "text": (TEXT, {"model": MODEL, "prompt": "Hi"}),
    "text streamed": (TEXT, {"model": MODEL, "prompt": "Hi", "stream": True}),
}


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request that came by the shelf, whether it was given from there."""
    found: list[bool] = []
    plain = Shelf.reply

    def reply(shelf: Shelf, place: Any, date: bytes) -> Any:
        one = plain(shelf, place, date)
        found.append(one is not None)
        return one

    monkeypatch.setattr(Shelf, "reply", reply)
    return found


def post(gateway: Gateway, body: Any = HI, path: str = CHAT, **headers: str) -> httpx.Response:
    """The reply."""
    return httpx.post(gateway.url + path, content=json.dumps(body), headers=headers, timeout=30)


def bare(reply: httpx.Response) -> tuple[str, dict[str, str]]:
    """A reply without what is each one's own."""
    own = {"age", "date", "content-length", "transfer-encoding", "x-askonce-tier"}
    text = re.sub(r'"id":"\w+-\w{32}"', '"id":""', re.sub(r'"created":\d+', '"created":0', reply.text))
    return text, {name: value for name, value in reply.headers.items() if name not in own}


@pytest.mark.parametrize(("path", "body"), SHAPES.values(), ids=SHAPES)
def test_it_is_the_same_reply(gateway: Callable[..., Gateway], ready: list[bool], path: str, body: Any) -> None:
    """To the byte, but for the id and the time, which are its own."""
    served = gateway("[[line]]\nreply = 'one \"two\" thr\\u00e9e'\n")
    post(served, body, path)
    replies = [post(served, body, path) for _ in range(3)]
    assert ready == [False, not body.get("stream"), True, True]
    long = post(served, body, path, **LONG_WAY)
    assert [bare(reply) for reply in replies] == [bare(long)] * 3
    ids = [re.findall(r'"id":"(\w+-\w{32})"', reply.text) for reply in replies]
    assert all(len(set(own)) == 1 for own in ids)
    assert len({own[0] for own in ids}) == 3
    created = [int(value) for value in re.findall(r'"created":(\d+)', replies[-1].text)]
    assert abs(created[0] - time.time()) < 60
    assert len(set(created)) == 1
    assert int(replies[-1].headers["age"]) < 60


def test_it_counts_like_any_other(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """In the metrics at once."""
    served = gateway()
    for _ in range(10):
        post(served)
    assert ready.count(True) == 9
    shown = httpx.get(f"{served.url}/metrics").text
    counts = {
        (cache, tier): float(count)
        for cache, tier, count in re.findall(r'askonce_replies_total\{cache="(\w+)".*tier="(\w+)"\} ([\d.]+)', shown)
    }
    assert counts == {("miss", "backend"): 1, ("hit", "memory"): 9}


def test_hits_are_counted_answer_by_answer(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """Those that are ready as those that are not: the row says how often and when last."""
    served = gateway()
    keys = {post(served, body).headers["x-askonce-key"] for body in [HI] * 6}
    post(served, HI, **LONG_WAY)
    assert len(keys) == 1
    assert ready.count(True) > 1
    served.flushed()
    served.parts.shelf.settle()
    assert served.run(served.parts.hits.flush())
    database = served.parts.invalidations._database
    row = served.run(database.fetchrow("select hits, last_at from askonce.hits where key = $1", bytes.fromhex(*keys)))
    assert row["hits"] == 6
    assert abs(row["last_at"].timestamp() - time.time()) < 60


def test_what_is_deleted_is_given_no_more(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """Not once, by whichever gateway it was deleted."""
    one, other = gateway(), gateway()
    for served in (one, one, one, other, other, other):
        post(served)
    assert ready[-1]
    key = post(one).headers["x-askonce-key"]
    assert httpx.delete(f"{one.url}/v1/cache/{key}").status_code == 200
    assert post(one).headers["x-askonce-cache"] == "miss"
    deadline = time.monotonic() + 20
    origin = post(one).headers["x-askonce-origin-id"]
    while post(other).headers.get("x-askonce-origin-id") != origin:
        assert time.monotonic() < deadline


def test_what_is_too_old_is_given_no_more(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """As the policy says, that a hit does not extend."""
    served = gateway(policies=(PolicyConfig(ttl_s=1.5),))
    post(served)
    while post(served).headers["x-askonce-cache"] == "hit":
        time.sleep(0.05)
    assert ready.count(True) > 2


def test_a_new_answer_takes_the_place_of_the_old(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """Whether it was asked for, or the old one was too old for somebody."""
    served = gateway()
    for wish in ("no-cache", "max-age=0"):
        origins = {post(served).headers.get("x-askonce-origin-id") for _ in range(4)}
        post(served, **{"cache-control": wish})
        assert post(served).headers["x-askonce-origin-id"] not in origins
    assert True in ready


def test_bytes_that_are_alike_are_no_key(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """The same body from another tenant is another question, and from nobody at all it is refused."""
    served = gateway()
    store = KeyStore(served.parts.invalidations._database)
    acme, rival = (served.run(store.create(Wanted(tenant=name, scopes=("ask",)))) for name in ("acme", "rival"))
    served.run(served.parts.access.changed())
    for _ in range(3):
        assert post(served, authorization=f"Bearer {acme}").status_code == 200
    assert ready[-1]
    assert post(served, authorization=f"Bearer {rival}").headers["x-askonce-cache"] == "miss"
    assert post(served).status_code == 401
    assert post(served, authorization=f"Bearer {acme}x").status_code == 401
    served.run(store.revoke(keys.identify(acme) or ""))
    deadline = time.monotonic() + 20
    while post(served, authorization=f"Bearer {acme}").status_code == 200:
        assert time.monotonic() < deadline
    assert post(served, authorization=f"Bearer {acme}").status_code == 401


def test_other_weights_are_another_model(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """Also for who asked for the same a moment ago."""
    served = gateway()
    for _ in range(3):
        post(served)
    assert ready[-1]
    replica = served.parts.router.model(MODEL).replicas[0]
    served.backend._script = type(served.backend._script)(version="2")
    assert replica.backend.known.model_version == "2"
    assert post(served).headers["x-askonce-cache"] == "miss"


def test_a_body_that_comes_in_pieces_or_is_large_is_answered_too(gateway: Callable[..., Gateway]) -> None:
    """And one that never comes is not waited for by others."""
    served = gateway()

    def pieces(body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    for size in (10, 5000, 400_000):
        body = json.dumps(HI | {"messages": [{"role": "user", "content": "x" * size}]}).encode()
        for expected in ("miss", "hit", "hit"):
            reply = httpx.post(served.url + CHAT, content=pieces(body), timeout=60)
            assert reply.headers["x-askonce-cache"] == expected


def asked(gateway: Gateway, said: bytes, replies: int, pause_s: float = 0.0, size: int = 2**20) -> list[bytes]:
    """What comes of these very bytes: that many replies, one after the other, and no more."""
    found: list[bytes] = []
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        for start in range(0, len(said), size):
            connection.sendall(said[start : start + size])
            time.sleep(pause_s)
        with connection.makefile("rb") as file:
            for _ in range(replies):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = file.readline()
                    assert line, head
                    head += line
                length = re.search(rb"content-length: (\d+)", head)
                assert length, head
                found.append(head + file.read(int(length[1])))
            connection.shutdown(socket.SHUT_WR)
            assert file.read() == b""
    return found


def request(body: Any, *lines: str, version: str = "1.1") -> bytes:
    """A request as it is sent."""
    content = json.dumps(body).encode()
    head = [f"POST {CHAT} HTTP/{version}", "host: localhost", f"content-length: {len(content)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + content


def test_requests_sent_at_once_are_answered_in_their_order(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """Those that are ready wait for those before them that are not."""
    served = gateway()
    old = [HI | {"messages": [{"role": "user", "content": f"old {number}"}]} for number in range(2)]
    for body in (*old, *old):
        post(served, body)
    ready.clear()
    new = [HI | {"messages": [{"role": "user", "content": f"new {number}"}]} for number in range(2)]
    order = [old[0], new[0], old[1], old[0], new[1], old[1]]
    replies = asked(served, b"".join(map(request, order)), len(order))
    said = [json.loads(reply.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"] for reply in replies]
    expected = [post(served, body).json()["choices"][0]["message"]["content"] for body in order]
    assert said == expected
    assert True in ready
    assert asked(served, request(old[0]) * 50, 50)


def test_what_comes_behind_a_ready_reply_may_take_its_time(
    gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a connection stays open on which nothing is asked."""
    served = gateway()
    for _ in range(2):
        post(served)
    monkeypatch.setattr(served._server.config, "timeout_keep_alive", 0.2)
    served.backend.hold_after = 1
    threading.Timer(1.0, setattr, (served.backend, "hold_after", None)).start()
    replies = asked(served, request(HI) + request(HI | {"max_tokens": 9}), 2)
    assert [b"x-askonce-cache: hit" in reply for reply in replies] == [True, False]


@pytest.mark.parametrize("stream", [False, True])
def test_who_sends_more_and_leaves_takes_the_first_along(gateway: Callable[..., Gateway], stream: bool) -> None:
    """The model is not asked on for nobody, whatever was sent behind."""
    served = gateway("[[line]]\nreply = 'one two three'\n")
    for _ in range(2):
        post(served, HI | {"max_tokens": 9})
    for behind in (HI | {"max_tokens": 9}, HI | {"max_tokens": 8}):
        served.backend.hold_after, served.backend.held = 1, False
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            connection.sendall(request(HI | {"stream": stream}))
            while not served.backend.held:
                time.sleep(0.01)
            connection.sendall(request(behind))
            time.sleep(0.1)
        assert served.backend.ended.wait(5)
        assert served.backend.ends[-1] == "cancelled"
        served.backend.hold_after = None


def test_names_that_no_header_can_have_are_told_all_the_same(gateway: Callable[..., Gateway]) -> None:
    """Percent by percent, and never as a header of their own."""
    name = "gr\u00f6\u00dfe \u6a21\r\nx-evil: 1"
    away = BackendConfig(kind="openai", model="x", alias=name, url="http://127.0.0.1:9")
    served = gateway(backends=(away,), models=(ModelConfig(name=name, fallback=(MODEL,)),))
    for body in (HI, HI | {"stream": True}):
        for expected, headers in (("miss", {}), ("hit", {}), ("hit", {}), ("hit", LONG_WAY)):
            reply = post(served, body | {"model": name, "seed": 1 + ("stream" in body)}, **headers)
            assert (reply.status_code, reply.headers["x-askonce-cache"]) == (200, expected)
            assert reply.headers["x-askonce-fallback"] == "gr%C3%B6%C3%9Fe %E6%A8%A1%0D%0Ax-evil: 1"
            assert "x-evil" not in reply.headers


def test_a_request_that_comes_byte_by_byte_is_answered(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """In its own time."""
    served = gateway()
    for _ in range(3):
        (reply,) = asked(served, request(HI), 1, pause_s=0.001, size=7)
    assert b"x-askonce-cache: hit" in reply
    assert ready == [False, True, True]


def test_who_wants_the_connection_closed_or_speaks_an_old_version(gateway: Callable[..., Gateway]) -> None:
    """Gets it closed."""
    served = gateway()
    for _ in range(3):
        for said in (request(HI, "connection: close"), request(HI, version="1.0")):
            (reply,) = asked(served, said, 1)
            assert reply.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_header_said_twice_is_left_to_the_framework(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """As is one that says how the request wants to be answered."""
    served = gateway()
    twice = ("x-api-key: a\r\nx-api-key: b", "authorization:\r\nauthorization: Bearer a", "origin:\r\norigin:")
    for line in (*twice, "cache-control: no-cache", "x-askonce-tags: a"):
        (reply,) = asked(served, request(HI, line), 1)
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert ready == []


def test_pages_of_others_get_nothing_that_is_ready(gateway: Callable[..., Gateway], ready: list[bool]) -> None:
    """Not even what this machine's own programs just got."""
    served = gateway()
    for _ in range(3):
        post(served)
    assert ready[-1]
    assert post(served, origin="http://evil.example").status_code == 403
    assert post(served, host="evil.example").status_code == 403
    assert post(served).status_code == 200


def test_who_reads_nothing_is_not_written_to_without_end(gateway: Callable[..., Gateway]) -> None:
    """What waits for a client that sends and does not read stays small."""
    served = gateway("[[line]]\nreply = '" + "x" * 20_000 + "'\n")
    for _ in range(3):
        post(served)
    with socket.create_connection(("127.0.0.1", served.port), timeout=0.5) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        said = request(HI) * 100_000
        with pytest.raises(TimeoutError):
            connection.sendall(said)
    assert post(served).status_code == 200
