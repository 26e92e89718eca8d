"""A reply that is there at once, sent by ASGI or, in one piece, by who holds the connection."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from litestar.types import Receive, Scope, Send

JSON: Final = {"content-type": "application/json"}
_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Whole:
    """An ASGI app that sends `content`."""

    def __init__(self, content: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        self.status = status
        self._content = content
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del scope, receive
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        headers.append((b"content-length", b"%d" % len(self._content)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self._content, "more_body": False})

    def reply(self, date: bytes) -> bytes:
        """All its bytes, from the status on. `date` is headers as they are sent."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in self._headers.items()]).encode("latin-1")
        status = (_LINES.get(self.status) or f"HTTP/1.1 {self.status} \r\n").encode()
        return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (status, date, lines, len(self._content), self._content)
