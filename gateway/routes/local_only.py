"""A server on loopback is for this machine's programs: web pages of other sites are kept out.

A page can make its visitor's browser send requests to 127.0.0.1, and with a name of its own that resolves there
(DNS rebinding) also read the replies. Both give themselves away in headers that only the browser sets.
"""

from urllib.parse import urlsplit

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.config import LOOPBACK


class LocalOnly:
    """ASGI middleware that answers 403 to requests made for another site."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if reason := foreign(headers.get(b"host", b"localhost"), headers.get(b"origin", b"")):
                await _refuse(send, reason)
                return
        await self._app(scope, receive, send)


def foreign(host: bytes, origin: bytes) -> str | None:
    """Why a request with these headers is not this machine's own; None when it is."""
    name, page = host.decode("latin-1"), origin.decode("latin-1")
    if not _is_local(f"//{name}"):
        return f"This server answers to localhost only, not to the name '{name}'."
    if page and not _is_local(page):
        return f"Pages of {page} may not use this server."
    return None


def _is_local(url: str) -> bool:
    try:
        return (urlsplit(url).hostname or "") in LOOPBACK
    except ValueError:
        return False


async def _refuse(send: Send, reason: str) -> None:
    error = {"message": reason, "type": "invalid_request_error", "param": None, "code": "foreign_origin"}
    body = msgspec.json.encode({"error": error})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-askonce-cache", b"bypass"),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
