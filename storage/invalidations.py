"""What is not to be given any more, known to every gateway: a map from a place to the number that closed it.

An entry carries the number of the last invalidation that its maker knew when the model was asked. It counts only
while no later invalidation speaks of it. Numbers, not times: clocks differ between machines.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

import msgspec

from storage import sql
from storage.entry import Entry

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


class Database(Protocol):
    """A connection or a pool."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """One row, or None."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...


class Invalidations:
    """The list as this process knows it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closed: dict[tuple[str, Kind, str], int] = {}
        self.epoch = 0
        """The last number known."""
        self.known = False
        """Whether the list has ever been read. Until then no tier can be trusted."""

    def allows(self, entry: Entry, *, unread: bool = False) -> bool:
        """Whether `entry` may still be given. While the list has not been read nothing may, unless `unread` says so."""
        if not self.known and not unread:
            return False
        return not self._closed or all(self._closed.get(place, 0) <= entry.epoch for place in _places(entry))

    async def refresh(self) -> None:
        """Read what is new. Raises what the database's client raises."""
        self._take(await self._database.fetch(sql.query("invalidation_list"), self.epoch))
        self.known = True

    async def add(self, scope: str, selector: Selector) -> Deleted:
        """Invalidate for every gateway. Raises what the database's client raises."""
        row = await self._database.fetchrow(sql.query("invalidation_put"), scope, selector.kind, selector.value)
        await self.refresh()
        return Deleted(row["id"], row["deleted"])

    async def add_keys(self, scope: str, keys: Sequence[bytes]) -> Deleted:
        """Invalidate one answer or many for every gateway, all or none. Raises what the database's client raises."""
        row = await self._database.fetchrow(sql.query("invalidation_put_keys"), scope, [key.hex() for key in keys])
        await self.refresh()
        return Deleted(row["id"], row["deleted"])

    async def prune(self, older_than_s: float) -> None:
        """Take away what is too old to matter: every entry it spoke of has left the tiers. The same errors."""
        await self._database.execute(sql.query("invalidation_prune"), older_than_s)

    def _take(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self._closed[row["scope"], row["kind"], row["value"]] = row["id"]
            self.epoch = max(self.epoch, row["id"])


def _places(entry: Entry) -> Iterator[tuple[str, Kind, str]]:
    asked = entry.query
    yield asked.scope, "all", ""
    yield asked.scope, "model", asked.model
    yield asked.scope, "key", asked.key.hex()
    yield asked.scope, "prompt", asked.prompt_hash.hex()
    for tag in entry.tags:
        yield asked.scope, "tag", tag
