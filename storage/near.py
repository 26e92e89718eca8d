"""A query in, kept answers out that were asked nearly the same: those that a difference is worth looking for in."""

from typing import Final

import asyncpg
import msgspec

from storage import sql
from storage.entry import Query
from storage.postgres import query_of

MAX_CANDIDATES: Final = 200
MAX_PROMPT_BYTES: Final = 2**16
"""Longer prompts are not compared: it would take too long for a question about a miss."""
_NEAR_S: Final = 5.0


class Kept(msgspec.Struct, frozen=True):
    """What a kept answer was asked, and when."""

    query: Query
    created_at: float


class Near:
    """Looks in the record. Only in the scope of the query, ever."""

    def __init__(self, database: asyncpg.Pool) -> None:
        self._database = database

    async def candidates(self, query: Query) -> list[Kept]:
        """The latest answers to the same prompt and the latest of all, those to `query` itself left out.

        Raises what asyncpg raises, and `TimeoutError`.
        """
        rows = await self._database.fetch(
            sql.query("completion_near"),
            query.prompt_hash,
            query.scope,
            query.kind,
            query.key,
            MAX_PROMPT_BYTES,
            MAX_CANDIDATES,
            timeout=_NEAR_S,
        )
        return [Kept(query_of(row), row["created_at"]) for row in rows]
