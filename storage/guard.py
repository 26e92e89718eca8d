"""A tier that may fail or hang -> one that costs at most its deadline, and then nothing while its breaker is open."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from storage.breaker import Breaker
from storage.entry import Encoded, Entry
from storage.errors import RefusedError, StorageError, TooSlowError, brief

T = TypeVar("T")

_LOG = logging.getLogger("askonce")
OnFault = Callable[[str, str, BaseException], None]
"""Called with the tier's name, what was tried, and what went wrong."""


class Tier(Protocol):
    """Somewhere entries are kept."""

    name: str

    async def get(self, key: bytes) -> Entry | None:
        """The entry of `key`, or None."""
        ...

    async def put(self, items: Sequence[Encoded]) -> None:
        """Keep `items`. Those that are kept already stay as they are.

        Raises `RefusedError` when some of them will never be taken. Anything else it raises may pass by itself.
        """
        ...

    async def ping(self) -> None:
        """Raise when the tier cannot be used."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


class _Way:
    """A tier's reads, or its writes: their breaker, and what stopped them; a server may be fit for one of both only."""

    def __init__(self, name: str, breaker: Breaker) -> None:
        self.name = name
        self.breaker = breaker
        self.fault = ""

    def succeeded(self) -> None:
        """The server did what it was asked."""
        self.breaker.succeeded()
        self.fault = ""


class GuardedTier:
    """`tier`, with every fault turned into `StorageError` within `deadline_s`. What ails writes does not stop reads."""

    def __init__(
        self, tier: Tier, deadline_s: float, on_fault: OnFault, new_breaker: Callable[[], Breaker] = Breaker
    ) -> None:
        self.name = tier.name
        self._tier = tier
        self._deadline_s = deadline_s
        self._on_fault = on_fault
        self._reads = _Way("reads", new_breaker())
        self._writes = _Way("writes", new_breaker())
        self._running: set[asyncio.Task[Any]] = set()

    async def get(self, key: bytes) -> Entry | None:
        """The entry of `key`; None also when the tier cannot be asked in time."""
        try:
            return await self._bounded(self._reads, "get", self._tier.get(key), self._deadline_s)
        except StorageError:
            return None

    async def put(self, items: Sequence[Encoded]) -> None:
        """Keep `items`.

        Raises `RefusedError` for items that will never be taken, `TooSlowError` when they were too many for the
        deadline, and `StorageError` when the tier cannot be written now.
        """
        await self._bounded(self._writes, "put", self._tier.put(items), 10 * self._deadline_s)

    async def ping(self) -> None:
        """Raises `StorageError` when the tier cannot be read, or could not be written when last tried."""
        await self._bounded(self._reads, "ping", self._tier.ping(), self._deadline_s)
        if self._writes.fault:
            message = f"The {self.name} tier is read, but takes no writes ({self._writes.fault})."
            raise StorageError(message)

    async def aclose(self) -> None:
        """Let go of connections and of calls that never came back."""
        for task in self._running:
            task.cancel()
        await self._tier.aclose()

    async def _bounded(self, way: _Way, doing: str, call: Coroutine[Any, Any, T], deadline_s: float) -> T:
        if not way.breaker.admits():
            call.close()
            message = f"The {self.name} tier is being left alone after a fault ({way.fault})."
            raise StorageError(message)
        # A task of its own: a client library that hangs while it is cancelled must not hold the request.
        task = asyncio.ensure_future(call)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await asyncio.wait({task}, timeout=deadline_s)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        fault = _fault(task, deadline_s)
        if fault is None:
            way.succeeded()
            return task.result()
        self._abandon(task)
        self._on_fault(self.name, doing, fault)
        raise self._named(way, doing, fault) from fault

    def _named(self, way: _Way, doing: str, fault: BaseException) -> StorageError:
        if isinstance(fault, RefusedError):  # the server is well: it is these entries that it will not have
            way.succeeded()
            return RefusedError(str(fault))
        way.fault = brief(fault)
        if way.breaker.failed():  # one line a pause, however many calls fail
            _LOG.warning("The %s tier failed (%s: %s); its %s pause for a while", self.name, doing, way.fault, way.name)
        kind = TooSlowError if isinstance(fault, TimeoutError) else StorageError
        return kind(f"The {self.name} tier failed: {way.fault}")

    def _abandon(self, task: asyncio.Task[T]) -> None:
        task.cancel()
        task.add_done_callback(_seen)


def _fault(task: asyncio.Task[Any], deadline_s: float) -> BaseException | None:
    if not task.done():
        return TimeoutError(f"no answer in {deadline_s} s")
    return ConnectionError("the tier was closed") if task.cancelled() else task.exception()


def _seen(task: asyncio.Task[Any]) -> None:
    """Take note of a late fault, so that it is not reported as never retrieved."""
    if not task.cancelled():
        task.exception()
