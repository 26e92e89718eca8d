"""Who of several replicas is asked, through the router: those who have the beginning of the prompt."""

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from gateway.config import BackendConfig
from gateway.routing.calling import Asking
from gateway.routing.choosing import ByPrefix
from gateway.routing.replica import Replica
from gateway.routing.router import Router
from storage.entry import Usage
from tests.unit.gateway.fleet import Server
from tests.unit.gateway.test_pipeline import asking

MODEL = "m"
NAMES = ("one", "two", "three")


def config(name: str) -> BackendConfig:
    """One replica's settings."""
    return BackendConfig(kind="openai", name=name, model=MODEL, url=f"http://{name}:8000")


class Gateway:
    """A router over three servers, which can be told what another one says."""

    def __init__(self) -> None:
        self.said: list[tuple[str, bytes]] = []
        self.servers: dict[str, Server] = {}
        self.router = Router(self._built, say=lambda model, message: self.said.append((model, message)))
        self.use(*NAMES)

    def use(self, *names: str) -> None:
        """Have these replicas."""
        self.router.configure([config(name) for name in names], ())

    async def asks(self, prompt: str, scope: str = "acme") -> str:
        """Who answers it."""
        route = await self.router.model(MODEL).first()
        call = route.call(Asking(scope, asyncio.get_running_loop().time()), prompt=prompt)
        async for _ in call.complete(asking("Hi")):
            pass
        return call.backend

    def replica(self, name: str) -> Replica:
        """That one."""
        return next(one for one in self.router.model(MODEL).replicas if one.name == name)

    def _built(self, config: BackendConfig) -> Server:
        server = self.servers[config.replica_name] = Server(config)
        return server


@pytest.fixture
async def gateways() -> Any:
    """Makes them, and closes them in the end."""
    made: list[Gateway] = []

    def one() -> Gateway:
        made.append(Gateway())
        return made[-1]

    yield one
    for gateway in made:
        await gateway.router.aclose()


def text(topic: str, length: int = 2000) -> str:
    """Words on a topic, which no other topic shares."""
    return "".join(f"{topic} {number}, " for number in range(length))[:length]


async def test_the_turns_of_a_conversation_go_to_one_replica(gateways: Any) -> None:
    """Each conversation has one; together they use all."""
    gateway, used = gateways(), Counter[str]()
    for number in range(12):
        prompt = text(f"conversation {number}")
        asked: set[str] = set()
        for turn in range(5):
            asked.add(await gateway.asks(prompt))
            prompt += text(f"turn {turn}", 300)
        assert len(asked) == 1
        used.update(asked)
    assert set(used) == set(NAMES)


async def test_scopes_share_nothing(gateways: Any) -> None:
    """What a replica has computed for one tenant is nothing to another: each is asked anew, wherever that is."""
    gateway = gateways()
    chooser, replicas = gateway.router.model(MODEL).chooser, gateway.router.model(MODEL).replicas
    await gateway.asks(text("a document"), "acme")
    mine, theirs = chooser.prompt(text("a document"), "acme"), chooser.prompt(text("a document"), "other")
    assert not set(mine.blocks) & set(theirs.blocks)
    chooser.choose(replicas, mine)
    chooser.choose(replicas, theirs)
    assert mine.chosen.held == len(mine.blocks)
    assert theirs.chosen.held == 0


async def test_many_scopes_are_spread(gateways: Any) -> None:
    """The same document of many tenants is many documents."""
    gateway = gateways()
    assert {await gateway.asks(text("a document"), f"tenant {number}") for number in range(24)} == set(NAMES)


async def test_a_replica_that_returned_holds_nothing(gateways: Any) -> None:
    """Its cache went with its process."""
    gateway = gateways()
    name = await gateway.asks(text("a document"))
    gateway.servers[name].stop()
    other = await gateway.asks(text("a document"))
    assert other != name
    gateway.servers[name].start()
    await gateway.replica(name).returned()
    assert gateway.replica(name).state == "ready"
    chooser = gateway.router.model(MODEL).chooser
    prompt = chooser.prompt(text("a document"), "acme")
    chooser.choose([gateway.replica(name)], prompt)
    assert prompt.chosen.held == 0


async def test_what_other_gateways_send_counts(gateways: Any) -> None:
    """Who hears of a conversation goes on with it where it is, and who does not hear may not."""
    first, second = gateways(), gateways()
    # Where nobody would look for it: on the one that is not first choice.
    home = await gateways().asks(text("a document"))
    first.use(*(name for name in NAMES if name != home))
    moved = await first.asks(text("a document"))
    assert moved != home
    for model, message in first.said:
        second.router.heard(model, message)
    assert await second.asks(text("a document") + text("a question", 300)) == moved
    assert await gateways().asks(text("a document") + text("a question", 300)) == home


async def test_gateways_say_what_they_have_sent(gateways: Any) -> None:
    """Once for each request, of the model that was asked."""
    gateway = gateways()
    await gateway.asks(text("a document"))
    await gateway.asks(text("another"))
    assert [model for model, _ in gateway.said] == [MODEL, MODEL]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\x00garbage",
        msgspec.msgpack.encode(["one"]),
        msgspec.msgpack.encode(["one", -1, ["x"]]),
        msgspec.msgpack.encode([1, 2, 3]),
        msgspec.msgpack.encode(["unknown", 1, [1, 2, 3]]),
        msgspec.msgpack.encode({"name": "one"}),
    ],
)
async def test_messages_that_make_no_sense_are_ignored(gateways: Any, message: bytes) -> None:
    """Questions are answered as if nothing had been heard."""
    undisturbed, gateway = gateways(), gateways()
    prompts = [text(f"document {number}") for number in range(6)]
    gateway.router.heard(MODEL, message)
    gateway.router.heard("no such model", message)
    assert [await gateway.asks(one) for one in prompts] == [await undisturbed.asks(one) for one in prompts]


@pytest.mark.parametrize("said", [["one", -5, [1, 2, 3]], ["one", 2**40, [1, 2, 3]], ["one", 1, [2**63, -1]]])
async def test_impossible_numbers_do_no_harm(gateways: Any, said: list[Any]) -> None:
    """Conversations stay where they are, those of before and those of after."""
    gateway = gateways()
    before = await gateway.asks(text("before"))
    for _ in range(3):
        gateway.router.heard(MODEL, msgspec.msgpack.encode(said))
    after = await gateway.asks(text("after"))
    assert await gateway.asks(text("before") + text("a question", 600)) == before
    assert await gateway.asks(text("after") + text("a question", 600)) == after


async def test_a_replica_taken_out_of_the_settings_is_forgotten(gateways: Any) -> None:
    """When it is put in again it is another one, and what is heard of it meanwhile is of no use."""
    gateway, other = gateways(), gateways()
    name = await gateway.asks(text("a document"))
    assert await other.asks(text("a document")) == name
    gateway.use(*(one for one in NAMES if one != name))
    assert await gateway.asks(text("a document")) != name
    for model, message in other.said:
        gateway.router.heard(model, message)
    gateway.use(*NAMES)
    chooser = gateway.router.model(MODEL).chooser
    prompt = chooser.prompt(text("a document"), "acme")
    chooser.choose([gateway.replica(name)], prompt)
    assert prompt.chosen.held == 0


def test_what_a_backend_does_not_say_teaches_nothing() -> None:
    """Ollama gives no number of cached tokens: then what it was sent is believed to be there, else what it says."""
    silent, told = ByPrefix(lambda _: None), ByPrefix(lambda _: None)
    replicas: Any = [Replica(Server(config("one")))]
    for chooser, cached_tokens in ((silent, None), (told, 0)):
        for number in (1, 2, 1, 2):
            prompt = chooser.prompt(text(f"document {number}"), "acme")
            chooser.choose(replicas, prompt)
            chooser.told(prompt, Usage(1000, 1, cached_tokens))
        prompt = chooser.prompt(text("document 1"), "acme")
        chooser.choose(replicas, prompt)
        assert prompt.chosen
        assert prompt.chosen.held == (len(prompt.blocks) if chooser is silent else 0)
