"""A backend that says what a test lets it say, when it lets it; and ways to listen."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from gateway.errors import BackendError
from gateway.flights.shared import Joined
from storage.entry import Chunk

Said = str | Exception | None
"""A step, a fault, or the end."""


class Backend:
    """Counts its calls, and which of them have ended. Each call says what is said to it, or all of `script`."""

    def __init__(self, *script: Said) -> None:
        self.calls = 0
        self.closed = 0
        self._script = script
        self._lines: list[asyncio.Queue[Said]] = []
        self._changed = asyncio.Event()

    async def complete(self) -> AsyncGenerator[Chunk]:
        """Ask."""
        said: asyncio.Queue[Said] = asyncio.Queue()
        for text in self._script:
            said.put_nowait(text)
        self._lines.append(said)
        self.calls += 1
        self._changed.set()
        try:
            while (text := await said.get()) is not None:
                if isinstance(text, Exception):
                    raise text
                yield Chunk(content=text)
        finally:
            self.closed += 1
            self._changed.set()

    def say(self, *texts: Said) -> None:
        """To the call that was made last."""
        for text in texts:
            self._lines[-1].put_nowait(text)

    def say_to_all(self, *texts: Said) -> None:
        """To every call that was made."""
        for line in self._lines:
            for text in texts:
                line.put_nowait(text)

    async def until(self, reached: Callable[["Backend"], bool]) -> None:
        """Wait for calls to begin or end."""
        async with asyncio.timeout(30):
            while not reached(self):
                self._changed.clear()
                await self._changed.wait()


async def text(joined: Joined) -> str:
    """All that is heard."""
    async with aclosing(joined.steps) as steps:
        return "".join([step.content async for step in steps])


async def heard(joined: Joined) -> tuple[str, BackendError | None]:
    """All that is heard, and how it failed."""
    said = ""
    try:
        async with aclosing(joined.steps) as arriving:
            async for step in arriving:
                said += step.content
    except BackendError as error:
        return said, error
    return said, None


async def first(joined: Joined, count: int) -> str:
    """The first so many steps."""
    async with asyncio.timeout(30):
        return "".join([(await anext(joined.steps)).content for _ in range(count)])


async def settled() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)
