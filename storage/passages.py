"""Passages of documents: kept in Postgres, each document's once, and listed."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from storage import sql
from storage.errors import RefusedError
from storage.extraction_rows import refusals
from storage.guard import Guard

_LARGE_DEADLINES: Final = 10
"""How much longer than a look-up may take what writes all passages of a document."""
_LONG_DEADLINES: Final = 60
"""The same, in the background: documents of any size."""
_TENANTS: Final = 1000
"""So many turns are remembered."""
_AT_ONCE: Final = 500
"""Rows of one statement."""
_LOG = logging.getLogger("askonce")


class Passage(msgspec.Struct, frozen=True):
    """A part of a document. Places are code points from its beginning."""

    ordinal: int
    start: int
    end: int
    key: bytes
    """Follows from the document's text and the place."""
    text: str


class Undivided(msgspec.Struct, frozen=True):
    """A document that has no passages yet."""

    id: str
    tenant: str
    sha256: bytes
    text: str


Divide = Callable[[Undivided], Awaitable[Sequence[Passage]]]


class Passages:
    """Rows of `askonce.passages`. Every call raises `StorageError` when the database cannot be asked in time."""

    def __init__(self, pool: asyncpg.Pool, guards: tuple[Guard, Guard], deadline_s: float) -> None:
        self._pool = pool
        self._reads, self._writes = guards
        self._deadline_s = deadline_s
        self._turns: list[str] = []
        """Whose documents were divided, the last one's last."""

    async def put(self, document_id: str, way: str, passages: Sequence[Passage]) -> bool:
        """Keep the passages of a document, divided in this `way`; False where it has some already, or is gone."""

        async def written() -> bool:
            async with self._pool.acquire() as connection, connection.transaction():
                return await _put(connection, document_id, way, passages)

        return await self._writes.call("passage_put", written, self._deadline_s * _LARGE_DEADLINES)

    async def divide_next(self, way: str, divide: Divide) -> bool:
        """Divide the document that has waited longest; False when there is none, or another gateway is about one."""

        async def divided() -> bool:
            async with self._pool.acquire() as connection:
                if not await connection.fetchval(sql.query("passage_waiting")):
                    return False
                async with connection.transaction():
                    if not await connection.fetchval(sql.query("passage_lock")):
                        return False
                    row = await connection.fetchrow(sql.query("passage_undivided"), self._turns)
                    if row is not None:
                        self._turn(row["tenant"])
                        await _divided(connection, Undivided(*row), way, divide)
                    return row is not None

        return await self._writes.call("passage_undivided", divided, self._deadline_s * _LONG_DEADLINES)

    def _turn(self, tenant: str) -> None:
        """It was this tenant's turn."""
        self._turns = [*(one for one in self._turns if one != tenant), tenant][-_TENANTS:]

    async def of(self, document_id: str, tenant: str, after: int, limit: int) -> list[Passage]:
        """Those of a tenant's document that come after one, in its order."""

        async def fetched() -> list[Any]:
            return await self._pool.fetch(sql.query("passage_list"), document_id, tenant, after, limit)

        rows = await self._reads.call("passage_list", fetched, self._deadline_s)
        return [Passage(*row) for row in rows]

    async def aclose(self) -> None:
        """End calls that never came back."""
        self._reads.close()
        self._writes.close()


async def _divided(connection: Any, document: Undivided, way: str, divide: Divide) -> None:
    """Keep its passages; one that has some that cannot be kept has none, and holds up no other."""
    try:
        async with connection.transaction():
            await _put(connection, document.id, way, await divide(document))
    except RefusedError as refused:
        _LOG.warning("The document %s will not be found by searches (%s)", document.id, refused)
        await connection.fetchval(sql.query("passage_mark"), document.id, way)


async def _put(connection: Any, document_id: str, way: str, passages: Sequence[Passage]) -> bool:
    tenant = await connection.fetchval(sql.query("passage_mark"), document_id, way)
    if tenant is None:
        return False
    with refusals():
        for start in range(0, len(passages), _AT_ONCE):
            rows = [msgspec.structs.astuple(one) for one in passages[start : start + _AT_ONCE]]
            await connection.execute(sql.query("passage_put"), document_id, tenant, *map(list, zip(*rows, strict=True)))
    return True
