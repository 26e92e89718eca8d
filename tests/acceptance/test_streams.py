"""Streams over HTTP: killed at any moment they leave nothing behind, and kept ones come back as they were."""

import contextlib
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from tests.acceptance.in_thread import MODEL, Gateway
from tests.acceptance.test_bad_input import redis_keys_gone, rows

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TEXT = "one two three four five"
STEPS = ["one", " two", " three", " four", " five"]
SLOW = f'[[line]]\nreply = "{TEXT}"\nfirst_delay_s = 0.05\nstep_delay_s = 0.05\n'
QUICK = f'[[line]]\nreply = "{TEXT}"\n'
CHATTING: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
Make = Callable[..., Gateway]


def open_request(gateway: Gateway, path: str = CHAT, **fields: Any) -> socket.socket:
    """Send a request, and read nothing yet."""
    body = json.dumps((CHATTING if path == CHAT else {"model": MODEL, "prompt": "Hi"}) | fields).encode()
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def kill(connection: socket.socket, *, reset: bool = False) -> None:
    """Leave: politely, or as a process that died does."""
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_until(connection: socket.socket, words: bytes) -> bytes:
    """Read until `words` have come."""
    said = b""
    while words not in said and (piece := connection.recv(65536)):
        said += piece
    assert words in said, said
    return said


def post(gateway: Gateway, path: str = CHAT, **fields: Any) -> httpx.Response:
    """Ask, and read everything."""
    body = (CHATTING if path == CHAT else {"model": MODEL, "prompt": "Hi"}) | fields
    return httpx.post(gateway.url + path, json=body, timeout=30)


def events(reply: httpx.Response) -> list[Any]:
    """A stream's events."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    blocks = reply.content.decode().split("\n\n")
    assert blocks.pop() == ""
    return [block[6:] if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]


def said(stream: list[Any], index: int = 0) -> list[str]:
    """The pieces of text of one choice, boundaries kept."""
    choices = [choice for event in stream if isinstance(event, dict) for choice in event.get("choices", ())]
    pieces = [
        choice.get("text", choice.get("delta", {}).get("content")) for choice in choices if choice["index"] == index
    ]
    return [piece for piece in pieces if piece]


def nothing_kept(gateway: Gateway, database_url: str, path: str = CHAT, **fields: Any) -> None:
    """No tier has an answer, and the next one is asked for anew."""
    gateway.flushed()
    assert rows(database_url) == 0
    calls = gateway.backend.calls
    reply = post(gateway, path, **fields)
    assert (reply.status_code, reply.headers["x-askonce-cache"]) == (200, "miss")
    assert gateway.backend.calls == calls + 1


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_stream_killed_at_any_step_leaves_nothing_behind(
    gateway: Make, database_url: str, path: str, reset: bool
) -> None:
    """After the first step, the second, …: the backend's call is cancelled, and no tier keeps anything."""
    parrot = gateway(QUICK)
    for count, step in enumerate(STEPS, start=1):
        parrot.backend.hold_after = count
        connection = open_request(parrot, path, stream=True)
        read_until(connection, json.dumps(step).encode())
        kill(connection, reset=reset)
        assert parrot.backend.ended.wait(5), "the backend's call was not cancelled"
        assert parrot.backend.ends.pop() == "cancelled"
        assert parrot.backend.ends == []
    parrot.backend.hold_after = None
    nothing_kept(parrot, database_url, path, stream=True)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wait_s", [0.0, 0.02, 0.1, 0.25])
def test_a_client_who_leaves_before_anything_came_cancels_too(
    gateway: Make, database_url: str, stream: bool, wait_s: float
) -> None:
    """Whether it wanted a stream or not."""
    parrot = gateway(SLOW.replace("first_delay_s = 0.05", "first_delay_s = 0.5"))
    connection = open_request(parrot, stream=stream)
    time.sleep(wait_s)
    kill(connection)
    time.sleep(0.3)
    assert parrot.backend.ends in ([], ["cancelled"])  # none when it had left before the backend was asked
    assert parrot.backend.calls == len(parrot.backend.ends)
    nothing_kept(parrot, database_url, stream=stream)


def test_a_whole_reply_whose_client_leaves_midway_is_cancelled(gateway: Make, database_url: str) -> None:
    """While the backend is speaking, though the client has not heard anything yet."""
    parrot = gateway(SLOW)
    connection = open_request(parrot)
    time.sleep(0.2)
    kill(connection)
    assert parrot.backend.ended.wait(5)
    assert parrot.backend.ends == ["cancelled"]
    nothing_kept(parrot, database_url)


def test_one_who_leaves_does_not_take_others_along(gateway: Make, database_url: str) -> None:
    """Of two equal requests at the same time, the one that stays is answered, and its answer kept."""
    parrot = gateway(SLOW)
    first = open_request(parrot, stream=True)
    read_until(first, b'"one"')
    replies: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: replies.append(post(parrot, stream=True)))
    thread.start()
    time.sleep(0.1)
    kill(first)
    thread.join(10)
    assert said(events(replies[0])) == STEPS
    parrot.flushed()
    assert rows(database_url) == 1


def test_a_client_who_leaves_a_replay_harms_nobody(gateway: Make, database_url: str) -> None:
    """What is kept stays."""
    parrot = gateway(QUICK)
    post(parrot)
    for _ in range(20):
        connection = open_request(parrot, stream=True)
        kill(connection, reset=True)
    assert post(parrot, stream=True).headers["x-askonce-cache"] == "hit"
    parrot.flushed()
    assert rows(database_url) == 1


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_backend_that_breaks_midway_ends_the_stream_with_an_error(
    gateway: Make, database_url: str, steps: int
) -> None:
    """As an event, without `[DONE]`; OpenAI's client raises on it. Nothing is kept."""
    parrot = gateway(f'[[line]]\nreply = "{TEXT}"\nbreak_after = {steps}\n')
    stream = events(post(parrot, stream=True))
    assert said(stream) == STEPS[:steps]
    assert stream[-1]["error"]["code"] == "backend_error"
    assert f"breaks off after {steps} steps" in stream[-1]["error"]["message"]
    assert "[DONE]" not in stream
    with parrot.client() as client:
        heard = (event.choices[0].delta.content for event in client.chat.completions.create(**CHATTING, stream=True))
        assert list(itertools.islice(filter(None, heard), steps)) == STEPS[:steps]
        with pytest.raises(openai.APIError, match="breaks off"):
            next(heard)
    whole = post(parrot)
    assert (whole.status_code, whole.json()["error"]["code"]) == (502, "backend_error")
    assert parrot.backend.calls == 3
    parrot.flushed()
    assert rows(database_url) == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        ("break_after = 0", 502, "backend_error"),
        ("refuse_status = 400", 400, "backend_refused"),
        ("refuse_status = 429", 429, "rate_limit_exceeded"),
    ],
)
def test_a_backend_that_fails_at_once_is_a_status(
    gateway: Make, database_url: str, stream: bool, line: str, status: int, code: str
) -> None:
    """As long as nothing was sent, and never kept."""
    parrot = gateway(f'[[line]]\nreply = "{TEXT}"\n{line}\n')
    for _ in range(2):
        reply = post(parrot, stream=stream)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert parrot.backend.calls == (2 if status < 500 else 6)  # what is its own fault may have passed
    parrot.flushed()
    assert rows(database_url) == 0


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("first", [False, True], ids=["whole first", "stream first"])
def test_one_answer_serves_both_forms_with_its_own_boundaries(gateway: Make, path: str, first: bool) -> None:
    """Whoever asked first, a replayed stream is cut where the backend cut it, from every tier."""
    parrot = gateway(QUICK)
    post(parrot, path, stream=first)
    for tier in ("memory", "redis", "postgres"):
        stream = post(parrot, path, stream=True)
        assert (stream.headers["x-askonce-cache"], stream.headers["x-askonce-tier"]) == ("hit", tier)
        assert said(events(stream)) == STEPS
        whole = post(parrot, path).json()["choices"][0]
        assert whole.get("text", whole.get("message", {}).get("content")) == TEXT
        assert whole["finish_reason"] == "stop"
        forget(parrot, tier)
    assert parrot.backend.calls == 1


def forget(gateway: Gateway, tier: str) -> None:
    """Make the next tier answer."""
    gateway.flushed()
    gateway.parts.tiers._memory.clear()
    if tier != "memory":
        redis_keys_gone(gateway)


def test_a_replay_is_the_stream_again(gateway: Make) -> None:
    """Event by event; only the reply's own head differs, and what the usage says of this reply."""
    parrot = gateway(QUICK)
    asked = {"stream": True, "stream_options": {"include_usage": True}, "n": 2}
    first, second = (post(parrot, **asked) for _ in range(2))
    assert (first.headers["x-askonce-cache"], second.headers["x-askonce-cache"]) == ("miss", "hit")
    old, new = events(first), events(second)
    assert old[0]["id"] != new[0]["id"]
    assert second.headers["x-askonce-origin-id"] == old[0]["id"]
    markers = [event[-2]["usage"].pop("askonce") for event in (old, new)]
    assert [marker["provenance"] for marker in markers] == ["generated", "exact"]
    heads = {"id", "created"}
    assert [strip(event, heads) for event in old] == [strip(event, heads) for event in new]
    assert len({event["id"] for event in new[:-1]}) == 1


def strip(event: Any, names: set[str]) -> Any:
    """An event without some fields."""
    return {name: value for name, value in event.items() if name not in names} if isinstance(event, dict) else event


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_usage_is_sent_only_when_asked_for(gateway: Make, path: str) -> None:
    """In a new stream and in a replayed one, whatever the first asker wanted."""
    parrot = gateway(QUICK)
    for include in (False, True, False, True):
        stream = events(post(parrot, path, stream=True, stream_options={"include_usage": include}))
        assert stream[-1] == "[DONE]"
        found = [event["usage"] for event in stream[:-1] if event.get("usage")]
        assert all(usage.pop("askonce")["provenance"] in {"generated", "exact"} for usage in found)
        usage = {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
        assert found == ([usage] if include else [])
        if include:
            assert stream[-2]["choices"] == []
    assert post(parrot, path).json()["usage"].items() > usage.items()
    assert parrot.backend.calls == 1


def test_two_choices_stream_side_by_side(gateway: Make) -> None:
    """Each with its role, its text and one end, for OpenAI's client as well."""
    parrot = gateway(QUICK)
    for status in ("miss", "hit"):
        reply = post(parrot, stream=True, n=2)
        assert reply.headers["x-askonce-cache"] == status
        stream = events(reply)
        assert said(stream, 0) == said(stream, 1) == STEPS
        choices = [choice for event in stream[:-1] for choice in event["choices"]]
        for index in (0, 1):
            mine = [choice for choice in choices if choice["index"] == index]
            assert mine[0]["delta"]["role"] == "assistant"
            assert [choice["finish_reason"] for choice in mine if choice["finish_reason"]] == ["stop"]
    with parrot.client() as client:
        whole = client.chat.completions.create(**CHATTING, n=2)
        assert [choice.message.content for choice in whole.choices] == [TEXT, TEXT]
        assert post(parrot, stream=True).headers["x-askonce-cache"] == "miss"  # one choice is another question


def test_steps_are_sent_as_they_come(gateway: Make) -> None:
    """Nothing is held back until the answer is complete."""
    parrot = gateway(SLOW.replace("step_delay_s = 0.05", "step_delay_s = 0.2"))
    started = time.monotonic()
    connection = open_request(parrot, stream=True)
    with contextlib.closing(connection):
        read_until(connection, b'"one"')
        assert time.monotonic() - started < 0.9
        read_until(connection, b"[DONE]")
        assert time.monotonic() - started > 1.0


def test_a_text_of_many_odd_characters_streams_exactly(gateway: Make) -> None:
    """Line ends of all kinds, for a client that splits at them too (httpx does)."""
    text = "a\u2028b\u2029c\x85d\r\ne\x00f é漢😀 data: [DONE]"
    parrot = gateway(f"[[line]]\nreply = {json.dumps(text, ensure_ascii=False)}\n")
    with parrot.client() as client:
        for _ in range(2):
            stream = client.chat.completions.create(**CHATTING, stream=True)
            assert "".join(event.choices[0].delta.content or "" for event in stream) == text
