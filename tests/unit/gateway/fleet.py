"""A gateway's pipeline over servers that can be stopped, started again and made to fail."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from gateway.backends.known import KnownIdentity
from gateway.backends.scripted import Line, Script, Scripted
from gateway.caller import Caller
from gateway.canonical import Description, Identity, Request, Vector
from gateway.config import BackendConfig, ModelConfig
from gateway.errors import BackendError, BackendGone, BackendUnreachable
from gateway.flights.shared import SharedFlights
from gateway.pipeline import Answer, Pipeline
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.entry import Chunk
from tests.unit.gateway.test_pipeline import Shelf, asking

CALLER = Caller(tenant="s")


class Server(Scripted):
    """A backend whose server can be stopped and started again, with other weights if need be."""

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config.replica_name, Script(line=(Line(reply="one two three"),)))
        self.config = config
        self.weights = "w1"
        self.faults: list[BackendError] = []
        self.breaks_after: int | None = None
        self.hold = asyncio.Event()
        self.hold.set()
        self.running = 0
        self.most = 0
        self.partitions: list[str] = []
        self.closed = False
        self.signs = 0
        self.told = KnownIdentity(self._tell, signs=lambda: self.signs)

    def stop(self) -> None:
        """Nothing listens any more."""
        self.faults = [BackendUnreachable(f"Backend '{self.name}' cannot be reached.")] * 10_000
        self.signs += 1

    def start(self, weights: str = "w1") -> None:
        """It listens again."""
        self.faults, self.weights = [], weights

    @property
    def known(self) -> Identity | None:  # type: ignore[override] -- a script's is always known
        """Its kind and weights, as far as it has told them."""
        return self.told.known

    def certain(self) -> bool:
        """Whether it has."""
        return self.told.certain()

    def doubted(self) -> bool:
        """Whether it was stopped since."""
        return self.told.doubted()

    async def identity(self) -> Identity:
        """Who it is."""
        return await self.told.get()

    async def renew(self) -> Identity:
        """The same, asked for now."""
        return await self.told.renew()

    async def described(self) -> Description:
        """Nothing."""
        return Description()

    async def confirms(self, identity: Identity) -> bool:
        """Whether it has been that all the time."""
        return await self.told.confirms(identity)

    async def _tell(self) -> Identity:
        await self.ping()
        return Identity(self.config.kind, "1", self.weights)

    async def ping(self) -> None:
        """Raise when it is not there."""
        if self.faults and isinstance(self.faults[0], BackendUnreachable):
            raise self.faults[0]

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer once it may, unless there is a fault to raise first."""
        if self.faults:
            self.calls += 1
            raise self.faults.pop(0)
        self.partitions.append(request.partition)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.hold.wait()
            async with aclosing(super().complete(request)) as steps:
                count = 0
                async for step in steps:
                    if count == self.breaks_after:
                        raise BackendGone(f"Backend '{self.name}' broke the connection.")
                    count += 1
                    yield step
        finally:
            self.running -= 1

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        """Vectors, unless there is a fault to raise first."""
        if self.faults:
            raise self.faults.pop(0)
        return await super().embed(requests)

    async def aclose(self) -> None:
        """Write it down."""
        await self.told.aclose()
        self.closed = True


class Fleet:
    """A gateway's pipeline over servers made of settings."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.router = Router(self._built)
        self.shelf = Shelf()
        self.pipeline = Pipeline(self.shelf, self.router, SharedFlights())

    def configure(self, *backends: BackendConfig, models: Sequence[ModelConfig] = ()) -> None:
        """Have these."""
        self.router.configure(backends, models)

    async def ask(self, text: str = "Hi", *, stream: bool = False, model: str = "m", **who: Any) -> Answer:
        """Ask, and hear everything."""
        request = msgspec.structs.replace(asking(text), stream=stream, model=model)
        answer = await self.pipeline.answer(request, Caller(**{"tenant": "s"} | who), Steering(), "id")
        async with aclosing(answer.chunks) as steps:
            assert "".join([step.content async for step in steps]) == "one two three"
        return answer

    def _built(self, config: BackendConfig) -> Server:
        server = self.servers[config.replica_name] = Server(config)
        return server


def replica(name: str, kind: Any = "vllm", alias: str = "m", **settings: Any) -> BackendConfig:
    """The settings of one."""
    return BackendConfig(kind=kind, url="http://nowhere", model="x", alias=alias, name=name, **settings)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 -- what changes tells nobody
            await asyncio.sleep(0.005)
