"""A server's address in; a connection that says nothing, and ends when the server does: how quickly it may be back."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Final
from urllib.parse import urlsplit

from gateway.routing.replica import Replica

_CONNECT_S: Final = 5.0
_PAUSE_S: Final = 0.5
"""Before the next connection where there is no server."""
_SHORT_S: Final = 1.0
_SHORT_ONES: Final = 3
_REST_S: Final = 60.0
"""A server that ends silent connections at once, so many times in a row, is left in peace for so long."""


async def attended(replica: Replica, url: str) -> None:
    """Have `replica` asked who it is whenever its server may have been replaced. Never returns."""
    short = 0
    while True:
        begun = time.monotonic()
        with contextlib.suppress(OSError, TimeoutError):
            async with _connected(url) as reader:
                replica.expect_since(time.monotonic())
                await reader.read(1)
            replica.doubt()
            await replica.returned()
        short = short + 1 if replica.state == "ready" and time.monotonic() - begun < _SHORT_S else 0
        await asyncio.sleep(_REST_S if short >= _SHORT_ONES else max(0.0, begun + _PAUSE_S - time.monotonic()))


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[asyncio.StreamReader]:
    async with asyncio.timeout(_CONNECT_S):
        if url.startswith("unix:"):
            reader, writer = await asyncio.open_unix_connection(url.removeprefix("unix:"))
        else:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            reader, writer = await asyncio.open_connection(parts.hostname, port)
    try:
        yield reader
    except ConnectionError:  # the end of it, less politely said
        pass
    finally:
        writer.close()
