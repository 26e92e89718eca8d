"""Each limit on a backend's time has a code of its own, against real sockets; those on silence are among its faults."""

import asyncio
import contextlib
import socket
import time

import pytest

from gateway.config import ReplicaConfig
from gateway.errors import BackendTimeout
from tests.suites.faulty import Peer
from tests.suites.test_backend_faults import KINDS, PATIENCE_S, SILENCE_S, ask, build, piece, serving


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of backend in turn."""
    return request.param


async def test_the_whole_answer_has_a_limit_too(kind: str) -> None:
    """However steadily it comes."""

    async def endless(peer: Peer, kind: str) -> None:
        await peer.head()
        while True:
            await peer.say(piece(kind, "a"))
            await asyncio.sleep(SILENCE_S / 10)

    settings = ReplicaConfig(total_timeout_s=3 * SILENCE_S)
    async with serving(endless, kind) as server:
        heard, fault, kept = await ask(build(kind, server.url), settings=settings)
    assert type(fault) is BackendTimeout
    assert fault.code == "total_timeout"
    assert len(heard) > 1
    assert kept == []


async def test_a_server_that_takes_no_connection_is_given_up(kind: str) -> None:
    """Its line of those who wait to be let in is full: 504, with a code of its own."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listening.getsockname())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        started = time.monotonic()
        _, fault, kept = await ask(build(kind, url, connect_timeout_s=SILENCE_S))
    assert type(fault) is BackendTimeout
    assert fault.code == "connect_timeout"
    assert kept == []
    assert time.monotonic() - started < PATIENCE_S
