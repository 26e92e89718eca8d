"""What comes of a run -> rows, while the run goes on; and whether somebody wants it to end."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec

from storage.errors import RefusedError, StorageError
from storage.extracted import Call, Outcome, Run, RunStatus

_LOG = logging.getLogger("askonce")

_BEAT_S: Final = 2.0
"""How often a run says that it is there, and hears whether it is to end."""
_UNDER_WAY: Final = ("in_progress", "cancelling")
_AT_ONCE: Final = 32
"""Chunks of one commit: many rows are a while on the loop."""
_GATHERED_S: Final = 0.2
"""How long the calls of a chunk wait for those of others, to be kept with them."""
_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
"""Shorter than the silence after which a run is anybody's."""
_GIVEN_UP_S: Final = 600.0
"""A database that is away for longer at the end of a run is not waited for any more."""
_MOST: Final = 256
"""Ends of runs that wait for the database."""
_LAST_S: Final = 3.0
"""How long a reply waits for the end of its run to be kept."""


class Store(Protocol):
    """Where runs are kept."""

    async def commit(self, run_id: str, calls: Sequence[Call], worker: str) -> RunStatus | None:
        """Keep calls and their records; the run's status now, and None where it is not this worker's."""
        ...

    async def end(self, run_id: str, outcome: Outcome, worker: str) -> RunStatus | None:
        """End a run; its status now, and None where it is not this worker's."""
        ...


class Endings:
    """Runs that have ended, and are not kept whole yet."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def are_many(self) -> bool:
        """Whether no more of them should be waited for: each has all that its run found."""
        return len(self._tasks) > _MOST

    def begun(self, task: asyncio.Task[None]) -> None:
        """One more is being kept by `task`."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Wait for them a while. What is not kept then can be resumed."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=_LAST_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class Keeping(msgspec.Struct, frozen=True):
    """How a run is kept."""

    store: Store
    endings: Endings
    begin: Callable[[], Awaitable[None]] | None = None
    """Keeps the run itself, where that is still to be done: beside the first questions."""


class Keeper:
    """Keeps one run. Nobody waits for it before the end; what the database does not take now it is given again."""

    def __init__(self, keeping: Keeping, run: Run, end: Callable[[], None]) -> None:
        """`end` is called once when the run is to end, because somebody wants it or deleted it."""
        self.is_whole = False
        """Whether all of it is kept: to be asked at the end."""
        self.status: RunStatus | None = None
        """What it ended as, once that is kept: somebody may have ended it otherwise."""
        self._lost = False
        self._begin = keeping.begin
        self._store = keeping.store
        self._endings = keeping.endings
        self._run_id = run.id
        self._worker = run.worker
        self._end = end
        self._waiting: list[tuple[Call, ...]] = []
        self._news = asyncio.Event()
        if self._begin:
            self._news.set()
        self._over = asyncio.Event()
        self._settled = asyncio.Event()
        self._task = asyncio.create_task(self._keep())

    def put(self, calls: tuple[Call, ...]) -> None:
        """Keep the calls of a chunk: all of it."""
        self._waiting.append(calls)
        self._news.set()

    async def close(self, outcome: Outcome) -> None:
        """Keep what waits, and that the run has ended. Nobody waits for a database that is away, or takes long."""
        self._over.set()
        self._news.set()
        closing = asyncio.create_task(self._close(outcome))
        self._endings.begun(closing)
        await _within(_LAST_S, self._settled)

    async def _close(self, outcome: Outcome) -> None:
        until = time.monotonic() + _GIVEN_UP_S
        pause_s = _PAUSE_S
        try:
            await asyncio.wait({self._task})
            while not await self._ended(outcome) and time.monotonic() < until and not self._endings.are_many:
                self._settled.set()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except RefusedError as refused:
            _LOG.warning("An extraction cannot be kept (%s)", refused)
        except Exception:  # noqa: BLE001 -- nobody waits for it: the log says why, and the run can be resumed
            _LOG.exception("The end of an extraction is not kept, by a fault of askonce")
        finally:
            self._settled.set()

    async def _ended(self, outcome: Outcome) -> bool:
        """Whether all of it is kept. Raises `RefusedError`."""
        try:
            while self._waiting or self._begin:
                await self._commit()
            self.status = await self._store.end(self._run_id, outcome, self._worker)
        except RefusedError:
            raise
        except StorageError as fault:
            _LOG.warning("Of an extraction %d chunks and its end are not kept yet (%s)", len(self._waiting), fault)
            return False
        self.is_whole = self.status is not None and not self._lost
        return True

    async def _keep(self) -> None:
        while not self._over.is_set():
            if await _within(_BEAT_S, self._news) and not self._begin:
                await _within(_GATHERED_S, self._over)
            self._news.clear()
            try:
                status = await self._commit()
            except RefusedError:
                return  # said again at the end
            except StorageError:
                await _within(_PAUSE_S, self._over)
                self._news.set()
                continue
            if status != "in_progress":
                self._end()
                return

    async def _commit(self) -> RunStatus | None:
        """Keep what waits, together; what no row can be made of alone is left out."""
        if self._begin:
            await self._begin()
            self._begin = None
        now = self._waiting[:_AT_ONCE]
        try:
            status = await self._store.commit(self._run_id, [one for calls in now for one in calls], self._worker)
        except RefusedError as refused:
            if len(now) > 1:
                status = await self._one_by_one(now)
            else:
                status = self._refused(refused)
        self._lost |= bool(now) and status not in _UNDER_WAY  # nothing is written to a run that is over
        del self._waiting[: len(now)]
        if self._waiting:
            self._news.set()
        return status

    async def _one_by_one(self, chunks: Sequence[tuple[Call, ...]]) -> RunStatus | None:
        status: RunStatus | None = "in_progress"
        for calls in chunks:
            try:
                status = await self._store.commit(self._run_id, calls, self._worker)
            except RefusedError as refused:
                status = self._refused(refused)
        return status

    def _refused(self, refused: RefusedError) -> RunStatus:
        _LOG.warning("What came of a chunk cannot be kept (%s)", refused)
        self._lost = True
        return "in_progress"


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether `event` is there so soon."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
