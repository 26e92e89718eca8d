"""The record as a whole: how large it is, and what is taken from it, a few rows at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from storage import sql

BATCH: Final = 50
"""Rows that one statement takes away: a millisecond or two."""
ROW_BYTES: Final = 800
"""What a row takes beside what is measured of it: its keys, names, numbers, entries in eight indexes, the pages' heads
and what they leave free. Measured with a million rows by `python -m gateway.bench.growth`.
"""
_SAMPLED_PAGES: Final = 4000
"""Enough to know the size within two of a hundred; a smaller record is read whole."""
_LOOKED: Final = 1000
"""Answers in the order they were made that are looked at for a batch: most may have been given since."""
_ORPHANS: Final = 1000


class Database(Protocol):
    """A connection or a pool."""

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """One row, or None."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """One value."""
        ...

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...


class Size(msgspec.Struct, frozen=True):
    """Of the answers that are there: what has been deleted is room for others."""

    rows: int
    bytes: int


class Record:
    """Rows of `askonce.completions` and what belongs to them. Every call raises what the database's client raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def size(self) -> Size:
        """As much as is there, estimated from a sample of pages."""
        pages = await self._database.fetchval(sql.query("record_pages"))
        percent = min(100.0, 100.0 * _SAMPLED_PAGES / max(pages, 1))
        found = await self._database.fetchrow(sql.query("record_sample"), percent)
        rows = found["rows"] * 100 / percent
        return Size(round(rows), round(found["bytes"] * 100 / percent + rows * ROW_BYTES))

    async def places(self) -> list[tuple[str, str]]:
        """The scopes and models there are rows of."""
        return [(row["scope"], row["model"]) for row in await self._database.fetch(sql.query("completion_places"))]

    async def expire(self, query: str, *args: Any) -> int:
        """Take some rows away whose time is over; how many."""
        return await self._database.fetchval(sql.query(query), *args, BATCH)

    async def evict(self, since: datetime | None, most: int) -> tuple[Size, datetime | None]:
        """Take away the answers that were used least recently since some moment. What is gone, and where to go on."""
        gone = await self._database.fetchrow(sql.query("record_evict"), since, min(most, BATCH), _LOOKED)
        return Size(gone["rows"], gone["bytes"] + gone["rows"] * ROW_BYTES), gone["next"]

    async def forget_hits(self, after: bytes) -> bytes:
        """Take away hits of answers that are gone, some after a key; up to which, or none at the end."""
        done = await self._database.fetchrow(sql.query("hits_prune"), after, _ORPHANS)
        return done["last"] if done["looked"] == _ORPHANS else b""


def columns(places: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Scopes and models apart."""
    return [scope for scope, _ in places], [model for _, model in places]
