"""Round trips to a real Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from storage.exchange import Connections


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """The client library's own."""
    async with redis.asyncio.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
async def connections(client: redis.asyncio.Redis) -> AsyncIterator[Connections]:
    """To the same server."""
    made = Connections(client)
    yield made
    await made.aclose()


async def test_each_command_has_its_reply(connections: Connections) -> None:
    """In order, bytes as they are, and an error only for the one that is wrong."""
    data = bytes(range(256)) * 1000
    replies = await connections.exchange(
        [("SET", b"a\x00", data, "EX", 60), ("GET", b"a\x00"), ("NONSENSE",), ("MGET", b"a\x00", b"b"), ("STRLEN", "a")]
    )
    assert replies[:2] == [True, data]
    assert isinstance(replies[2], ResponseError)
    assert replies[3:] == [[data, None], 0]


async def test_many_at_once_get_their_own(connections: Connections) -> None:
    """Each has a connection to itself."""
    found = await asyncio.gather(*(connections.exchange([("ECHO", b"%d" % number)]) for number in range(20)))
    assert found == [[b"%d" % number] for number in range(20)]
    assert len(connections._idle) == 20


async def test_a_connection_that_was_closed_meanwhile_is_made_anew(
    connections: Connections, client: redis.asyncio.Redis
) -> None:
    """Nobody hears of it."""
    await connections.exchange([("PING",)])
    await client.client_kill_filter(_type="normal", skipme=True)
    await asyncio.sleep(0.05)
    assert await connections.exchange([("PING",)]) == [True]
    assert len(connections._idle) == 1


async def test_who_leaves_takes_the_connection_along(connections: Connections) -> None:
    """The next one does not hear what was said to another."""
    await connections.exchange([("DEL", "nobody")])
    waiting = asyncio.ensure_future(connections.exchange([("BLPOP", "nobody", 20)]))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await connections.exchange([("ECHO", "me")]) == [b"me"]


async def test_a_server_that_is_not_there_is_an_error() -> None:
    """Of the client library's, as before."""
    async with redis.asyncio.Redis.from_url("unix:///nowhere/redis.sock") as client:
        with pytest.raises(RedisError):
            await Connections(client).exchange([("PING",)])
