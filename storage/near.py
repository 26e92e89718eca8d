"""A query in, kept answers out that were asked nearly the same: those that a difference is worth looking for in."""

import time
from collections.abc import Collection
from typing import Final

import asyncpg
import msgspec

from storage import sql
from storage.entry import Query
from storage.postgres import query_of
from storage.rows import storable

MAX_BYTES: Final = 2**16
"""Of prompt and parameters. Larger requests are not compared: it would take too long for a question about a miss."""
MAX_ALL_BYTES: Final = 2**20
"""Of all candidates together."""
MAX_CANDIDATES: Final = 200
_MAX_ROWS: Final = 5000
"""How far back they are looked for, each way."""
_BEGINNING: Final = 64
_NEAR_S: Final = 5.0


class Kept(msgspec.Struct, frozen=True):
    """What a kept answer was asked, and when. Its words are left out of the query: the prompt has them."""

    query: Query
    created_at: float


class Candidates(msgspec.Struct, frozen=True):
    """Those worth looking at, the most likely first."""

    kept: list[Kept]
    all_there_are: bool
    """Whether there are no others that could have been."""


class Near:
    """Looks in the record. Only in the scope of the query, ever."""

    def __init__(self, database: asyncpg.Pool) -> None:
        self._database = database

    async def candidates(self, query: Query, models: Collection[str] | None, max_age_s: float | None) -> Candidates:
        """Kept answers of `models` (None for all), no older than `max_age_s`: the latest to the same prompt, to prompts
        that begin alike, with the same parameters, and of all; those to `query` itself left out.

        Raises what asyncpg raises, and `TimeoutError`.
        """
        rows = await self._database.fetch(
            sql.query("completion_near"),
            query.key,
            query.scope,
            query.kind,
            None if models is None else sorted(models),
            0.0 if max_age_s is None else time.time() - max_age_s,
            query.prompt_hash,
            query.params,
            storable(query.text)[:_BEGINNING],
            MAX_BYTES,
            MAX_ALL_BYTES,
            MAX_CANDIDATES,
            _MAX_ROWS,
            timeout=_NEAR_S,
        )
        kept = [Kept(query_of(row), row["created_at"]) for row in rows if row["key"] is not None]
        return Candidates(kept, all_there_are=rows[0]["seen"] < _MAX_ROWS and rows[0]["fit"] == len(kept))
