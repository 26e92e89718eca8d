"""What may fail or hang -> what costs at most its deadline, and then nothing while its breaker is open."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from storage.breaker import Breaker
from storage.entry import Encoded, Held
from storage.errors import RefusedError, StorageError, TooSlowError, brief
from storage.lookups import AT_ONCE, Lookups
from storage.patience import done_within

T = TypeVar("T")

_LOG = logging.getLogger("askonce")
OnFault = Callable[[str, str, BaseException], None]
"""Called with the tier's name, what was tried, and what went wrong."""


class Tier(Protocol):
    """Somewhere entries are kept."""

    name: str

    async def get(self, keys: Sequence[bytes]) -> Sequence[Held | None]:
        """The entry of each of `keys`, or None."""
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


class Guard:
    """Calls to one server, or those of one sort: each costs its deadline at most, nothing while the breaker is open.

    Every fault becomes `StorageError`, and is told to `on_fault`. `sort` is what these calls are called in the log.
    """

    def __init__(self, name: str, on_fault: OnFault, breaker: Breaker | None = None, *, sort: str = "calls") -> None:
        self.fault = ""
        """What stopped the last call; empty once one has succeeded."""
        self._name = name
        self._on_fault = on_fault
        self._breaker = breaker or Breaker()
        self._sort = sort
        self._running: set[asyncio.Future[Any]] = set()

    async def call(self, doing: str, start: Callable[[], Awaitable[T]], deadline_s: float) -> T:
        """What `start()` gives.

        Raises `RefusedError` as the server does, `TooSlowError` after the deadline, and `StorageError` when the call
        fails in another way or is not tried at all.
        """
        if not self._breaker.admits():
            message = f"The {self._name} tier is being left alone after a fault ({self.fault})."
            raise StorageError(message)
        # A task of its own: a client library that hangs while it is cancelled must not hold the request.
        task = asyncio.ensure_future(start())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await done_within(task, deadline_s)
        except asyncio.CancelledError:
            _abandon(task)
            raise
        fault = _fault(task, deadline_s)
        if fault is None:
            self._succeeded()
            return task.result()
        _abandon(task)
        self._on_fault(self._name, doing, fault)
        raise self._named(doing, fault) from fault

    def close(self) -> None:
        """End calls that never came back."""
        for task in self._running:
            task.cancel()

    def _succeeded(self) -> None:
        self._breaker.succeeded()
        self.fault = ""

    def _named(self, doing: str, fault: BaseException) -> StorageError:
        if isinstance(fault, RefusedError):  # the server is well: it is these entries that it will not have
            self._succeeded()
            return type(fault)(str(fault))
        self.fault = brief(fault)
        if self._breaker.failed():  # one line a pause, however many calls fail
            _LOG.warning(
                "The %s tier failed (%s: %s); its %s pause for a while", self._name, doing, self.fault, self._sort
            )
        kind = TooSlowError if isinstance(fault, TimeoutError) else StorageError
        return kind(f"The {self._name} tier failed: {self.fault}")


class GuardedTier:
    """`tier`, with every fault turned into `StorageError` within `deadline_s`. What ails writes does not stop reads."""

    def __init__(
        self, tier: Tier, deadline_s: float, on_fault: OnFault, new_breaker: Callable[[], Breaker] = Breaker
    ) -> None:
        self.name = tier.name
        self._tier = tier
        self._deadline_s = deadline_s
        self._reads = Guard(tier.name, on_fault, new_breaker(), sort="reads")
        self._writes = Guard(tier.name, on_fault, new_breaker(), sort="writes")
        self._lookups: Lookups[Held] = Lookups(self._looked, AT_ONCE)

    async def get(self, key: bytes) -> Held | None:
        """The entry of `key`; None also when the tier cannot be asked in time."""
        return await self.sought(key)

    def sought(self, key: bytes) -> "asyncio.Future[Held | None]":
        """The same, asked for now; it need not be awaited."""
        future: asyncio.Future[Held | None] = asyncio.get_running_loop().create_future()
        self._lookups.ask(key, partial(_settle, future))
        return future

    async def read(self, doing: str, start: Callable[[], Awaitable[T]]) -> T:
        """What `start()` reads from the same server: what ails one sort of reads ails all. Raises as `Guard.call`."""
        return await self._reads.call(doing, start, self._deadline_s)

    async def put(self, items: Sequence[Encoded]) -> None:
        """Keep `items`.

        Raises `RefusedError` for items that will never be taken, `TooSlowError` when they were too many for the
        deadline, and `StorageError` when the tier cannot be written now.
        """
        await self._writes.call("put", lambda: self._tier.put(items), 10 * self._deadline_s)

    async def ping(self) -> None:
        """Raises `StorageError` when the tier cannot be read, or could not be written when last tried."""
        await self._reads.call("ping", self._tier.ping, self._deadline_s)
        if self._writes.fault:
            message = f"The {self.name} tier is read, but takes no writes ({self._writes.fault})."
            raise StorageError(message)

    async def aclose(self) -> None:
        """Let go of connections and of calls that never came back."""
        self._lookups.close()
        self._reads.close()
        self._writes.close()
        await self._tier.aclose()

    async def _looked(self, keys: Sequence[bytes]) -> Sequence[Held | None]:
        return await self.read("get", lambda: self._tier.get(keys))


def _settle(future: "asyncio.Future[Held | None]", found: Held | None, error: Exception | None) -> None:
    if not future.done():
        if error is None or isinstance(error, StorageError):
            future.set_result(found)
        else:
            future.set_exception(error)


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
