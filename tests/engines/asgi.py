"""The few ASGI messages that a test server needs: a body in; JSON, text or a stream of lines out."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


async def read_body(receive: Receive) -> bytes:
    """Collect the request's body."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def wait_until_gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_lines(send: Send, lines: AsyncIterator[dict[str, Any]]) -> None:
    """Send a stream, one JSON object a line."""
    await send_start(send, 200, "application/x-ndjson")
    async for line in lines:
        await send({"type": "http.response.body", "body": encoded(line) + b"\n", "more_body": True})
    await send({"type": "http.response.body"})


async def send_json(send: Send, status: int, value: dict[str, Any]) -> None:
    """Send one JSON object."""
    await send_whole(send, status, JSON, encoded(value))


def encoded(value: dict[str, Any]) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def send_whole(send: Send, status: int, content_type: str, body: bytes) -> None:
    """Send a reply that is there already."""
    await send_start(send, status, content_type)
    await send({"type": "http.response.body", "body": body})


async def send_start(send: Send, status: int, content_type: str) -> None:
    """Send the head of a reply."""
    headers = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
