"""Small messages between gateways that share a Redis. Nobody waits for them, and nothing breaks when they are lost."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import redis.asyncio

from storage.errors import AddressError, brief

if TYPE_CHECKING:
    from redis.asyncio import Redis

CHANNEL: Final = "askonce:1:gossip"
_RETRY_S: Final = 1.0
_SILENCE_S: Final = 15.0
"""After so long without a word the server is asked whether it is still there, and given as long again."""
_WRITE_S: Final = 1.0
_MAX_WAITING: Final = 1024
_ALONE_S: Final = 0.25
"""Where nobody else listened, nothing is said for so long."""
_LOG = logging.getLogger("askonce")

OnMessage = Callable[[str, bytes], None]
"""Called with the topic and the message. Must not raise."""


class _Said(msgspec.Struct, frozen=True, array_like=True):
    """What one gateway said since it last did."""

    sender: str
    messages: list[tuple[str, bytes]]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Said)


class Gossip:
    """Says things to the others, and calls `on_message` with what they say. While Redis is down both stop."""

    def __init__(self, client: "Redis", on_message: OnMessage, silence_s: float = _SILENCE_S) -> None:
        self._client = client
        self._silence_s = silence_s
        self._on_message = on_message
        self._me = secrets.token_hex(8)
        self._waiting: list[tuple[str, bytes]] = []
        self._alone_until = 0.0
        self._talking: asyncio.Task[None] | None = None
        self.hears = asyncio.Event()
        """Whether it listens now."""
        self._listening = asyncio.create_task(self._listen(), name="gossip")

    def say(self, topic: str, message: bytes) -> None:
        """Tell the others, soon. What cannot be said in time is forgotten."""
        if not self.hears.is_set() or time.monotonic() < self._alone_until:
            return
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append((topic, message))
            if self._talking is None or self._talking.done():
                self._talking = asyncio.create_task(self._talk(), name="gossip-talk")

    async def aclose(self) -> None:
        """Stop listening and talking."""
        tasks = {task for task in (self._listening, self._talking) if task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._client.aclose()

    async def _talk(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # whatever is ready to run may add to it
            said, self._waiting = _Said(self._me, self._waiting), []
            try:
                async with asyncio.timeout(_WRITE_S):
                    listeners = await self._client.publish(CHANNEL, _ENCODER.encode(said))
                if listeners <= 1:  # that is this one
                    self._alone_until = time.monotonic() + _ALONE_S
            except (redis.RedisError, OSError):
                return  # the listener says so, and comes back

    async def _listen(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as heard:
                    await heard.subscribe(CHANNEL)
                    await self._hear(heard)
            except (redis.RedisError, OSError) as error:
                if self.hears.is_set():
                    _LOG.warning("Gateways do not hear of each other until Redis is back (%s)", brief(error))
            finally:
                self.hears.clear()
            await asyncio.sleep(_RETRY_S)

    async def _hear(self, heard: Any) -> None:
        """Pass on what is said. Raises `TimeoutError` when the server does not even answer that it is there."""
        pinged = False
        while True:
            message = await heard.get_message(timeout=self._silence_s)
            if message is None and pinged:
                raise TimeoutError
            if pinged := message is None:
                await heard.ping()
            elif message["type"] == "subscribe":
                self.hears.set()
            elif message["type"] == "message":
                self._take(message["data"])

    def _take(self, data: bytes) -> None:
        try:
            said = _DECODER.decode(data)
        except msgspec.DecodeError:  # another version's
            return
        if said.sender != self._me:
            for topic, content in said.messages:
                self._on_message(topic, content)


def connect(url: str, on_message: OnMessage, silence_s: float = _SILENCE_S) -> Gossip:
    """Gossip over the server at `url`. Connects by itself. Raises `AddressError`."""
    try:
        client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=2)
    except ValueError as error:
        message = f"The address of Redis (`redis_url`) is not valid: {error}."
        raise AddressError(message) from error
    return Gossip(client, on_message, silence_s)
