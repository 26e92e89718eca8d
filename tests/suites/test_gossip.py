"""Small messages between gateways on a real Redis: heard by the others, lost without harm."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from storage import gossip
from storage.errors import AddressError
from storage.gossip import Gossip
from tests.conftest import Servers
from tests.suites.frozen import frozen


class Ear:
    """One gateway: what it has heard."""

    def __init__(self, url: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._changed = asyncio.Event()
        self.gossip: Gossip = gossip.connect(url, self._hear, silence_s=0.3)

    def _hear(self, topic: str, message: bytes) -> None:
        self.heard.append((topic, message))
        self._changed.set()

    async def until(self, reached: Callable[[list[tuple[str, bytes]]], bool]) -> None:
        """Wait for messages to be heard."""
        async with asyncio.timeout(30):
            while not reached(self.heard):
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def ears(url: str, count: int) -> AsyncIterator[list[Ear]]:
    """Some gateways that all listen."""
    made = [Ear(url) for _ in range(count)]
    try:
        for ear in made:
            async with asyncio.timeout(30):
                await ear.gossip.hears.wait()
        yield made
    finally:
        for ear in made:
            await ear.gossip.aclose()


async def test_everybody_else_hears_it_in_order(redis_url: str) -> None:
    """Not the one who says it."""
    async with ears(redis_url, 3) as (one, two, three):
        for number in range(100):
            one.gossip.say("m", b"%d" % number)
        await two.until(lambda heard: len(heard) == 100)
        await three.until(lambda heard: len(heard) == 100)
        assert two.heard == three.heard == [("m", b"%d" % number) for number in range(100)]
        two.gossip.say("n", b"back")
        await one.until(lambda heard: len(heard) == 1)
        assert one.heard == [("n", b"back")]


async def test_a_redis_that_hangs_is_left_and_found_again(redis_url: str, servers: Servers) -> None:
    """Nothing waits meanwhile; what was said then may be lost, what is said later is not."""
    async with ears(redis_url, 2) as (one, two):
        with frozen(servers.redis_process):
            async with asyncio.timeout(30):
                while one.gossip.hears.is_set() or two.gossip.hears.is_set():
                    one.gossip.say("m", b"into the void")
                    await asyncio.sleep(0.01)
        for ear in (one, two):
            async with asyncio.timeout(30):
                await ear.gossip.hears.wait()
        async with asyncio.timeout(30):
            while ("m", b"again") not in two.heard:  # until it knows that it is not alone
                one.gossip.say("m", b"again")
                await asyncio.sleep(0.05)


async def test_one_that_is_alone_says_little_until_another_comes(redis_url: str) -> None:
    """It costs a gateway that has no others next to nothing."""
    async with ears(redis_url, 1) as (one,):
        said_before = await _published(one)
        for number in range(200):
            one.gossip.say("m", b"%d" % number)
            await asyncio.sleep(0)
        async with ears(redis_url, 1) as (two,):
            async with asyncio.timeout(30):
                while not two.heard:
                    one.gossip.say("m", b"now")
                    await asyncio.sleep(0.05)
            assert two.heard[0] == ("m", b"now")
        assert await _published(one) - said_before < 100


async def _published(ear: Ear) -> int:
    """How many messages the server has been given in all."""
    figures = await ear.gossip._client.info("commandstats")
    return int(figures.get("cmdstat_publish", {}).get("calls", 0))


async def test_strangers_words_are_passed_over(redis_url: str) -> None:
    """Another version's messages, or none of ours at all."""
    async with ears(redis_url, 2) as (one, two):
        await one.gossip._client.publish(gossip.CHANNEL, b"\xc1 not msgpack")
        one.gossip.say("m", b"ours")
        await two.until(lambda heard: len(heard) == 1)
        assert two.heard == [("m", b"ours")]


def test_an_address_that_is_none(redis_url: str) -> None:
    """Says so."""
    del redis_url
    with pytest.raises(AddressError, match="redis_url"):
        gossip.connect("nonsense", lambda *_: None)
