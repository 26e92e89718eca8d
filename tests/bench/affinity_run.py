"""A workload and a way to choose replicas in, what each of them was asked and found in its KV cache out."""

import asyncio
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from gateway import building
from gateway.caller import Caller
from gateway.config import BackendConfig
from gateway.flights.shared import SharedFlights
from gateway.pipeline import Pipeline
from gateway.routing.choosing import ByPrefix, Chooser, Prompt, Say
from gateway.routing.replica import Replica
from gateway.routing.router import Router, Topics
from gateway.steering import Steering
from gateway.wire import openai_chat
from storage.entry import Usage, usage_of
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.bench.workloads import Crowd, Message, Workload, first_of
from tests.suites.marks import nothing_invalidated

MODEL = "gemma-3-askonce"
AT_ONCE = 8
MAX_TOKENS = 16
TOLD_AFTER_S = 0.002
"""How long gateways take to hear of each other."""


class Way(msgspec.Struct, frozen=True):
    """How replicas are chosen."""

    name: str
    choosers: Callable[[Say], Chooser] = ByPrefix
    replicas: int | None = None
    """All of them when None."""
    gateways: int = 1
    """How many there are; each request comes to any of them."""
    gossip: bool = True


class Found(msgspec.Struct):
    """What came of a workload: counts by replica."""

    requests: Counter[str] = msgspec.field(default_factory=Counter)
    prompt_tokens: Counter[str] = msgspec.field(default_factory=Counter)
    cached_tokens: Counter[str] = msgspec.field(default_factory=Counter)
    wall_s: float = 0.0

    def note(self, replica: str, usage: Usage) -> None:
        """Count a request."""
        if usage.cached_tokens is None:
            sys.exit(f"{replica} does not say what it found in its cache.")
        self.requests[replica] += 1
        self.prompt_tokens[replica] += usage.prompt_tokens
        self.cached_tokens[replica] += usage.cached_tokens

    @property
    def cached(self) -> float:
        """The share of all prompt tokens that came from a cache."""
        return self.cached_tokens.total() / self.prompt_tokens.total()

    @property
    def computed(self) -> Counter[str]:
        """The other tokens."""
        return self.prompt_tokens - self.cached_tokens


def imbalance(counted: Counter[str]) -> float:
    """How much the most loaded replica has, over the mean."""
    return max(counted.values()) * len(counted) / counted.total()


class InTurn:
    """A chooser that knows nothing."""

    def __init__(self, say: Say) -> None:
        del say
        self._turns = itertools.count()

    def prompt(self, text: str, scope: str) -> Prompt:
        """Nothing of it matters."""
        del text, scope
        return Prompt((), 0)

    def choose(self, candidates: Sequence[Replica], prompt: Prompt) -> Replica:
        """The next one."""
        del prompt
        return candidates[next(self._turns) % len(candidates)]

    def told(self, prompt: Prompt, usage: Usage) -> None:
        """It makes no difference."""

    def heard(self, message: bytes) -> None:
        """It makes none."""

    def only(self, names: Collection[str]) -> None:
        """It makes none."""

    def forget(self, name: str) -> None:
        """It makes none."""


class Gateway:
    """A pipeline over the real servers that keeps no answers."""

    def __init__(self, urls: Sequence[str], way: Way, say: Topics) -> None:
        self.router = Router(lambda config: building.BUILD[config.kind](config), choosers=way.choosers, say=say)
        self.router.configure([_backend(number, url) for number, url in enumerate(urls[: way.replicas])], ())
        tiers = Tiers(MemoryTier(2**20), [], nothing_invalidated(), lambda _: None)
        self._pipeline = Pipeline(tiers, self.router, SharedFlights())

    async def ask(self, messages: Sequence[Message], scope: str) -> tuple[str, str, Usage]:
        """Who answers, what, and what that took."""
        body = {"model": MODEL, "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
        request = openai_chat.decode(msgspec.json.encode(body))
        steering = Steering(no_cache=True, no_store=True)
        answer = await self._pipeline.answer(request, Caller(tenant=scope), steering, "figures")
        async with aclosing(answer.chunks) as arriving:
            steps = [step async for step in arriving]
        return answer.backend, "".join(step.content for step in steps), usage_of(steps)


async def run(workload: Workload, way: Way, urls: Sequence[str], scope: str, seed: int) -> Found:
    """The whole workload, asked in a scope that nobody else has, so that the caches hold nothing of it."""
    found, chance = Found(), random.Random(seed)
    async with _gateways(urls, way) as gateways:

        async def ask(messages: list[Message]) -> str:
            replica, said, usage = await chance.choice(gateways).ask(messages, scope)
            found.note(replica, usage)
            return said

        crowd, started = Crowd(workload, seed), time.monotonic()
        await asyncio.gather(*(crowd.asks(ask) for _ in range(AT_ONCE)))
        found.wall_s = time.monotonic() - started
    return found


async def isolated(workload: Workload, way: Way, urls: Sequence[str], scope: str, seed: int) -> bool:
    """Whether what was asked in `scope` is in the caches, and not for those who ask in another."""
    async with _gateways(urls, way) as gateways:
        elsewhere, again = [
            (await gateways[0].ask(first_of(workload, seed), one))[2] for one in (f"{scope}-not", scope)
        ]
    return elsewhere.cached_tokens == 0 and bool(again.cached_tokens)


@asynccontextmanager
async def _gateways(urls: Sequence[str], way: Way) -> Any:
    """They hear of each other, if that is the way."""
    loop, made = asyncio.get_running_loop(), list[Gateway]()

    def say(number: int) -> Topics:
        def told(model: str, message: bytes) -> None:
            for other in made:
                if way.gossip and other is not made[number]:
                    loop.call_later(TOLD_AFTER_S, other.router.heard, model, message)

        return told

    made += [Gateway(urls, way, say(number)) for number in range(way.gateways)]
    try:
        yield made
    finally:
        for one in made:
            await one.router.aclose()


def _backend(number: int, url: str) -> BackendConfig:
    given: dict[str, Any] = {"engine_version": "1", "model_version": "bundled"}
    return BackendConfig(kind="vllm", name=f"replica-{number}", model=MODEL, url=url, **given)
