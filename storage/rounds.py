"""Something that is done every few seconds until it is over; what is under way then is done to its end."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Rounds:
    """Calls `do` every `every_s` seconds."""

    def __init__(self, do: Callable[[], Awaitable[object]], every_s: float, name: str) -> None:
        self._do = do
        self._every_s = every_s
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=name)

    async def aclose(self) -> None:
        """Wait for the round that is under way; none comes after it."""
        self._over.set()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._every_s)
            if self._over.is_set():
                return
            await self._do()
