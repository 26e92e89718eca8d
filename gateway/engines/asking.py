"""The address of an engine that may not be up yet comes in, a question whether it answers goes out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import httpx

from storage.embedded.running import Answers

_PATIENCE_S: Final = 5.0


@asynccontextmanager
async def answers(url: str, *paths: str) -> AsyncGenerator[Answers]:
    """Whether the server at `url` answers all `paths` with success; for the length of the block."""
    async with opened(url, _PATIENCE_S) as client:

        async def answer() -> bool:
            try:
                for path in paths:
                    if not (await client.get(path)).is_success:
                        return False
            except httpx.TransportError:  # Not listening yet, or not answering.
                return False
            return True

        yield answer


@asynccontextmanager
async def opened(url: str, silence_s: float) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the server at `url`, which may be `unix:` and a socket's path; no proxy stands between."""
    socket = url.removeprefix("unix:") if url.startswith("unix:") else None
    transport = httpx.AsyncHTTPTransport(uds=socket)
    # llama.cpp closes connections without a word: each question has its own.
    headers = {"connection": "close"}
    base = "http://localhost" if socket else url
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=headers, timeout=silence_s) as client:
        yield client
