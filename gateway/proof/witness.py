"""Those who are asked again: a group of backends in, what it says now out, and who it is."""

import time
from contextlib import aclosing

from gateway import asking
from gateway.canonical import Identity, Request, Vector
from gateway.routing.calling import Asking, Call
from gateway.routing.route import Route
from storage.entry import Chunk


class Witness:
    """One group of backends, asked for one verification."""

    def __init__(self, route: Route, scope: str) -> None:
        self._route = route
        self._scope = scope
        self._last: Call | None = None

    async def heard(self, request: Request) -> list[Chunk]:
        """The steps of a whole answer. Raises `BackendError`."""
        call = self._call()
        async with aclosing(call.complete(request)) as steps:
            return [step async for step in steps]

    async def vector(self, request: Request) -> Vector:
        """An embedding. Raises `BackendError`."""
        call = self._call()
        (vector,) = await call.embed([request])
        asking.sound(vector, call.backend)
        return vector

    async def identity(self) -> Identity:
        """Who it was that answered last."""
        if self._last is None or self._last.replica is None:
            return self._route.identity
        await self._last.unchanged()
        return self._last.replica.backend.known or self._route.identity

    def _call(self) -> Call:
        self._last = self._route.call(Asking(self._scope, time.monotonic()))
        return self._last
