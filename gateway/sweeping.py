"""What time and room take away: rows whose policy says so, those used least recently where the record is bounded, what
was verified of them, old responses, and marks of invalidations that nothing needs any more.

Everything goes a few rows at a time, with rests between, so that those who look answers up hardly notice.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import partial
from math import ceil
from typing import Any, Final, Protocol

from gateway import policy
from gateway.config import PolicyConfig
from storage import sql
from storage.record import BATCH, Record, Size, columns

_EVERY_S: Final = 300.0
_REST: Final = 4
"""How much longer than a batch the rest after it is."""
_FULL: Final = 0.95
"""How full a bounded record may be after a sweep, so that not every answer has another one taken away."""
_ORPHAN_BATCHES: Final = 10
"""Hits are looked through in turn, so many batches a sweep: those that no answer has harm nobody."""
_RETIRED_AFTER_S: Final = 24 * 3600.0
_FORGOTTEN_AFTER_S: Final = 7 * 24 * 3600.0
_LOG = logging.getLogger("askonce")


class Connection(Protocol):
    """One connection."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """One row, or None."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """One value."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...


class Database(Protocol):
    """A pool."""

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        """A connection for the block."""
        ...


class Marks(Protocol):
    """The list of invalidations."""

    async def prune(self, older_than_s: float) -> None:
        """Take away what is too old to matter."""
        ...


class Vectors(Protocol):
    """The models that there are vectors of."""

    async def retire(self, unused_s: float) -> None:
        """Embed nothing more with a model that nobody has used for so long."""
        ...

    async def forget_old(self, unused_s: float, most: int) -> bool:
        """Delete some vectors of a model that was given up so long ago; False when there are none."""
        ...


class Telemetry(Protocol):
    """Who is told what was done."""

    def removed(self, why: str, rows: int) -> None:
        """So many rows of the record are gone."""
        ...

    def record_bytes(self, size: int) -> None:
        """How large the record is."""
        ...


class Sweeper:
    """Sweeps now and then, until closed. Several may: while one does, the others leave it to it."""

    def __init__(  # noqa: PLR0913 -- each by name, from settings
        self,
        database: Database,
        marks: Marks,
        policies: Sequence[PolicyConfig],
        *,
        marks_needed_s: float,
        responses_ttl_s: float,
        record_max_bytes: int = 0,
        telemetry: Telemetry | None = None,
        vectors: Vectors | None = None,
    ) -> None:
        self._database = database
        self._marks = marks
        self._policies = policies
        self._marks_needed_s = marks_needed_s
        self._responses_ttl_s = responses_ttl_s
        self._record_max_bytes = record_max_bytes
        self._telemetry = telemetry
        self._vectors = vectors
        self._evicted_until: datetime | None = None
        self._hits_until = b""
        self._task = asyncio.create_task(self._run(), name="sweeper")

    async def aclose(self) -> None:
        """Stop."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def sweep(self) -> bool:
        """Take away what is due; False when somebody else is about it. Raises what the database's client raises."""
        await self._marks.prune(self._marks_needed_s)
        async with _alone(self._database) as connection:
            if connection is None:
                return False
            record = Record(connection)
            await _in_batches(partial(record.expire, "response_expire", self._responses_ttl_s))
            await self._expire(record)
            await self._evict(record)
            await self._forget_hits(record)
            await connection.execute(sql.query("verification_prune"))
            await connection.execute(sql.query("semantic_trial_prune"))
            if self._vectors is not None:
                await self._forget_vectors(self._vectors)
        return True

    async def _expire(self, record: Record) -> None:
        if not any(one.ttl_s for one in self._policies):
            return
        due: defaultdict[float, list[tuple[str, str]]] = defaultdict(list)
        for scope, model in await record.places():
            # A shared namespace is nobody's: policies name it as it is written in the scope.
            if ttl_s := policy.of(self._policies, scope, model).ttl_s:
                due[ttl_s].append((scope, model))
        for ttl_s, places in due.items():
            old = (*columns(places), ttl_s)
            self._removed("expired", await _in_batches(partial(record.expire, "completion_expire", *old)))
            await _in_batches(partial(record.expire, "response_expire_places", *old))

    async def _evict(self, record: Record) -> None:
        size = await record.size()
        left = size.bytes
        if self._record_max_bytes and size.bytes > self._record_max_bytes:
            left -= await self._evicted(record, size, ceil(size.bytes - _FULL * self._record_max_bytes))
        if self._telemetry is not None:
            self._telemetry.record_bytes(left)

    async def _evicted(self, record: Record, size: Size, wanted: int) -> int:
        """Take away as many bytes as are `wanted`, if there are; how many there were.

        It goes on from where the last time ended: what was used before then has been used again, or is gone.
        """
        mean, gone = max(1, size.bytes // max(size.rows, 1)), Size(0, 0)
        rounds = 1 + (self._evicted_until is not None)  # what came late may be older than where this begins
        while gone.bytes < wanted and rounds:
            started, since = time.monotonic(), self._evicted_until
            batch, self._evicted_until = await record.evict(since, ceil((wanted - gone.bytes) / mean))
            gone = Size(gone.rows + batch.rows, gone.bytes + batch.bytes)
            rounds -= self._evicted_until is None
            if not batch.rows and self._evicted_until == since:  # others hold them just now
                break
            await _rested(started)
        self._removed("evicted", gone.rows)
        return gone.bytes

    async def _forget_hits(self, record: Record) -> None:
        for _ in range(_ORPHAN_BATCHES):
            started = time.monotonic()
            self._hits_until = await record.forget_hits(self._hits_until)
            if not self._hits_until:
                return
            await _rested(started)

    async def _forget_vectors(self, vectors: Vectors) -> None:
        """Those of models that nobody uses any more."""
        await vectors.retire(_RETIRED_AFTER_S)
        started = time.monotonic()
        while await vectors.forget_old(_FORGOTTEN_AFTER_S, BATCH):
            await _rested(started)
            started = time.monotonic()

    def _removed(self, why: str, rows: int) -> None:
        if self._telemetry is not None and rows:
            self._telemetry.removed(why, rows)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 -- whatever the database's client raises: the next time will do
                _LOG.warning("Nothing was swept this time (%s)", type(error).__name__)


@asynccontextmanager
async def _alone(database: Database) -> AsyncGenerator[Connection | None]:
    """A connection that nobody else sweeps beside, or None."""
    async with database.acquire() as connection:
        if not await connection.fetchval(sql.query("sweep_begin")):
            yield None
            return
        try:
            yield connection
            await connection.execute(sql.query("sweep_end"))
        except BaseException:
            connection.terminate()  # whatever state it is in, that lets go
            raise


async def _in_batches(batch: Callable[[], Awaitable[int]]) -> int:
    """Repeat what says how many rows it has taken away, until there are no more; how many there were."""
    total, gone = 0, BATCH
    while gone >= BATCH:
        started = time.monotonic()
        total += (gone := await batch())
        if gone >= BATCH:
            await _rested(started)
    return total


async def _rested(started: float) -> None:
    await asyncio.sleep(_REST * (time.monotonic() - started))
