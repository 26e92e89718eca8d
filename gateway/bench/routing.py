"""What the router adds to a request: in this process, over backends that answer at once."""

import cProfile
import io
import pstats
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import msgspec
import uvloop

from gateway import asking
from gateway.canonical import Description, Identity, Request, Vector
from gateway.config import BackendConfig
from gateway.routing.calling import Asking
from gateway.routing.router import Router
from storage.entry import Chunk, Usage

REPLICAS: Final = 3
MODEL: Final = "m"
_CALLS: Final = 2000
_LINES: Final = 12
_QUESTION: Final = Request(kind="chat", model=MODEL, prompt={"messages": []}, params={}, extra={})
_PROMPT: Final = '{"messages":[{"content":"' + "All work and no play makes Jack a dull boy. " * 100
"""What is looked at to choose who has computed it already: 4 KB, a system prompt and some turns."""


class Cost(msgspec.Struct, frozen=True):
    """Microseconds a request, medians of several rounds."""

    adds_us: float
    """Finding the group, choosing a replica, judging it, and seeing that no step is late."""
    finding_us: float
    """Of that, finding the group that answers."""
    profile: str
    """Where the time goes."""


class _Ready:
    """A backend whose answer is one step."""

    def __init__(self, config: BackendConfig) -> None:
        self.name = config.replica_name

        self.known = Identity("ready", "1", "w")

    def certain(self) -> bool:
        return True

    def doubted(self) -> bool:
        return False

    async def identity(self) -> Identity:
        return self.known

    async def renew(self) -> Identity:
        return self.known

    async def described(self) -> Description:
        """Nothing."""
        return Description()

    async def confirms(self, identity: Identity) -> bool:
        return identity == self.known

    async def ping(self) -> None:
        pass

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        del request
        yield Chunk(content="a", finish_reason="stop")
        yield Chunk(usage=Usage(1, 1))

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        return [Vector(b"", 0) for _ in requests]

    async def aclose(self) -> None:
        pass


def measured(rounds: int) -> Cost:
    """What a request costs. The same backend asked directly is subtracted."""
    return uvloop.run(_measured(rounds))


async def _measured(rounds: int) -> Cost:
    router = Router(_Ready)
    urls = [f"http://replica-{number}:8000" for number in range(REPLICAS)]
    router.configure([BackendConfig(kind="openai", model=MODEL, url=url, model_version="w") for url in urls], ())
    direct = _Ready(BackendConfig(kind="openai", model=MODEL, url=urls[0]))
    try:
        await _routed(router)
        added: list[float] = []
        found: list[float] = []
        for _ in range(rounds):
            alone, through = await _timed(partial(_direct, direct)), await _timed(partial(_routed, router))
            found.append(await _timed(partial(_found, router)))
            added.append(through - alone)
        profile = cProfile.Profile()
        with profile:
            await _timed(partial(_routed, router))
    finally:
        await router.aclose()
    return Cost(statistics.median(added), statistics.median(found), _lines(profile))


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    """Microseconds for one of many."""
    started = time.process_time()
    for _ in range(_CALLS):
        await work()
    return (time.process_time() - started) / _CALLS * 1e6


async def _direct(backend: _Ready) -> None:
    async with aclosing(asking.asked(backend, _QUESTION)) as steps:
        async for _ in steps:
            pass


async def _found(router: Router) -> None:
    async with aclosing(router.model(MODEL).ranks()) as ranks:
        async for rank in ranks:
            if rank.asked(_PROMPT, "s"):
                return


async def _routed(router: Router) -> None:
    question = Asking("s", time.monotonic())
    async with aclosing(router.model(MODEL).ranks()) as ranks:
        async for rank in ranks:
            route = rank.asked(_PROMPT, "s")[0]
            call = route.call(question, prompt=_PROMPT)
            async with aclosing(call.complete(_QUESTION)) as steps:
                async for _ in steps:
                    pass
            await call.unchanged()
            return


def _lines(profile: cProfile.Profile) -> str:
    """The functions that take longest, by their own time."""
    said = io.StringIO()
    pstats.Stats(profile, stream=said).strip_dirs().sort_stats("tottime").print_stats(_LINES)
    return "\n".join(line for line in said.getvalue().splitlines() if line.strip())
