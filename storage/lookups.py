"""Keys in, what is kept under them out, for one tier: what waits together is one round trip."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final, Generic, TypeVar

from storage.errors import StorageError

T = TypeVar("T")

_LOG = logging.getLogger("askonce")

MOST: Final = 128
"""Keys in one round trip: enough to make its cost small for each, and not so many that the first waits for the last."""
AT_ONCE: Final = 2
"""Round trips under way: while one is being read, the next is gathered and sent."""
MANY: Final = 8
"""Keys that are worth a round trip beside another one; fewer wait for it, and cost less together with others."""

Then = Callable[[T | None, Exception | None], None]
"""Told what was found, or why nobody can say."""


class Lookups(Generic[T]):
    """Gathers keys while `at_once` round trips are under way. `look` makes one, and raises `StorageError` in time."""

    def __init__(self, look: Callable[[Sequence[bytes]], Awaitable[Sequence[T | None]]], at_once: int) -> None:
        self._look = look
        self._at_once = at_once
        self._waiting: dict[bytes, list[Then[T]]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._due = False
        self._last = self._seen = 0
        """How many keys were asked for together last, and how many have come since."""

    async def get(self, key: bytes) -> T | None:
        """What is kept under `key`. Raises `StorageError`."""
        waiter: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self.ask(key, partial(_settle, waiter))
        return await waiter

    def ask(self, key: bytes, then: Then[T]) -> None:
        """The same, for who does not wait: `then` is called, not before this returns."""
        self._waiting.setdefault(key, []).append(then)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._start)  # whoever is ready to run may add to it

    def close(self) -> None:
        """End what is under way, and what waits for it: as a failure of the tier, not as if the request were over."""
        for task in self._running:
            task.cancel()
        waiting, self._waiting = self._waiting, {}
        _fail(waiting, StorageError("The tier was closed."))

    def _start(self) -> None:
        self._due = False
        if self._waits_for_others():
            return
        while self._waiting and len(self._running) < (self._at_once if len(self._waiting) >= MANY else 1):
            batch = {key: self._waiting.pop(key) for key in list(islice(self._waiting, MOST))}
            self._last = len(batch)
            task = asyncio.create_task(self._fetch(batch))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _waits_for_others(self) -> bool:
        """Whether more are on their way: many came together last, and each turn of the loop still brings some."""
        came, self._seen = self._seen, len(self._waiting)
        if not came < self._seen < MOST or self._last < MANY:
            self._seen = 0
            return False
        self._due = True
        asyncio.get_running_loop().call_soon(self._start)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _fetch(self, batch: dict[bytes, list[Then[T]]]) -> None:
        try:
            found = await self._look(tuple(batch))
            pairs = list(zip(batch.values(), found, strict=True))
        except asyncio.CancelledError:
            _fail(batch, StorageError("The tier was closed."))
            raise
        except Exception as error:  # noqa: BLE001 -- whoever waits is to hear of it, whatever it is
            _fail(batch, error)
        else:
            for waiting, held in pairs:
                _tell(waiting, held, None)


def _fail(batch: dict[bytes, list[Then[T]]], error: Exception) -> None:
    for waiting in batch.values():
        _tell(waiting, None, error)


def _tell(waiting: list[Then[T]], found: T | None, error: Exception | None) -> None:
    for then in waiting:
        try:
            then(found, error)
        except Exception:  # noqa: BLE001 -- one's mistake is not to keep the others waiting
            _LOG.exception("What was found could not be taken.")


def _settle(waiter: "asyncio.Future[T | None]", found: T | None, error: Exception | None) -> None:
    if waiter.done():  # its request is over
        return
    if error is None:
        waiter.set_result(found)
    else:
        waiter.set_exception(error)
