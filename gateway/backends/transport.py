"""httpx's requests over aiohttp's connections: its parser is compiled, and hands on all that one read brings together.

A model's stream is many tiny pieces, each of which httpx's own transport turns into an event, in Python: that was most
of what a miss cost. The adapter is `httpx-aiohttp`; here its errors get the meaning httpx documents.
"""

import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

MAX_CONNECTIONS = 1024
IDLE_S = 4.0
"""Shorter than the 5 seconds after which uvicorn, and so vLLM, closes an idle connection."""

_MEANINGS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientConnectionError, httpx.ReadError),
    (aiohttp.ClientError, httpx.RemoteProtocolError),
)
"""The first that fits counts; later ones are base classes of earlier ones."""


class Transport(httpx.AsyncBaseTransport):
    """Connections to one server, over TCP, TLS or the unix socket `uds`. They are made when first used."""

    def __init__(self, uds: str | None = None, *, tls: bool = False) -> None:
        self._uds = uds
        self._tls = tls
        self._inner = AiohttpTransport(verify=False, client=self._session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; return once the head of its reply is here. Raises httpx's errors."""
        try:
            response = await self._asked(request)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            # Most likely an idle connection that the server was about to close. No byte of a reply has come, and a
            # completion changes nothing on the server, so it is asked once more.
            response = await self._asked(request)
        response.stream = _Stream(cast("httpx.AsyncByteStream", response.stream))
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _asked(self, request: httpx.Request) -> httpx.Response:
        with _translated():
            return await self._inner.handle_async_request(request)

    def _session(self) -> aiohttp.ClientSession:
        if self._uds:
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(
                self._uds, limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_S
            )
        else:
            context = ssl.create_default_context() if self._tls else True
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_S, ssl=context)
        return aiohttp.ClientSession(connector=connector)


class _Stream(httpx.AsyncByteStream):
    """A reply's body, its errors translated."""

    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        with _translated():
            async for piece in self._inner:
                yield piece

    async def aclose(self) -> None:
        """Keep the connection when the reply was read to its end; cut it otherwise."""
        await self._inner.aclose()


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except (httpx.HTTPError, aiohttp.ClientError) as error:
        # The adapter takes every lost connection for a time-out, so what it wraps is looked at.
        cause = error.__cause__ if isinstance(error, httpx.HTTPError) else error
        meaning = next((ours for theirs, ours in _MEANINGS if isinstance(cause, theirs)), None)
        if meaning is None:
            raise
        raise meaning(str(cause) or type(cause).__name__) from error
