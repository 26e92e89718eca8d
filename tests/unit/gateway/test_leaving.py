"""Work ends when its client leaves, whatever the moment."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from gateway.routes.leaving import ClientLeft, EventStream, unless_left


class Client:
    """The ASGI side of a client that stays until it is told to leave."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.heard: list[dict[str, Any]] = []

    async def receive(self) -> Any:
        """Only ever the news that it has left."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Hear."""
        self.heard.append(message)


class Source:
    """Events, and whether they were closed."""

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.closed = False

    async def events(self) -> AsyncGenerator[bytes]:
        """So many events, or for ever nothing after the first."""
        try:
            yield b"first"
            if self.count is None:
                await asyncio.Event().wait()
            for _ in range(self.count or 0):
                yield b"more"
        finally:
            self.closed = True


async def settled() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def the_rest(started: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """What is still to come."""
    async for event in started:
        yield event


async def test_a_whole_stream_is_sent() -> None:
    """Head, events, end."""
    client, source = Client(), Source(2)
    events = source.events()
    await EventStream({"x": "y"}, events, events)({}, client.receive, client.send)
    assert client.heard[0]["type"] == "http.response.start"
    assert client.heard[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert b"".join(message.get("body", b"") for message in client.heard) == b"firstmoremore"
    assert source.closed


async def test_a_client_who_leaves_midway_closes_the_source() -> None:
    """At once, though nothing comes."""
    client, source = Client(), Source(None)
    events = source.events()
    sending = asyncio.ensure_future(EventStream({}, events, events)({}, client.receive, client.send))
    await settled()
    assert not source.closed
    client.gone.set()
    await sending
    assert source.closed


async def test_a_client_who_left_before_the_stream_began_closes_its_source() -> None:
    """Even one whose first step was awaited before."""
    client, source = Client(), Source(None)
    client.gone.set()
    started = source.events()
    await anext(started)
    await EventStream({}, the_rest(started), started)({}, client.receive, client.send)
    assert source.closed


async def test_work_is_cancelled_when_its_client_leaves() -> None:
    """And its end is waited for."""
    client, ended = Client(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.ensure_future(unless_left(client.receive, work()))
    await settled()
    client.gone.set()
    with pytest.raises(ClientLeft):
        await task
    assert ended.is_set()


async def test_work_that_is_done_is_done() -> None:
    """Its result and its errors come through."""
    client = Client()

    async def fail() -> None:
        raise ValueError("mine")

    assert await unless_left(client.receive, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ValueError, match="mine"):
        await unless_left(client.receive, fail())
