"""Work and streams that end when their client leaves."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from litestar.types import Receive, Scope, Send

T = TypeVar("T")


class ClientLeft(Exception):
    """The client closed the connection before the reply was ready."""


async def unless_left(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Cancels it and raises `ClientLeft` as soon as the client is gone."""
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientLeft
        return doing.result()
    finally:
        await _ended(doing, leaving)


class EventStream:
    """An ASGI app that sends server-sent events as they come, and closes their source when the client leaves.

    `source` is what `events` reads from; its first step may have been taken already.
    """

    def __init__(self, headers: Mapping[str, str], events: AsyncGenerator[bytes], source: AsyncGenerator[Any]) -> None:
        self._headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **headers}
        self._events = events
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or stop early."""
        del scope
        sending, leaving = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            await _ended(sending, leaving)
            await self._events.aclose()
            await self._source.aclose()  # events that never began have not closed it

    async def _read(self, waiting: list[bytes], news: asyncio.Event) -> None:
        """Events that come together are sent together: what is ready waits for nothing, and costs one write."""
        async with aclosing(self._events) as events:
            async for event in events:
                waiting.append(event)
                news.set()

    async def _send(self, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        waiting: list[bytes] = []
        news = asyncio.Event()
        reading = asyncio.create_task(self._read(waiting, news))
        reading.add_done_callback(lambda _: news.set())
        try:
            while waiting or not reading.done():
                await news.wait()
                news.clear()
                if waiting:
                    body = b"".join(waiting)
                    waiting.clear()
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            reading.result()
        finally:
            await _ended(reading)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
