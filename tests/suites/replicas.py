"""Several gateways' flights on one Redis."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import redis.asyncio

from gateway.flights.shared import Joined, SharedFlights
from storage.flights import board
from storage.flights.board import RedisFlights
from storage.flights.record import Timing, Wanted
from tests.suites.speaking import Backend, first

KEY = bytes(range(32))
ROOT = Path(__file__).parents[2]
TIMING = Timing(deadline_s=3.0, patience_s=5.0, lease_s=2.0, landed_s=2.0, silence_s=0.3, gather_s=0.02)
"""Deadlines that a busy machine keeps, and leases that a test can wait for."""


class Replica:
    """The flights of one gateway, and the faults it counted."""

    def __init__(self, url: str, timing: Timing) -> None:
        self.faults: list[tuple[str, str]] = []
        self.board: RedisFlights = board.connect(url, lambda name, doing, _: self.faults.append((name, doing)), timing)
        self.flights = SharedFlights(self.board)
        self.join = self.flights.join

    async def aclose(self) -> None:
        """Stop in order."""
        await self.flights.aclose()
        await self.board.aclose()


class Replicas:
    """Makes gateways, and looks into what they share."""

    def __init__(self, url: str, stack: contextlib.AsyncExitStack) -> None:
        self.url = url
        self._stack = stack

    def one(self, timing: Timing = TIMING, url: str = "") -> Replica:
        """One more."""
        replica = Replica(url or self.url, timing)
        self._stack.push_async_callback(replica.aclose)
        return replica

    async def keys(self) -> dict[str, int]:
        """Everything of flights in Redis, and how many milliseconds it still lasts."""
        async with redis.asyncio.Redis.from_url(self.url) as client:
            names = await client.keys("askonce:1:*")
            return {name.split(b":")[2].decode(): await client.pttl(name) for name in names}

    async def until(self, kinds: set[str], within_s: float = 30) -> float:
        """Wait until there are these kinds of keys and no others: how long that took."""
        started = time.monotonic()
        while (found := await self.keys()).keys() != kinds:
            assert time.monotonic() - started < within_s, found
            await asyncio.sleep(0.01)
        return time.monotonic() - started


@contextlib.asynccontextmanager
async def replicas(url: str) -> AsyncIterator[Replicas]:
    """Replicas on the Redis at `url`, and none of them left behind."""
    async with contextlib.AsyncExitStack() as stack:
        yield Replicas(url, stack)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def led(shared: Replicas, backend: Backend, *said: str) -> Joined:
    """A flight that a gateway of its own leads, its first steps given."""
    joined = await shared.one().join(Wanted(key=KEY), backend.complete)
    assert joined.leads
    await backend.until(lambda backend: backend.calls == 1)
    backend.say(*said)
    assert await first(joined, len(said)) == "".join(said)
    return joined


class Leader:
    """A process of its own that leads a flight."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def say(self, *texts: str) -> None:
        """Have its backend say `texts`, and wait until its listener has heard them."""
        assert self._process.stdin
        assert self._process.stdout
        for text in texts:
            self._process.stdin.write(f"{text}\n".encode())
            assert await self._process.stdout.readline() == f"{text}\n".encode()

    async def kill(self) -> None:
        """SIGKILL: no farewell."""
        self._process.kill()
        await self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid


@contextlib.asynccontextmanager
async def leading(url: str, key: bytes) -> AsyncIterator[Leader]:
    """A process that leads the flight `key`, its backend asked."""
    words = [sys.executable, "-m", "tests.suites.leading", url, key.hex()]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, cwd=ROOT)
    assert process.stdin
    assert process.stdout
    try:
        assert await process.stdout.readline() == b"asked\n"
        yield Leader(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process.stdin.close()
        with contextlib.suppress(ConnectionError):
            await process.stdin.wait_closed()
