"""What a hit costs, counted and not timed: a busy machine counts the same."""

import asyncio
import gc
import json
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.protocol import FastProtocol
from storage import keys
from storage.keys import KeyStore, Wanted
from tests.acceptance.in_thread import MODEL, Gateway

CALLS: Final = 79
"""Python functions entered for one hit that is ready. Whoever needs more of them says here why."""
ELSEWHERE_CALLS: Final = 170
"""For one that another gateway has made ready, where `AT_ONCE` are asked for at once."""
KEPT_CALLS: Final = 570
"""For one that is in memory, and was never asked in these bytes. asyncio's own are among them, and a round trip to
Redis that it has for itself: whether another gateway has made it ready.
"""
OBJECTS: Final = 3
"""What the garbage collector has more to look after, a hit: the timer that ends a connection nobody uses."""
HITS: Final = 50
AT_ONCE: Final = 16


class Wire(asyncio.Transport):
    """A client's end: takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self.last = b""
        self.news: asyncio.Future[None] | None = None

    def reply(self) -> asyncio.Future[None]:
        """Done when the next one is written. Who asks again and again would be counted by how long it takes."""
        self.news = asyncio.get_running_loop().create_future()
        return self.news

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take it."""
        if data.startswith(b"HTTP/1.1 200 "):
            self.written += 1
            self.last = bytes(data)
            if self.news is not None and not self.news.done():
                self.news.set_result(None)

    def is_closing(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to close."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


class Counter:
    """Counts the Python functions entered while it is on."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> "Counter":
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self.calls -= 1  # this one

    def _seen(self, frame: Any, event: str, argument: object) -> None:
        del frame, argument
        self.calls += event == "call"


def request(key: str, text: str, model: bytes = b'"model": ') -> bytes:
    """As OpenAI's client sends it."""
    body = json.dumps({"messages": [{"role": "user", "content": text}], "model": MODEL, "temperature": 0}).encode()
    body = body.replace(b'"model": ', model)
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "Host: 127.0.0.1",
        "Accept-Encoding: gzip, deflate",
        "Connection: keep-alive",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: OpenAI/Python 2.1.0",
        f"Authorization: Bearer {key}",
        "X-Stainless-Async: false",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def key(gateway: Callable[..., Gateway]) -> tuple[Gateway, str]:
    """A gateway where one has to have a key, and a key."""
    patient = {"redis_deadline_s": 60.0}  # on a busy machine what Redis has would be had from memory instead
    served = gateway("[[line]]\nreply = 'one two three'\n", **patient)
    made = served.run(KeyStore(served.parts.invalidations._database).create(Wanted(tenant="acme", scopes=("ask",))))
    served.run(served.parts.access.changed())
    assert keys.identify(made)
    return served, made


async def _connected(served: Gateway) -> tuple[FastProtocol, Wire]:
    config = uvicorn.Config(served.application, http=FastProtocol, lifespan="off", log_level="warning")
    config.load()
    protocol, wire = FastProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def _answered(protocol: FastProtocol, wire: Wire, said: bytes) -> None:
    before = wire.written
    protocol.data_received(said)
    if wire.written == before:
        await wire.reply()
    while not protocol.cycle.response_complete:  # noqa: ASYNC110 -- tells it only so
        await asyncio.sleep(0)


def test_a_ready_hit_enters_few_functions(key: tuple[Gateway, str]) -> None:
    """With a key, a tenant and everything counted; and it leaves nothing behind for the collector."""
    served, made = key
    said = request(made, "Hi")

    async def hits() -> tuple[int, int, bytes]:
        protocol, wire = await _connected(served)
        for _ in range(2):
            await _answered(protocol, wire, said)
        protocol.data_received(said)  # has what is made once made
        gc.collect()
        before = len(gc.get_objects())
        calls: list[int] = []
        for _ in range(HITS):
            with Counter() as counter:
                protocol.data_received(said)
            calls.append(counter.calls)
        left = len(gc.get_objects()) - before
        assert wire.written == HITS + 3
        return min(calls), left, wire.last

    calls, left, last = served.run(hits())
    assert b"x-askonce-tier: memory" in last
    assert calls <= CALLS
    assert left <= OBJECTS * HITS, f"{left / HITS} objects a hit"


def test_a_hit_that_is_ready_elsewhere_enters_not_many(key: tuple[Gateway, str]) -> None:
    """Its part of a round trip to Redis is among them."""
    served, made = key

    async def hits() -> tuple[float, list[Wire]]:
        first, wire = await _connected(served)
        said = request(made, "Hi")
        await _answered(first, wire, said)
        assert await served.parts.prepared.kept.writer.flush(10)
        ends = [await _connected(served) for _ in range(AT_ONCE)]
        calls: list[int] = []
        for _ in range(5):
            served.parts.shelf._ready.clear()
            replies = [wire.reply() for _, wire in ends]
            with Counter() as counter:
                for protocol, _ in ends:
                    protocol.data_received(said)
                for reply in replies:
                    await reply
            calls.append(counter.calls)
        return min(calls) / AT_ONCE, [wire for _, wire in ends]

    calls, wires = served.run(hits())
    assert all(b"x-askonce-tier: redis" in wire.last for wire in wires)
    assert calls <= ELSEWHERE_CALLS


def test_a_kept_hit_enters_not_many(key: tuple[Gateway, str]) -> None:
    """The first time that it is asked in these bytes."""
    served, made = key

    async def hits() -> tuple[int, bytes]:
        protocol, wire = await _connected(served)
        for _ in range(2):
            await _answered(protocol, wire, request(made, "Hi"))
        spaced = [b" " * number for number in range(2, HITS + 2)]
        same = [request(made, "Hi", b'"model":' + spaces) for spaces in spaced]
        calls: list[int] = []
        for said in same:
            with Counter() as counter:
                await _answered(protocol, wire, said)
            calls.append(counter.calls)
        return min(calls), wire.last

    calls, last = served.run(hits())
    assert b"x-askonce-cache: hit" in last
    assert calls <= KEPT_CALLS
