"""Entries -> kept, off the reply's way: batches for one tier, retried while it is down, bounded, flushed at the end."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from storage.entry import Entry
from storage.errors import StorageError

BATCH = 64
RETRY_S = 0.5
GATHER_S = 0.02
"""How long the first entry waits for others: one transaction for many is cheaper for everybody."""


class Sink(Protocol):
    """Where a writer writes."""

    name: str

    async def put(self, items: Sequence[Entry]) -> None:
        """Keep `items`, or raise `StorageError`."""
        ...


class Writer:
    """One queue and one task for one tier. When the queue is full the oldest entry is dropped, and counted."""

    def __init__(self, sink: Sink, max_waiting: int, on_drop: Callable[[str], None]) -> None:
        self.name = sink.name
        self._sink = sink
        self._waiting: deque[Entry] = deque(maxlen=max_waiting)
        self._on_drop = on_drop
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._run(), name=f"writer-{sink.name}")

    def put(self, item: Entry) -> None:
        """Have `item` kept soon."""
        if len(self._waiting) == self._waiting.maxlen:
            self._on_drop(self._sink.name)
        self._waiting.append(item)
        self._idle.clear()
        self._news.set()

    async def flush(self, deadline_s: float) -> bool:
        """Wait until everything is kept. False when the deadline comes first."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def aclose(self, deadline_s: float) -> None:
        """Keep what is left, then stop."""
        await self.flush(deadline_s)
        self._task.cancel()
        await asyncio.wait({self._task})
        for _ in self._waiting:
            self._on_drop(self._sink.name)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(GATHER_S)
            while self._waiting:
                await self._write_batch()
            self._idle.set()

    async def _write_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        try:
            await self._sink.put(batch)
        except StorageError:
            self._put_back(batch)
            await asyncio.sleep(RETRY_S)
        except asyncio.CancelledError:
            self._put_back(batch)
            raise

    def _put_back(self, batch: Sequence[Entry]) -> None:
        room = (self._waiting.maxlen or 0) - len(self._waiting)
        lost = max(0, len(batch) - room)
        for _ in batch[:lost]:
            self._on_drop(self._sink.name)
        self._waiting.extendleft(reversed(batch[lost:]))
