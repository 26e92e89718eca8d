"""Work and streams that end when their client leaves."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

from litestar.types import Receive, Scope, Send

T = TypeVar("T")


STREAM: Final = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
"""Headers of every stream of events, unless it says otherwise."""


class ClientLeft(Exception):
    """The client closed the connection before the reply was ready."""


async def unless_left(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`. Cancels it and raises `ClientLeft` as soon as the client is gone."""
    watch = _Watch(asyncio.ensure_future(_left(receive)))
    try:
        result = await work
    except asyncio.CancelledError:
        if watch.has_cancelled():
            raise ClientLeft from None
        raise
    finally:
        watch.end()
    if watch.has_cancelled():  # it was to end, and did so in its own way
        raise ClientLeft
    return result


class _Watch:
    """Cancels the task that made it once `leaving` is done. What `asyncio.timeout` is for time."""

    def __init__(self, leaving: "asyncio.Task[None]") -> None:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._leaving = leaving
        self._cancelled = self._ended = False
        leaving.add_done_callback(self._gone)

    def has_cancelled(self) -> bool:
        """Whether it was this that cancelled the task, and nobody else; to be asked once."""
        return self._cancelled and self._task is not None and self._task.uncancel() <= self._cancelling

    def end(self) -> None:
        """Watch no longer."""
        self._ended = True
        self._leaving.cancel()

    def _gone(self, leaving: "asyncio.Task[None]") -> None:
        if self._ended or self._task is None or leaving.cancelled():
            return
        self._cancelled = True
        self._task.cancel()


class EventStream:
    """An ASGI app that sends server-sent events as they come, and closes their source when the client leaves.

    `source` is what `events` reads from; its first step may have been taken already.
    """

    def __init__(self, headers: Mapping[str, str], events: AsyncGenerator[bytes], source: AsyncGenerator[Any]) -> None:
        self._headers = [(name.encode(), value.encode()) for name, value in (STREAM | dict(headers)).items()]
        self._events = events
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or stop early."""
        del scope
        try:
            with contextlib.suppress(ClientLeft):
                await unless_left(receive, self._send(send))
        finally:
            await self._events.aclose()
            await self._source.aclose()  # events that never began have not closed it

    async def _read(self, waiting: list[bytes], news: asyncio.Event) -> None:
        """Events that come together are sent together: what is ready waits for nothing, and costs one write."""
        async with aclosing(self._events) as events:
            async for event in events:
                waiting.append(event)
                news.set()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        if first := await anext(self._events, b""):  # it is there already: no other task is needed for it
            await send({"type": "http.response.body", "body": first, "more_body": True})
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
