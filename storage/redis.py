"""The tier replicas share: encoded entries in Redis, each with a time to live that a hit does not extend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import redis.asyncio
from redis.exceptions import ResponseError

from storage import entry, lua
from storage.entry import Encoded, Held
from storage.errors import AddressError, RefusedError, StorageError, brief
from storage.exchange import Connections

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
        self._connections = Connections(client)
        self._ttl_s = ttl_s

    async def get(self, keys: Sequence[bytes]) -> list[Held | None]:
        """The entry of each of `keys`, in one round trip; None also for bytes that are none, or that of another key:
        those are deleted.
        """
        (values,) = await self._connections.exchange([("MGET", *(PREFIX + key for key in keys))])
        if isinstance(values, ResponseError):
            raise values
        held = [_held(key, data) for key, data in zip(keys, values, strict=True)]
        damaged = [key for key, data, one in zip(keys, values, held, strict=True) if data is not None and one is None]
        if damaged:  # or it would stand in the way of a whole one until its time is over
            await self._connections.exchange([("DEL", *(PREFIX + key for key in damaged))])
        return held

    async def put(self, items: Sequence[Encoded]) -> None:
        """Keep `items`, in one round trip; each alone, so that some may be kept when this raises.

        Raises `RefusedError` for an item that will never be taken, and `StorageError` while none is: the server is
        full, or read-only, or cannot write its file.
        """
        # The whole text each time: Redis knows it by then, and need not be asked whether it does.
        keep = ("EVAL", lua.text("keep"), 1)
        replies = await self._connections.exchange(
            [(*keep, PREFIX + item.key, item.data, self._ttl_s, int(item.replaces), *item.over) for item in items]
        )
        refusals = [_refusal(reply) for reply in replies if isinstance(reply, ResponseError)]
        if refusals:
            # What concerns the whole server comes first: nothing is to be dropped for it.
            raise min(refusals, key=lambda refusal: isinstance(refusal, RefusedError))

    async def ping(self) -> None:
        """Raise when the server does not answer."""
        await self._client.ping()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()
        await self._client.aclose()


def connect(url: str, ttl_s: int) -> RedisTier:
    """A tier on the server at `url`. Connects when first used. Raises `AddressError`."""
    return RedisTier(client(url), ttl_s)


def client(url: str) -> "Redis":
    """Of the server at `url` (`redis://…`, `rediss://…` or `unix://…`). Connects when first used.

    Raises `AddressError`.
    """
    try:
        # Who finds none free waits for one, and its deadline is the tier's: a crowd is no fault of Redis.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url, socket_connect_timeout=2, max_connections=_CONNECTIONS, timeout=_PATIENCE_S
        )
        return redis.asyncio.Redis.from_pool(pool)
    except ValueError as error:
        message = f"The address of Redis (`redis_url`) is not valid: {error}."
        raise AddressError(message) from error


def _held(key: bytes, data: bytes | None) -> Held | None:
    try:
        found = entry.opened(data) if data is not None else None
    except msgspec.DecodeError:
        return None
    return Held(found, Encoded(key, data)) if data and found and found.query.key == key else None


def _refusal(reply: ResponseError) -> StorageError:
    """What a refusal means. `ERR` is Redis' word for a wrong command; its other codes are about the server's state."""
    said = brief(reply).partition(", with args")[0]  # which would be the entry
    wrong = type(reply) is ResponseError and str(reply).startswith("ERR ")
    return RefusedError(said) if wrong else StorageError(said)
