"""Clients that stay: each asks, hears what it is told to the end, and judges whether that is allowed."""

import asyncio
import itertools
import json
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import msgspec

from tests.kills import counting
from tests.kills.victims import Replica

PATH = "/v1/chat/completions"
WAIT_S = 60.0
_BROKEN = (aiohttp.ClientError, ConnectionError)
_STATUSES = (502, 503)


class Told(msgspec.Struct):
    """What one client was told."""

    gateway: str
    model: str
    number: int
    began: float
    ended: float = float("inf")
    steps: int = 0
    outcome: str = ""
    """`whole`, `error event`, `status 5xx`, `broken off` or `no connection`."""
    wrong: str = ""
    """What no client may ever be told."""
    tier: str = ""


class Askers:
    """Many clients of several gateways; some questions are asked by several at the same time."""

    def __init__(self, replicas: Sequence[Replica], models: Sequence[str], seed: str) -> None:
        self.told: list[Told] = []
        self.asked: dict[tuple[str, int], None] = {}
        """The questions that reached a gateway."""
        self.listening: dict[int, Told] = {}
        """Those who have heard a part of an answer."""
        self._replicas = replicas
        self._models = models
        self._rng = random.Random(seed)
        self._recent: deque[tuple[str, int]] = deque(maxlen=6)
        self._numbers = itertools.count(1)

    def new(self, model: str | None = None) -> tuple[str, int]:
        """A question that nobody has asked, and that others are likely to ask soon."""
        question = (model or self._rng.choice(self._models), next(self._numbers))
        self._recent.append(question)
        return question

    async def ask_until(self, stop: asyncio.Event, session: aiohttp.ClientSession) -> None:
        """Ask one question after the other."""
        while not stop.is_set():
            model, number = self._rng.choice(self._recent) if self._recent and self._rng.random() < 0.5 else self.new()
            refresh = self._rng.random() < 0.05
            whole = self._rng.random() < 0.15
            replica = self._rng.choice(self._replicas)
            told = await self.ask(session, replica, model, number, stream=not whole, refresh=refresh)
            if told.outcome == "no connection":
                await asyncio.sleep(0.2)

    async def ask(self, session: aiohttp.ClientSession, replica: Replica, model: str, number: int, **how: bool) -> Told:
        """Ask once, and write down what came."""
        told = Told(replica.name, model, number, time.monotonic())
        body = counting.question(model, number, stream=how.get("stream", True))
        headers = {"cache-control": "no-cache"} if how.get("refresh") else {}
        try:
            async with session.post(replica.url + PATH, json=body, headers=headers) as reply:
                self.asked[model, number] = None
                told.tier = reply.headers.get("x-askonce-tier", "")
                await self._hear(reply, told, stream=how.get("stream", True))
        except aiohttp.ClientConnectorError:
            told.outcome = "no connection"
        except TimeoutError:
            told.wrong = f"nothing for {WAIT_S:g} s"
        except _BROKEN:
            told.outcome = "broken off"
        finally:
            self.listening.pop(id(told), None)
        told.ended = time.monotonic()
        self.told.append(told)
        return told

    async def until(self, found: Callable[[Told], bool], count: int = 1) -> int:
        """Wait until so many who listen are such; how many listen in all."""
        async with asyncio.timeout(WAIT_S):
            while sum(map(found, self.listening.values())) < count:  # noqa: ASYNC110 -- many tasks change it
                await asyncio.sleep(0.005)
        return len(self.listening)

    async def _hear(self, reply: aiohttp.ClientResponse, told: Told, *, stream: bool) -> None:
        if reply.status != 200:
            told.outcome, told.wrong = f"status {reply.status}", refusal_fault(reply.status, await reply.read())
            return
        if not stream:
            told.outcome, told.wrong = "whole", reply_fault(await reply.json(), told.number)
            return
        said, broken = b"", False
        try:
            async for piece in reply.content.iter_any():
                said += piece
                self.listening[id(told)] = told
        except _BROKEN:
            broken = True
        told.outcome, told.wrong = judged(said, told.number, broken=broken)


def judged(said: bytes, number: int, *, broken: bool) -> tuple[str, str]:
    """What a stream amounts to, and what is wrong with it."""
    *blocks, rest = said.decode(errors="replace" if broken else "strict").split("\n\n")
    stream = [block[6:] if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]
    heard = "".join(_texts(stream))
    if not counting.answer(number).startswith(heard):
        return "splice", f"heard {heard!r}"
    if "[DONE]" in stream:
        said_all = "broken off" if broken else "whole"  # whose gateway dies now misses the end of the transfer alone
        return said_all, _whole_fault(stream, heard, number) or ("more after its end" if rest else "")
    if broken:
        return "broken off", ""
    error = stream[-1].get("error") if stream else None
    if not error or not error.get("message") or rest:
        return "cut off", f"ended without an error or [DONE] after {heard!r}"
    return "error event", ""


def _texts(stream: list[Any]) -> list[str]:
    events = (event for event in stream if isinstance(event, dict))
    return [choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ())]


def _whole_fault(stream: list[Any], heard: str, number: int) -> str:
    """What is wrong with a stream that says it is complete."""
    *events, last = stream
    finishes = [choice["finish_reason"] for event in events for choice in event.get("choices", ())]
    usages = [event["usage"] for event in events if event.get("usage")]
    right = (
        last == "[DONE]"
        and heard == counting.answer(number)
        and [finish for finish in finishes if finish] == ["stop"]
        and [_counts(usage) for usage in usages] == [counts(number)]
    )
    return "" if right else f"[DONE] after {heard!r}, {finishes[-1:]}, {usages}"


def reply_fault(reply: Any, number: int) -> str:
    """What is wrong with a whole reply."""
    (choice,) = reply["choices"]
    right = (
        choice["message"]["content"] == counting.answer(number)
        and choice["finish_reason"] == "stop"
        and _counts(reply["usage"]) == counts(number)
    )
    return "" if right else f"said {reply}"


def refusal_fault(status: int, content: bytes) -> str:
    """What is wrong with a refusal."""
    error = json.loads(content).get("error") or {}
    return "" if status in _STATUSES and error.get("message") and error.get("code") else f"{status}: {content!r}"


def counts(number: int) -> tuple[int, int]:
    """Tokens of the prompt and of the answer to question `number`."""
    return counting.PROMPT_TOKENS, len(counting.steps(number))


def _counts(usage: dict[str, int]) -> tuple[int, int]:
    return usage["prompt_tokens"], usage["completion_tokens"]
