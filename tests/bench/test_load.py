"""The load generator: it counts what it should, and never takes a wrong reply for a fast one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from gateway.bench.load import NUMBER, Job, measured

SIZED = b"HTTP/1.1 200 OK\r\nx-askonce-cache: hit\r\ncontent-length: 5\r\n\r\nabcde"
CHUNKED = b"HTTP/1.1 200 OK\r\nx-askonce-cache: hit\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"


@asynccontextmanager
async def answering(pieces: Sequence[bytes], *, close: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """The address of a server that answers every request with `pieces`, and the bodies it was sent."""
    bodies: list[bytes] = []
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            handling.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.001)
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", bodies
    server.close()
    await asyncio.wait(handling, timeout=1)


def job(address: str, **changes: object) -> Job:
    """A job of twenty requests."""
    told: dict[str, object] = {"address": address, "path": "/", "body": '{"a":1}', "seconds": 10, "most": 20} | changes
    return Job(**told)  # type: ignore[arg-type]


@pytest.mark.parametrize("reply", [SIZED, CHUNKED])
@pytest.mark.parametrize("cut", [1, 20, 1000])
async def test_whole_replies_are_counted(reply: bytes, cut: int) -> None:
    """However a reply is cut into pieces, it is one reply."""
    pieces = [reply[at : at + cut] for at in range(0, len(reply), cut)]
    async with answering(pieces) as (address, bodies):
        result = await measured(job(address, most=3, expect="x-askonce-cache: hit"))
    assert (result.requests, result.failed, len(bodies)) == (3, 0, 3)
    assert 0 < result.first_p50_ms <= result.p50_ms <= result.p99_ms


async def test_no_two_requests_are_equal_where_a_number_is_asked_for() -> None:
    """Several clients share one sequence of numbers."""
    async with answering([SIZED]) as (address, bodies):
        await measured(job(address, body=f'{{"a":"{NUMBER}"}}', concurrency=4, first_number=7))
    assert sorted(bodies) == [b'{"a":"%010d"}' % number for number in range(7, 27)]


@pytest.mark.parametrize(
    "reply",
    [SIZED.replace(b"hit", b"miss"), SIZED.replace(b"200 OK", b"503 Service Unavailable")],
    ids=["another tier", "an error"],
)
async def test_an_unexpected_reply_is_a_failure(reply: bytes) -> None:
    """A miss among hits, or an error that came quickly, must not count as a good figure."""
    async with answering([reply]) as (address, _):
        result = await measured(job(address, expect="x-askonce-cache: hit"))
    assert result.failed == result.requests == 20
    assert "HTTP/1.1" in result.last_failure


async def test_a_reply_cut_short_is_a_failure() -> None:
    """It is not counted among the times."""
    async with answering([SIZED[:-1]], close=True) as (address, _):
        result = await measured(job(address, seconds=0.05))
    assert result.requests == 0
    assert result.failed > 0
