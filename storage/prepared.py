"""The digest of a request in; the reply that is prepared for it out, and the entry that it was made of.

All gateways of a Redis share them.

What the bytes of a reply mean, and whether it may be given, is the gateway's affair. Here it is only certain that its
entry is still kept, and still the same.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import msgspec
from redis.exceptions import ResponseError

from storage import lua
from storage.entry import HEAD_BYTES, OVERHEAD_BYTES, Encoded
from storage.errors import StorageError, brief
from storage.exchange import Connections
from storage.guard import Guard, OnFault
from storage.lookups import AT_ONCE, Lookups, Then
from storage.redis import PREFIX as ENTRY
from storage.writer import Writer

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

_LOG = logging.getLogger("askonce")

PREFIX: Final = b"askonce:2:ready:"
"""The number changes when the encoding does."""
_WRITES_TAKE: Final = 10
"""How much longer a write may take than a read."""
_CLOSE_S: Final = 1.0
_KEY_BYTES: Final = 32
_BEGIN: Final = _KEY_BYTES + HEAD_BYTES


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A reply to keep."""

    key: bytes
    """The digest of its request, 32 bytes."""
    entry: bytes
    """The key and the head of the entry."""
    data: bytes

    @classmethod
    def of(cls, digest: bytes, encoded: Encoded, data: bytes) -> "Prepared":
        """`data`, made of this entry."""
        return cls(digest, encoded.key + encoded.data[:HEAD_BYTES], data)

    @property
    def size(self) -> int:
        """What it holds of memory, in bytes."""
        return len(self.data) + OVERHEAD_BYTES


class Given(msgspec.Struct, frozen=True, gc=False):
    """A reply that was kept."""

    data: bytes
    encoded: Encoded
    """Its entry."""


class RedisReplies:
    """Replies under `PREFIX` + digest, beside the entries."""

    name = "redis"

    def __init__(self, client: "Redis", ttl_s: int) -> None:
        self._client = client
        self._connections = Connections(client)
        self._ttl_s = ttl_s
        self._refused = False

    async def get(self, digests: Sequence[bytes]) -> list[Given | None]:
        """The reply of each of `digests`, in one round trip."""
        names = [PREFIX + digest for digest in digests]
        (found,) = await self._connections.exchange([("EVAL", lua.text("prepared"), len(names), *names, ENTRY)])
        if isinstance(found, ResponseError):  # it takes no scripts, perhaps; entries are read without
            if not self._refused:
                self._refused = True
                _LOG.warning("Redis gives no ready replies (%s); they are made from entries.", brief(found))
            return [None] * len(digests)
        return [_given(*pair) for pair in zip(found[::2], found[1::2], strict=True)]

    async def put(self, items: Sequence[Prepared]) -> None:
        """Keep `items`, in one round trip. Raises `StorageError` when one is not taken; all can be made again."""
        replies = await self._connections.exchange(
            [("SET", PREFIX + item.key, item.entry + item.data, "EX", self._ttl_s) for item in items]
        )
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise StorageError(brief(reply).partition(", with args")[0])

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()
        await self._client.aclose()


class Reads(Protocol):
    """Reads from the same server."""

    async def read(self, doing: str, start: Callable[[], Awaitable[T]]) -> T:
        """What `start()` gives. Raises `StorageError` in time."""
        ...


class GuardedReplies:
    """`replies`, read as entries are, by the same `reads`: a Redis that hangs is waited for once."""

    def __init__(
        self,
        replies: RedisReplies,
        reads: Reads,
        deadline_s: float,
        max_bytes: int,
        on_fault: OnFault,
    ) -> None:
        """`max_bytes` of replies may wait to be written, each batch for some `deadline_s`."""
        self.name = replies.name
        self._replies = replies
        self._deadline_s = deadline_s
        self._reads = reads
        self._writes = Guard(replies.name, on_fault, sort="writes of replies")
        self._lookups: Lookups[Given] = Lookups(self._looked, AT_ONCE)
        self.writer = Writer[Prepared](self, max_bytes, _lost)

    def ask(self, digest: bytes, then: Then[Given]) -> None:
        """Have `then` told the reply of this digest, soon."""
        self._lookups.ask(digest, then)

    def keep(self, item: Prepared) -> None:
        """Keep it soon. None is missed that is lost: it can be made again."""
        self.writer.put(item)

    async def put(self, items: Sequence[Prepared]) -> None:
        """Keep `items` now. Raises `StorageError`."""
        await self._writes.call("prepare", lambda: self._replies.put(items), _WRITES_TAKE * self._deadline_s)

    async def aclose(self) -> None:
        """Write what waits, if that takes a moment only, and stop."""
        self._lookups.close()
        await self.writer.aclose(_CLOSE_S)
        self._writes.close()
        await self._replies.aclose()

    async def _looked(self, digests: Sequence[bytes]) -> Sequence[Given | None]:
        return await self._reads.read("prepared", lambda: self._replies.get(digests))


def _lost(name: str) -> None:
    """No answer is lost with it."""
    del name


def _given(reply: bytes | None, entry: bytes | None) -> Given | None:
    if reply is None or entry is None:
        return None
    return Given(reply[_BEGIN:], Encoded(reply[:_KEY_BYTES], entry))
