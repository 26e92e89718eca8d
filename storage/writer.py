"""What waits to be kept -> kept, off the reply's way: batches for one place, retried while it is down, bounded, flushed
at the end.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from storage.errors import RefusedError, StorageError, TooSlowError

BATCH = 64
BATCH_BYTES = 4 * 2**20
"""Both bound a batch, so that large answers too get through within a tier's deadline; one alone may be larger."""
GROWTH = 4
"""Entries more after each batch that got through, where one that did not has halved them."""
TRIES = 3
"""How often an entry that a tier refuses is tried alone before it is dropped."""
RETRY_S = 0.5
GATHER_S = 0.02
"""How long the first entry waits for others: one transaction for many is cheaper for everybody."""

_LOG = logging.getLogger("askonce")


class Item(Protocol):
    """What is to be kept."""

    @property
    def key(self) -> bytes:
        """What the log calls it."""
        ...

    @property
    def size(self) -> int:
        """What it holds of memory, in bytes."""
        ...


T = TypeVar("T", bound=Item)
T_contra = TypeVar("T_contra", bound=Item, contravariant=True)


class Sink(Protocol[T_contra]):
    """Where a writer writes."""

    name: str

    async def put(self, items: Sequence[T_contra]) -> None:
        """Keep `items`.

        Raises `RefusedError` when some of them will never be taken, `TooSlowError` when fewer might have been
        written in time, and `StorageError` when it is worth trying the same again.
        """
        ...


class _Waiting(msgspec.Struct, Generic[T]):
    item: T
    refusals: int = 0


class Writer(Generic[T]):
    """One queue and one task for one tier. What does not fit into `max_bytes` is dropped, oldest first, and counted.

    A batch that is refused or too slow is halved until the entry at fault is alone. That one is set aside until
    nothing else waits, so that it holds up no other; after `TRIES` refusals it is dropped and counted.
    """

    def __init__(
        self, sink: Sink[T], max_bytes: int, on_drop: Callable[[str], None], gather_s: float = GATHER_S
    ) -> None:
        self.name = sink.name
        self._sink = sink
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[_Waiting[T]] = deque()
        self._aside: deque[_Waiting[T]] = deque()
        self._most = BATCH
        self._on_drop = on_drop
        self._gather_s = gather_s
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._run(), name=f"writer-{sink.name}")

    def put(self, item: T) -> None:
        """Have `item` kept soon."""
        if item.size > self._max_bytes:
            self._on_drop(self.name)
            return
        self._waiting.append(_Waiting(item))
        self._bytes += item.size
        self._make_room()
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
        for _ in (*self._aside, *self._waiting):
            self._on_drop(self.name)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(self._gather_s)
            while self._waiting or self._aside:
                if not self._waiting:
                    await asyncio.sleep(RETRY_S)
                await self._write_batch()
            self._idle.set()

    async def _write_batch(self) -> None:
        batch = self._taken()
        try:
            await self._sink.put([waiting.item for waiting in batch])
        except asyncio.CancelledError:
            self._put_back(batch)
            raise
        except (RefusedError, TooSlowError) as error:
            self._narrow(batch, error)
        except StorageError:  # The tier's breaker makes the pauses grow.
            self._put_back(batch)
            await asyncio.sleep(RETRY_S)
        else:
            self._most = min(self._most + GROWTH, BATCH)

    def _taken(self) -> list[_Waiting[T]]:
        """The oldest entries that make a batch; where none but those set aside are left, the first of these."""
        if not self._waiting:
            return [self._popped(self._aside)]
        batch = [self._popped(self._waiting)]
        room = BATCH_BYTES - batch[0].item.size
        while self._waiting and len(batch) < self._most and self._waiting[0].item.size <= room:
            room -= self._waiting[0].item.size
            batch.append(self._popped(self._waiting))
        return batch

    def _narrow(self, batch: Sequence[_Waiting[T]], error: StorageError) -> None:
        """Try fewer next time; an entry that was alone is set aside, or dropped."""
        self._most = max(1, len(batch) // 2)
        if len(batch) > 1:
            self._put_back(batch)
            return
        (waiting,) = batch
        waiting.refusals += isinstance(error, RefusedError)
        if waiting.refusals == TRIES:
            _LOG.warning("The %s tier refuses the answer %s: %s", self.name, waiting.item.key.hex(), error)
            self._on_drop(self.name)
            return
        self._aside.append(waiting)
        self._bytes += waiting.item.size
        self._make_room()

    def _put_back(self, batch: Sequence[_Waiting[T]]) -> None:
        self._waiting.extendleft(reversed(batch))
        self._bytes += sum(waiting.item.size for waiting in batch)
        self._make_room()

    def _make_room(self) -> None:
        while self._bytes > self._max_bytes:
            self._popped(self._aside or self._waiting)
            self._on_drop(self.name)

    def _popped(self, waiting: deque[_Waiting[T]]) -> _Waiting[T]:
        first = waiting.popleft()
        self._bytes -= first.item.size
        return first
