"""What is not to be given any more, known to every gateway: a map from a place to the number that closed it.

An entry carries the number of the last invalidation that its maker knew when the model was asked. It counts only
while no later invalidation speaks of it. Numbers, not times: clocks differ between machines.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

import msgspec

from storage import sql
from storage.entry import Entry, Query
from storage.errors import StorageError
from storage.guard import Guard, OnFault

REFRESH_S = 0.25
ADD_S = 30.0
"""How long deleting may take: rows of the record go with it."""
Kind = Literal["key", "model", "tag", "prompt", "all"]


class Selector(msgspec.Struct, frozen=True):
    """Which answers of a scope: the one of a key (hex), those of a model, tag or prompt hash (hex), or all."""

    kind: Kind
    value: str = ""


class Deleted(msgspec.Struct, frozen=True):
    """What came of an invalidation."""

    id: int
    rows: int
    """Rows of the record that are gone; other tiers' copies are not counted."""


class Named(Protocol):
    """What invalidations know an answer by, beside its tags."""

    @property
    def scope(self) -> str:
        """Where it is kept."""
        ...

    @property
    def model(self) -> str:
        """Whose it is."""
        ...

    @property
    def key(self) -> bytes:
        """Of its question."""
        ...

    @property
    def prompt_hash(self) -> bytes:
        """Of what the model read."""
        ...


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

    def __init__(self, database: Database, on_fault: OnFault = _unheard) -> None:
        self._database = database
        self._guard = Guard("invalidations", on_fault)
        self._closed: dict[tuple[str, Kind, str], int] = {}
        self._tags_closed: dict[str, int] = {}
        """The last number of each scope that speaks of any tag."""
        self.epoch = 0
        """The last number known."""
        self.known = False
        """Whether the list has ever been read. Until then no tier can be trusted."""

    def allows(self, entry: Entry, *, unread: bool = False) -> bool:
        """Whether `entry` may still be given. While the list has not been read nothing may, unless `unread` says so."""
        if not self.known:
            return unread
        return self.silent_on(entry.query, entry.tags, entry.epoch)

    def silent_on(self, answer: Named, tags: Iterable[str], epoch: int) -> bool:
        """Whether nothing that is known here and is later than `epoch` speaks of `answer`."""
        return not self._closed or all(self._closed.get(place, 0) <= epoch for place in _places(answer, tags))

    def closed(self, query: Query) -> int:
        """The last that may speak of answers to `query`; of their tags nothing is known before they are there."""
        tags = self._tags_closed.get(query.scope, 0)
        return max(tags, *(self._closed.get(place, 0) for place in _places_of(query)))

    async def refresh(self) -> None:
        """Read what is new. Raises what the database's client raises."""
        self._take(await self._database.fetch(sql.query("invalidation_list"), self.epoch))
        self.known = True

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
        """Invalidate for every gateway. Raises what the database's client raises."""
        asked = (scope, selector.kind, selector.value)
        row = await self._database.fetchrow(sql.query("invalidation_put"), *asked, timeout=ADD_S)
        await self.refresh()
        return Deleted(row["id"], row["deleted"])

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
        self._closed = {place: number for place, number in self._closed.items() if number >= first}

    def _take(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self._closed[row["scope"], row["kind"], row["value"]] = row["id"]
            if row["kind"] == "tag":
                self._tags_closed[row["scope"]] = row["id"]
            self.epoch = max(self.epoch, row["id"])


def _places(answer: Named, tags: Iterable[str]) -> Iterator[tuple[str, Kind, str]]:
    yield from _places_of(answer)
    for tag in tags:
        yield answer.scope, "tag", tag


def _places_of(answer: Named) -> Iterator[tuple[str, Kind, str]]:
    yield answer.scope, "all", ""
    yield answer.scope, "model", answer.model
    yield answer.scope, "key", answer.key.hex()
    yield answer.scope, "prompt", answer.prompt_hash.hex()
