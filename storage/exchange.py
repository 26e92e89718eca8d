"""Commands to Redis in, their replies out: one round trip on a connection that is kept.

The connections are redis-py's, which knows how they are made. Its pool and its pipelines cost several times what a
round trip does, and those who use this have deadlines and breakers of their own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hiredis import pack_command
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection, ConnectionPool

Command = tuple[str | bytes | int, ...]


class Connections:
    """As many as there are round trips at the same time."""

    def __init__(self, client: "Redis") -> None:
        """`client` knows how they are made, and how replies are read; its own connections are not used."""
        self._pool: ConnectionPool = client.connection_pool
        self._readers: Mapping[Any, Callable[[Any], Any]] = client.response_callbacks
        self._idle: list[AbstractConnection] = []

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each of `commands`, in order; where it is an error, that. One that is cancelled gives its
        connection up.

        Raises what redis-py raises of connections.
        """
        connection = self._idle.pop() if self._idle else self._made()
        try:
            if _has_ended(connection):
                await connection.disconnect(nowait=True)
                await connection.connect()
            await connection.send_packed_command(_packed(commands), check_health=False)
            replies = [await self._reply(connection, command[0]) for command in commands]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return replies

    async def aclose(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    def _made(self) -> "AbstractConnection":
        connection = self._pool.make_connection()
        connection.socket_timeout = None  # who waits knows for how long
        return connection

    async def _reply(self, connection: "AbstractConnection", name: str | bytes | int) -> Any:
        try:
            reply = await connection.read_response(timeout=math.inf)
        except ResponseError as error:
            return error
        read = self._readers.get(name)
        return read(reply) if read else reply


def _packed(commands: Sequence[Command]) -> bytes:
    """As they are sent. redis-py does this in Python, which takes as long as all the rest."""
    return b"".join([pack_command(command) for command in commands])  # pyright: ignore[reportArgumentType] -- hiredis' types say a tuple of one


def _has_ended(connection: "AbstractConnection") -> bool:
    """Whether it is not connected, or was closed by the server since it was used: no fault of this round trip."""
    reader = connection._reader  # type: ignore[reportPrivateUsage] -- to ask it takes longer than the round trip
    return reader is None or reader.at_eof()
