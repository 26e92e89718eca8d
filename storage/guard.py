"""What may fail or hang -> what costs at most its deadline, and then nothing while its breaker is open."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from storage.breaker import Breaker
from storage.entry import Entry
from storage.errors import StorageError

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

    async def put(self, items: Sequence[Entry]) -> None:
        """Keep `items`. Those that are kept already stay as they are."""
        ...

    async def ping(self) -> None:
        """Raise when the tier cannot be used."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


class Guard:
    """Calls to one server: each costs at most its deadline, and nothing while the breaker is open.

    Every fault becomes `StorageError`, and is told to `on_fault`.
    """

    def __init__(self, name: str, on_fault: OnFault, breaker: Breaker | None = None) -> None:
        self._name = name
        self._on_fault = on_fault
        self._breaker = breaker or Breaker()
        self._running: set[asyncio.Future[Any]] = set()

    async def call(self, doing: str, start: Callable[[], Awaitable[T]], deadline_s: float) -> T:
        """What `start()` gives. Raises `StorageError` when it fails, is late, or is not tried at all."""
        if not self._breaker.admits():
            message = f"The {self._name} tier is being left alone after a fault."
            raise StorageError(message)
        # A task of its own: a client library that hangs while it is cancelled must not hold the request.
        task = asyncio.ensure_future(start())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await asyncio.wait({task}, timeout=deadline_s)
        except asyncio.CancelledError:
            _abandon(task)
            raise
        return self._outcome(doing, task, _fault(task, deadline_s))

    def close(self) -> None:
        """End calls that never came back."""
        for task in self._running:
            task.cancel()

    def _outcome(self, doing: str, task: asyncio.Future[T], fault: BaseException | None) -> T:
        if fault is None:
            self._breaker.succeeded()
            return task.result()
        _abandon(task)
        if self._breaker.failed():  # one line a pause, however many calls fail
            _LOG.warning("The %s tier failed (%s: %s); it is left alone for a while", self._name, doing, fault)
        self._on_fault(self._name, doing, fault)
        message = f"The {self._name} tier failed: {fault}"
        raise StorageError(message) from fault


class GuardedTier:
    """`tier`, with every fault turned into `StorageError` within `deadline_s`."""

    def __init__(self, tier: Tier, deadline_s: float, on_fault: OnFault, breaker: Breaker | None = None) -> None:
        self.name = tier.name
        self._tier = tier
        self._deadline_s = deadline_s
        self._guard = Guard(tier.name, on_fault, breaker)

    async def get(self, key: bytes) -> Entry | None:
        """The entry of `key`; None also when the tier cannot be asked in time."""
        try:
            return await self._guard.call("get", lambda: self._tier.get(key), self._deadline_s)
        except StorageError:
            return None

    async def put(self, items: Sequence[Entry]) -> None:
        """Keep `items`. Raises `StorageError`."""
        await self._guard.call("put", lambda: self._tier.put(items), 10 * self._deadline_s)

    async def ping(self) -> None:
        """Raises `StorageError` when the tier cannot be used."""
        await self._guard.call("ping", self._tier.ping, self._deadline_s)

    async def aclose(self) -> None:
        """Let go of connections and of calls that never came back."""
        self._guard.close()
        await self._tier.aclose()


def _abandon(task: asyncio.Future[Any]) -> None:
    task.cancel()
    task.add_done_callback(_seen)


def _fault(task: asyncio.Future[Any], deadline_s: float) -> BaseException | None:
    if not task.done():
        return TimeoutError(f"no answer in {deadline_s} s")
    return ConnectionError("the tier was closed") if task.cancelled() else task.exception()


def _seen(task: asyncio.Future[Any]) -> None:
    """Take note of a late fault, so that it is not reported as never retrieved."""
    if not task.cancelled():
        task.exception()
