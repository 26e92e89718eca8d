"""A backend that embeds when a test lets it, gateways' embedders on it, and requests for vectors."""

import asyncio
from collections.abc import Callable, Sequence

from gateway.backends.scripted import Scripted
from gateway.caller import Caller
from gateway.canonical import Request, Vector
from gateway.embedding.embedder import Embedder, Vectors
from gateway.errors import BackendRefused
from gateway.flights.shared import SharedFlights
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.entry import Entry
from storage.memory import MemoryTier
from storage.tiers import Tiers
from tests.suites.marks import nothing_invalidated

PLAIN = Steering()
BAD = "bad"
"""An input that the backend refuses, and with it the whole call."""


class Gated(Scripted):
    """Writes down the inputs of each call, and how it ended. While `gate` is closed, calls do not end by themselves."""

    def __init__(self) -> None:
        super().__init__("m")
        self.asked: list[list[str]] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self._changed = asyncio.Event()

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        """Embed, once that is allowed. Raises `BackendRefused` for a bad input."""
        inputs = [request.prompt["input"] for request in requests]
        self.asked.append(inputs)
        self._changed.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if BAD in inputs:
            raise BackendRefused("This cannot be embedded.", status=400)
        return await super().embed(requests)

    async def until(self, reached: Callable[["Gated"], bool]) -> None:
        """Wait for calls to begin."""
        async with asyncio.timeout(30):
            while not reached(self):
                self._changed.clear()
                await self._changed.wait()


class Shelf(Tiers):
    """A gateway's memory tier, without others. `supersede` works as with a database, and is counted."""

    def __init__(self) -> None:
        self.marks = nothing_invalidated()
        self.memory = MemoryTier(2**24)
        super().__init__(self.memory, [], self.marks, lambda _: None)
        self.kept: list[Entry] = []
        self.superseded: list[int] = []
        self.database_is_up = True

    def put(self, entry: Entry) -> bool:
        """Keep."""
        self.kept.append(entry)
        return super().put(entry)

    async def supersede(self, keys: Sequence[bytes], scope: str) -> int | None:
        """Write down how many."""
        self.superseded.append(len(keys))
        return self.epoch if self.database_is_up else None


class Asker:
    """One gateway's embedder."""

    def __init__(self, backend: Scripted, shelf: Shelf | None = None, flights: SharedFlights | None = None) -> None:
        self.shelf = shelf or Shelf()
        self._embedder = Embedder(self.shelf, Router.of({"m": backend}), flights or SharedFlights())

    def ask(self, *texts: str, steering: Steering = PLAIN, reply_id: str = "id") -> "asyncio.Task[Vectors]":
        """A request for the vectors of `texts`, under way."""
        items = [Request(kind="embedding", model="m", prompt={"input": text}, params={}, extra={}) for text in texts]
        return asyncio.create_task(self._embedder.embed(items, Caller(tenant="s"), steering, reply_id))
