"""What comes of a run -> rows, while the run goes on; and whether somebody wants it to end."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from storage.errors import RefusedError, StorageError
from storage.extractions import Call, Ended, Run, RunStatus

_LOG = logging.getLogger("askonce")

_BEAT_S: Final = 2.0
"""How often a run says that it is there, and hears whether it is to end."""
_UNDER_WAY: Final = ("in_progress", "cancelling")
_AT_ONCE: Final = 32
"""Chunks of one commit: many rows are a while on the loop."""
_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
"""Shorter than the silence after which a run is anybody's."""
_GIVEN_UP_S: Final = 600.0
"""A database that is away for longer at the end of a run is not waited for any more."""
_LAST_S: Final = 3.0
"""How long a reply waits for the end of its run to be kept."""


class Store(Protocol):
    """Where runs are kept."""

    async def commit(self, run_id: str, calls: Sequence[Call], worker: str = "") -> RunStatus | None:
        """Keep calls and their records; the run's status now, and None where it is not this worker's."""
        ...

    async def end(
        self,
        run_id: str,
        status: Ended,
        counts: Mapping[str, Any],
        error: Mapping[str, Any] | None = None,
        worker: str = "",
    ) -> RunStatus | None:
        """End a run; its status now, and None where it is not this worker's."""
        ...


class Keeper:
    """Keeps one run. Nobody waits for it before the end; what the database does not take now it is given again."""

    def __init__(
        self, store: Store, run: Run, end: Callable[[], None], begin: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """`begin` keeps the run itself, where that is not done yet. `end` is called once when the run is to end,
        because somebody wants it or deleted it.
        """
        self.is_whole = False
        """Whether all of it is kept: to be asked at the end."""
        self._lost = False
        self._begin = begin
        self._store = store
        self._run_id = run.id
        self._worker = run.worker
        self._end = end
        self._waiting: list[tuple[Call, ...]] = []
        self._news = asyncio.Event()
        if begin:
            self._news.set()
        self._is_over = False
        self._closing: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._keep())

    def put(self, calls: tuple[Call, ...]) -> None:
        """Keep the calls of a chunk: all of it."""
        self._waiting.append(calls)
        self._news.set()

    async def close(self, status: Ended, counts: Mapping[str, Any], error: Mapping[str, Any] | None) -> None:
        """Keep what waits, and that the run has ended. A database that takes long goes on with it by itself."""
        self._is_over = True
        self._news.set()
        self._closing = asyncio.create_task(self._close(status, counts, error))
        await asyncio.wait({self._closing}, timeout=_LAST_S)

    async def _close(self, status: Ended, counts: Mapping[str, Any], error: Mapping[str, Any] | None) -> None:
        await asyncio.wait({self._task})
        until = time.monotonic() + _GIVEN_UP_S
        pause_s = _PAUSE_S
        while True:
            try:
                while self._waiting or self._begin:
                    await self._commit()
                ended = await self._store.end(self._run_id, status, counts, error, self._worker)
            except RefusedError as refused:
                _LOG.warning("An extraction cannot be kept (%s)", refused)
                return
            except StorageError as fault:
                _LOG.warning("Of an extraction %d chunks and its end are not kept yet (%s)", len(self._waiting), fault)
                if time.monotonic() > until:
                    return
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self.is_whole = ended is not None and not self._lost
                return

    async def _keep(self) -> None:
        while not self._is_over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_S):
                    await self._news.wait()
            self._news.clear()
            try:
                status = await self._commit()
            except RefusedError:
                return  # said again at the end
            except StorageError:
                await asyncio.sleep(0 if self._is_over else _PAUSE_S)
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
