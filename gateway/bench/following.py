"""Two gateways that share a Redis in; out, how long a follower of a stream waits for its first word."""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

import msgspec

from gateway.bench import peers, processes
from gateway.bench.processes import BenchError
from gateway.bench.served import CHAT, Place
from storage.embedded.postgres import DATABASE, ROLE

BARE: Final = "bare ASGI stream"
HERE: Final = "the same worker"
ELSEWHERE: Final = "another gateway"
HOW: Final = f"a model of {1 / peers.STEADY_STEP_S:.0f} tokens a second; the bare stream is that model asked directly"
_MOST_HEARD: Final = 20
"""So far the answer is, at most, when the follower comes."""
_TIMEOUT_S: Final = 30.0
_COALESCED: Final = b"\r\nx-askonce-cache: coalesced\r\n"
_BACKENDS: Final = """
[[backends]]
kind = "openai"
model = "{model}"
url = "http://{address}"
"""


def measured(place: Place, data_dir: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds to the first word: of the model asked directly, and of followers where the leader is and elsewhere.

    The first gateway has its Redis and Postgres in the data folder `data_dir`. Raises `BenchError`.
    """
    with ExitStack() as stack:
        steady = stack.enter_context(processes.peer(b"steady", place.cores.servers))
        settings = _BACKENDS.format(model=peers.MODEL, address=steady)
        one = stack.enter_context(place.served(data_dir, _question(stream=False), settings))
        shared = _addresses(one.data_dir) + settings
        other = stack.enter_context(place.served("data-other", _question(stream=False), shared))
        return asyncio.run(_rounds(steady, one.address, other.address, rounds))


def _addresses(data: Path) -> str:
    """The settings with which a gateway uses the servers in another's data folder."""
    sockets = quote(str(data / "run"))
    return (
        f'database_url = "postgresql://{ROLE}@/{DATABASE}?host={sockets}/pg"\nredis_url = "unix://{sockets}/redis.sock"'
    )


async def _rounds(steady: str, one: str, other: str, rounds: int) -> dict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for count in range(-1, rounds):  # the first one is for warming up
        async with _asked(steady, _question()) as asked:
            times = {BARE: await _first_word(asked)}
        for where, address in ((HERE, one), (ELSEWHERE, other)):
            times[where] = await _followed(one, address, 1 + 7 * count % _MOST_HEARD)
        for where, took_ms in times.items() if count >= 0 else ():
            found[where].append(took_ms)
    return found


async def _followed(leader: str, follower: str, heard: int) -> float:
    """How long a follower waits who comes when the leader has heard so many words."""
    question = _question()
    async with asyncio.timeout(_TIMEOUT_S), _asked(leader, question) as leading:
        for _ in range(heard):
            await anext(leading.words)
        async with _asked(follower, question) as following:
            took_ms = await _first_word(following)
            if _COALESCED not in following.head:
                message = f"A follower was not told that it is one: {following.head.decode(errors='replace')}"
                raise BenchError(message)
            return took_ms


class _Asked:
    """A request that was sent, and the words of its reply."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.head = b""
        self.sent_at = time.perf_counter()
        self.words = self._words(reader)

    async def _words(self, reader: asyncio.StreamReader) -> AsyncGenerator[str]:
        self.head = await reader.readuntil(b"\r\n\r\n")
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                event = cast("dict[str, Any]", msgspec.json.decode(line[6:]))
                for choice in event.get("choices", ()):
                    if word := choice["delta"].get("content"):
                        yield word


@asynccontextmanager
async def _asked(address: str, question: dict[str, Any]) -> AsyncGenerator[_Asked]:
    """Ask, and leave at the end of the block."""
    host, _, port = address.rpartition(":")
    body = msgspec.json.encode(question)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        asked = _Asked(reader)
        async with aclosing(asked.words):
            yield asked
    finally:
        writer.close()
        await writer.wait_closed()


async def _first_word(asked: _Asked) -> float:
    async for _ in asked.words:
        return (time.perf_counter() - asked.sent_at) * 1000
    message = f"A stream ended before its first word: {asked.head.decode(errors='replace')}"
    raise BenchError(message)


def _question(*, stream: bool = True) -> dict[str, Any]:
    """A question that nobody has asked."""
    words = {"role": "user", "content": f"Question {secrets.token_hex(8)}: who follows whom?"}
    return {"model": peers.MODEL, "messages": [words], "temperature": 0, "stream": stream}
