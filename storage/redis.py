"""The tier replicas share: encoded entries in Redis, each with a time to live that a hit does not extend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import redis.asyncio
from redis.exceptions import ResponseError

from storage import entry, lua
from storage.entry import Encoded, Entry
from storage.errors import AddressError, RefusedError, StorageError, brief

if TYPE_CHECKING:
    from redis.asyncio import Redis

_CONNECTIONS = 64
_PATIENCE_S = 10.0

PREFIX = b"askonce:2:entry:"
"""The number changes when the encoding does, so that an old replica's entries are never misread."""


class RedisTier:
    """Entries under `PREFIX` + key."""

    name = "redis"

    def __init__(self, client: "Redis", ttl_s: int) -> None:
        self._client = client
        self._ttl_s = ttl_s

    async def get(self, key: bytes) -> Entry | None:
        """The entry of `key`; None also for bytes that are no entry, or the entry of another key."""
        data: Any = await self._client.get(PREFIX + key)
        try:
            found = entry.opened(data) if data is not None else None
        except msgspec.DecodeError:
            return None
        return found if found and found.query.key == key else None

    async def put(self, items: Sequence[Encoded]) -> None:
        """Keep `items`, in one round trip; each alone, so that some may be kept when this raises.

        Raises `RefusedError` for an item that will never be taken, and `StorageError` while none is: the server is
        full, or read-only, or cannot write its file.
        """
        pipeline = self._client.pipeline(transaction=False)
        for item in items:
            # The whole text each time: Redis knows it by then, and need not be asked whether it does.
            values = (item.data, self._ttl_s, int(item.replaces), *item.over)
            pipeline.execute_command("EVAL", lua.text("keep"), 1, PREFIX + item.key, *values)
        # Not the client's own error: it quotes the command, and so the prompt.
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        refusals = [_refusal(reply) for reply in replies if isinstance(reply, ResponseError)]
        if refusals:
            # What concerns the whole server comes first: nothing is to be dropped for it.
            raise min(refusals, key=lambda refusal: isinstance(refusal, RefusedError))

    async def ping(self) -> None:
        """Raise when the server does not answer."""
        await self._client.ping()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def connect(url: str, ttl_s: int) -> RedisTier:
    """A tier on the server at `url` (`redis://…`, `rediss://…` or `unix://…`). Connects when first used.

    Raises `AddressError`.
    """
    try:
        # Who finds none free waits for one, and its deadline is the tier's: a crowd is no fault of Redis.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url, socket_connect_timeout=2, max_connections=_CONNECTIONS, timeout=_PATIENCE_S
        )
        client = redis.asyncio.Redis.from_pool(pool)
    except ValueError as error:
        message = f"The address of Redis (`redis_url`) is not valid: {error}."
        raise AddressError(message) from error
    return RedisTier(client, ttl_s)


def _refusal(reply: ResponseError) -> StorageError:
    """What a refusal means. `ERR` is Redis' word for a wrong command; its other codes are about the server's state."""
    said = brief(reply).partition(", with args")[0]  # which would be the entry
    wrong = type(reply) is ResponseError and str(reply).startswith("ERR ")
    return RefusedError(said) if wrong else StorageError(said)
