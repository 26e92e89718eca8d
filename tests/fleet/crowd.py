"""Many clients at once: each asks one question and writes down what it was told, from whom, and when."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterable

import aiohttp
import msgspec

from tests.kills import askers, counting

_BROKEN = (aiohttp.ClientError, ConnectionError)
DEADLINE_S = 60.0


class Told(msgspec.Struct):
    """What one client was told."""

    number: int
    stream: bool
    began: float = 0.0
    ended: float = 0.0
    status: int = 0
    code: str = ""
    """Of the error, if it is one."""
    backend: str = ""
    steps: int = 0
    """How many pieces have come so far."""
    outcome: str = "asking"
    """`whole`, `refused`, `error event`, or `wrong: …` for what no client may ever be told."""


class Crowd:
    """Clients of one gateway."""

    def __init__(self, url: str, first: int = 1) -> None:
        self.told: list[Told] = []
        self._url = f"{url}/v1/chat/completions"
        self._numbers = itertools.count(first)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Crowd":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=aiohttp.ClientTimeout(total=DEADLINE_S)
        )
        return self

    async def __aexit__(self, *gone: object) -> None:
        assert self._session
        await self._session.close()

    async def ask(self, number: int | None = None, *, stream: bool = True) -> Told:
        """Ask one question, a new one unless it is given."""
        assert self._session
        told = Told(next(self._numbers) if number is None else number, stream, began=time.monotonic())
        self.told.append(told)
        try:
            body = counting.question("m", told.number, stream=stream)
            async with self._session.post(self._url, json=body) as reply:
                await _hear(reply, told)
        except TimeoutError:
            told.outcome = f"wrong: nothing for {DEADLINE_S:g} s"
        except _BROKEN as error:
            told.outcome = f"wrong: {type(error).__name__}"
        told.ended = time.monotonic()
        return told

    async def many(self, count: int) -> list[Told]:
        """Ask so many questions at once, every second one streamed."""
        return await asyncio.gather(*(self.ask(stream=place % 2 == 0) for place in range(count)))

    async def until_stopped(self, stop: asyncio.Event, first: int) -> None:
        """Ask one question after the other, every second one streamed."""
        for place in itertools.count(first):
            if stop.is_set():
                return
            await self.ask(stream=place % 2 == 0)


async def _hear(reply: aiohttp.ClientResponse, told: Told) -> None:
    told.status, told.backend = reply.status, reply.headers.get("x-askonce-backend", "")
    if reply.status != 200:
        error = json.loads(await reply.read())["error"]
        told.code = error["code"]
        told.outcome = "refused" if error["message"] and error["type"] else f"wrong: {error}"
        return
    if not told.stream:
        fault = askers.reply_fault(await reply.json(), told.number)
        told.outcome = f"wrong: {fault}" if fault else "whole"
        return
    said, broken = b"", False
    try:
        async for piece in reply.content.iter_any():
            said += piece
            told.steps += 1
    except _BROKEN:
        broken = True
    outcome, fault = askers.judged(said, told.number, broken=broken)
    told.outcome = f"wrong: {outcome} {fault}" if fault or outcome in {"broken off", "cut off", "splice"} else outcome
    if outcome == "error event":
        told.code = json.loads(said.decode().rstrip().rpartition("data: ")[2])["error"]["code"]


def wrong(told: Iterable[Told]) -> list[Told]:
    """Those that no client may ever be told."""
    return [one for one in told if one.outcome.startswith("wrong")]
