"""Lines of JSON, cut where a reader that honours U+0085, U+2028 and U+2029 would cut too -> lines cut at \\n alone.

httpx's own splitter, which Ollama's client uses, is such a reader.
"""

from collections.abc import AsyncIterator
from typing import cast

import httpx

# In JSON these characters can only stand inside a string, where the escape means the same.
_ESCAPES = {character.encode(): f"\\u{ord(character):04x}".encode() for character in "\x85\u2028\u2029"}
_BEGINNINGS = {character[:length] for character in _ESCAPES for length in range(1, len(character))}


class UnbrokenLines(httpx.AsyncBaseTransport):
    """`inner`, with those characters of every reply escaped. Asks for replies that are not compressed."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask, and have the reply rewritten as it comes."""
        request.headers["accept-encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        response.stream = _Escaped(cast("httpx.AsyncByteStream", response.stream))
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class _Escaped(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rest = b""
        async for piece in self._inner:
            data = rest + piece
            begun = next((length for length in (2, 1) if data[-length:] in _BEGINNINGS), 0)
            whole, rest = data[: len(data) - begun], data[len(data) - begun :]
            for character, escape in _ESCAPES.items():
                whole = whole.replace(character, escape)
            yield whole
        yield rest

    async def aclose(self) -> None:
        await self._inner.aclose()
