"""What is not to be given any more, known to every gateway: a map from a place to the number that closed it.

An entry carries the number of the last invalidation that its maker knew when the model was asked. It counts only
while no later invalidation speaks of it. Numbers, not times: clocks differ between machines.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

import asyncpg
import msgspec

from storage import sql
from storage.breaker import Breaker
from storage.closed import Closed, Kind, Named
from storage.entry import Entry, Query
from storage.errors import StorageError, UnsureError, brief
from storage.guard import Guard, OnFault
from storage.patience import done_within

REFRESH_S = 0.25
FORGET_S = 300.0
"""How long deleting rows of the record may take, while the database answers otherwise."""
_DEADLINES = 5
"""How much longer an invalidation may take than a read: it waits for what is being written."""
_PAGE = 10_000
"""Read at a time: a process that starts may find very many."""


class Selector(msgspec.Struct, frozen=True):
    """Which answers of a scope: the one of a key (hex), those of a model, tag or prompt hash (hex), or all."""

    kind: Kind
    value: str = ""


class Deleted(msgspec.Struct, frozen=True):
    """What came of an invalidation."""

    id: int
    rows: int
    """Rows of the record that are gone; other tiers' copies are not counted."""


class Database(Protocol):
    """A connection or a pool."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """One row, or None."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...


def _unheard(name: str, doing: str, fault: BaseException) -> None:
    del name, doing, fault


class Invalidations:
    """The list as this process knows it."""

    def __init__(self, database: Database, on_fault: OnFault = _unheard, deadline_s: float = 1.0) -> None:
        self._database = database
        self._guard = Guard("invalidations", on_fault)
        # Somebody waits for these, and wants the database asked, whatever became of the last one.
        self._deletions = Guard("invalidations", on_fault, Breaker(0, 0), sort="deletions")
        self._deadline_s = _DEADLINES * deadline_s
        self._forgetting: set[asyncio.Future[Any]] = set()
        self._closed: dict[str, Closed] = {}
        """By scope."""
        self.epoch = 0
        """The last number known."""
        self.known = False
        """Whether the list has ever been read. Until then no tier can be trusted."""
        self.changes = 0
        """Goes up whenever something that counted may not count any more."""

    def allows(self, entry: Entry, *, unread: bool = False) -> bool:
        """Whether `entry` may still be given. While the list has not been read nothing may, unless `unread` says so."""
        if not self.known:
            return unread
        return self.silent_on(entry.query, entry.tags, entry.epoch)

    def silent_on(self, answer: Named, tags: Collection[str], epoch: int) -> bool:
        """Whether nothing that is known here and is later than `epoch` speaks of `answer`."""
        closed = self._closed.get(answer.scope)
        return closed is None or closed.last(answer, tags) <= epoch

    def closed(self, query: Query) -> int:
        """The last that may speak of answers to `query`; of their tags nothing is known before they are there."""
        closed = self._closed.get(query.scope)
        return 0 if closed is None else max(closed.tags, closed.last(query, ()))

    async def refresh(self) -> None:
        """Read what is new. Raises what the database's client raises."""
        while len(rows := await self._database.fetch(sql.query("invalidation_list"), self.epoch, _PAGE)) == _PAGE:
            self._take(rows)
        self._take(rows)
        self.known = True

    async def begin(self) -> None:
        """Read it for the first time, if the database tells it soon: what is kept may not be given before."""
        with contextlib.suppress(StorageError):
            await self._guard.call("refresh", self.refresh, self._deadline_s / _DEADLINES)

    async def numbered(self, entry: Entry) -> bool:
        """Whether `entry` was made with this database, as far as can be told: then its number is one that was given.

        A Redis that outlives its database has entries of numbers that say nothing here.
        """
        if not self.known or entry.epoch <= self.epoch:
            return True
        try:
            await self._guard.call("refresh", self.refresh, REFRESH_S)
        except StorageError:
            return True
        return entry.epoch <= self.epoch

    async def add(self, scope: str, selector: Selector) -> Deleted:
        """Invalidate for every gateway, and have the rows deleted.

        Raises `UnsureError` when the database may have been told and did not say in time that it is done, and
        `StorageError` when it was not told.
        """
        asked = (scope, selector.kind, selector.value)
        given: list[int] = []

        async def add() -> None:
            given.append((await self._database.fetchrow(sql.query("invalidation_put"), *asked))["id"])
            await self.refresh()

        try:
            await self._deletions.call("delete", add, self._deadline_s)
        except StorageError as error:
            if not given and _untold(error.__cause__):
                raise
            raise UnsureError from error
        return Deleted(given[0], await self._forgotten((*asked, given[0])))

    async def _forgotten(self, asked: Sequence[Any]) -> int:
        """How many rows are gone. Very many take long: as long as the database answers something else, that is well.

        Raises `UnsureError`.
        """
        work = self._database.fetchrow(sql.query("invalidation_forget"), *asked, timeout=FORGET_S)
        forgetting = asyncio.ensure_future(work)
        self._forgetting.add(forgetting)
        forgetting.add_done_callback(self._ended)
        try:
            while not await done_within(forgetting, self._deadline_s):
                await self._deletions.call("ping", lambda: self._database.execute("select 1"), self._deadline_s)
            return forgetting.result()["deleted"]
        except Exception as error:
            raise UnsureError(brief(error)) from error

    def _ended(self, forgetting: asyncio.Future[Any]) -> None:
        self._forgetting.discard(forgetting)
        if not forgetting.cancelled():
            forgetting.exception()  # so that it is not reported as never retrieved

    async def add_keys(self, scope: str, keys: Sequence[bytes], deadline_s: float) -> int:
        """Invalidate the answers of these keys: the number from which on they count.

        Raises `StorageError` after the deadline, and at once while the database is known to be in trouble.
        """
        values = [key.hex() for key in keys]

        async def add() -> int:
            row = await self._database.fetchrow(sql.query("invalidation_put_keys"), scope, values)
            await self.refresh()
            return row["id"]

        return await self._guard.call("add", add, deadline_s)

    async def prune(self, older_than_s: float) -> None:
        """Take away what is too old to matter: what it spoke of has left the tiers, or does so now. The same errors."""
        await self._database.execute(sql.query("invalidation_prune"), older_than_s)
        row = await self._database.fetchrow(sql.query("invalidation_first"))
        first = row["id"] or 0
        for closed in self._closed.values():
            closed.prune(first)
        self._closed = {scope: closed for scope, closed in self._closed.items() if len(closed)}

    def _take(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self.changes += 1
            self._closed.setdefault(row["scope"], Closed()).close(row["kind"], row["value"], row["id"])
            self.epoch = max(self.epoch, row["id"])


def _untold(fault: BaseException | None) -> bool:
    """Whether this shows that the database was not told, or refused: no connection was made, or it said no."""
    if isinstance(fault, asyncpg.PostgresError):
        return not isinstance(fault, asyncpg.PostgresConnectionError)
    # What asyncio raises when several addresses were tried is an OSError and nothing more.
    return isinstance(fault, ConnectionRefusedError | FileNotFoundError) or type(fault) is OSError
