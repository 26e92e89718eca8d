"""Replies of many chunks are read to their end, and no chunk costs more than it has to."""

import asyncio

import pytest

from gateway.backends.connections import Connection
from gateway.backends.server import Server
from tests.suites.faulty import Peer, faulty

CHUNK = "x" * 4096


@pytest.mark.parametrize("chunks", [1, 3000])
async def test_a_reader_who_is_slow_misses_nothing(chunks: int) -> None:
    """However much waits for it: the server has to wait then, and goes on when there is room again."""

    async def much(peer: Peer) -> None:
        await peer.head(chunked=True)
        for _ in range(chunks):
            await peer.chunk(CHUNK)
        await peer.say("0\r\n\r\n")

    async with faulty(much) as there:
        server = Server("there", there.url, connect_timeout_s=5)
        read = 0
        async with asyncio.timeout(30), server.asked("/", b"{}") as pieces:
            async for piece in pieces:
                await asyncio.sleep(0.001)
                read += len(piece)
        await server.aclose()
    assert read == chunks * len(CHUNK)


async def test_chunks_that_came_together_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them parses nothing once more."""
    fed: list[int] = []
    receive = Connection.data_received
    monkeypatch.setattr(Connection, "data_received", lambda self, data: fed.append(len(data)) or receive(self, data))

    async def many(peer: Peer) -> None:
        await peer.head(chunked=True)
        await peer.say("1\r\na\r\n" * 100 + "0\r\n\r\n")

    async with faulty(many) as there:
        server = Server("there", there.url, connect_timeout_s=5)
        async with server.asked("/", b"{}") as pieces:
            assert b"".join([piece async for piece in pieces]) == b"a" * 100
        await server.aclose()
    assert 0 < len(fed) < 100
    assert 0 not in fed
