"""Steps of an answer that came at the same time are handed on together, or one after the other to those who want it so.

What a backend says comes in pieces of the network's making. All steps of a piece go through the gateway as one: none
waits for another, and each layer is passed once for all of them.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from gateway.errors import BackendError
from storage.entry import Chunk

Batches = AsyncGenerator[Sequence[Chunk]]
"""Steps as they came: each item has at least one."""


class Steps(AsyncGenerator[Chunk, None]):
    """The steps of `batches`, one after the other. Closing it closes them."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._had: deque[Chunk] = deque()

    def rest(self) -> Batches:
        """What was not taken yet, as it came; to be taken and closed in place of this."""
        return _after(list(self._had), self._batches) if self._had else self._batches

    async def __anext__(self) -> Chunk:
        had = self._had
        while not had:
            had.extend(await anext(self._batches))
        return had.popleft()

    async def asend(self, value: None) -> Chunk:
        """The next step."""
        del value
        return await anext(self)

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> Chunk:
        """Leave, and raise."""
        await self.aclose()
        raise typ if val is None else val

    async def aclose(self) -> None:
        """Leave."""
        self._had.clear()
        await self._batches.aclose()


def together(steps: AsyncGenerator[Chunk]) -> Batches:
    """The same steps as they came, to be taken and closed in place of `steps`; those of other generators come alone."""
    return steps.rest() if isinstance(steps, Steps) else _alone(steps)


async def heard(batches: Batches, hear: Callable[[Chunk], Chunk | None]) -> Batches:
    """What `hear` makes of each step. Where it raises a `BackendError`, the steps before that are given first.

    `batches` is left open.
    """
    async for some in batches:
        given, fault = until_fault(map(hear, some))
        if given:
            yield given
        if fault is not None:
            raise fault


def until_fault(steps: Iterable[Chunk | None]) -> tuple[list[Chunk], BackendError | None]:
    """All of `steps` that are any, and the fault that they end with."""
    given: list[Chunk] = []
    try:
        for step in steps:
            if step is not None:
                given.append(step)  # noqa: PERF401 -- what comes before a fault is not to be lost
    except BackendError as error:
        return given, error
    return given, None


async def _alone(steps: AsyncGenerator[Chunk]) -> Batches:
    async with aclosing(steps):
        async for step in steps:
            yield (step,)


async def _after(had: Sequence[Chunk], batches: Batches) -> Batches:
    async with aclosing(batches):
        yield had
        async for some in batches:
            yield some
