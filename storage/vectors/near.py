"""A vector in, the prompts nearest to it out, of those that differ in nothing but their words."""

import time
from typing import Any, Final

import cachetools
import msgspec

from storage import sql
from storage.guard import Guard
from storage.vector import direction
from storage.vectors.database import Database
from storage.vectors.models import INDEXED_MOST, Model, Models

FEW: Final = 50_000
"""Up to so many prompts of one context are all compared; of more, those that the model's index finds."""
_FRESH_S: Final = 10.0
"""How long it is remembered which model is used, and which contexts are large."""
_CONTEXTS: Final = 4096
_EFFORT: Final = 400
_SCAN: Final = "set local hnsw.iterative_scan = relaxed_order"
_SEARCH: Final = f"set local hnsw.ef_search = {_EFFORT}"
_INDEX: Final = "set local enable_sort = off"
"""Else the planner may compare all there are, for they stand beside each other."""


class Neighbour(msgspec.Struct, frozen=True):
    """A kept prompt near to another one."""

    key: bytes
    similarity: float
    """The cosine of the two vectors."""


class Neighbours:
    """Rows of `askonce.embeddings`. A database that is down or hangs costs its deadline. Calls raise `StorageError`."""

    def __init__(self, database: Database, reads: Guard, deadline_s: float, few: int = FEW) -> None:
        self._database = database
        self._models = Models(database)
        self._reads = reads
        self._deadline_s = deadline_s
        self._most = few
        self._current: tuple[float, Model] | None = None
        self._few: cachetools.TTLCache[tuple[int, bytes], bool] = cachetools.TTLCache(_CONTEXTS, _FRESH_S)

    async def model(self) -> Model | None:
        """The one that what is kept is embedded by, as of some seconds ago."""
        now = time.monotonic()
        if self._current is not None and now - self._current[0] <= _FRESH_S:
            return self._current[1]
        found = await self._reads.call("semantic", self._models.current, self._deadline_s)
        self._current = None if found is None else (now, found)
        return found

    async def nearest(
        self, model: Model, place: tuple[bytes, str], vector: bytes, but: bytes, most: int
    ) -> list[Neighbour]:
        """The nearest first; `place` is a context and a scope, and `but` the key of one that does not count."""
        return await self._reads.call(
            "semantic", lambda: self._nearest(model, place, vector, but, most), self._deadline_s
        )

    def close(self) -> None:
        """End calls that never came back."""
        self._reads.close()

    async def _nearest(
        self, model: Model, place: tuple[bytes, str], vector: bytes, but: bytes, most: int
    ) -> list[Neighbour]:
        words = (*place, direction(vector), but, most)
        if model.dimensions > INDEXED_MOST or await self._has_few(model.id, place[0]):
            rows = await self._database.fetch(sql.query("embedding_near").format(model=model.id), *words)
        else:
            rows = await self._found(model, words)
        found = [Neighbour(row["key"], row["similarity"]) for row in rows]
        return sorted(found, key=lambda one: one.similarity, reverse=True)

    async def _has_few(self, model_id: int, context: bytes) -> bool:
        name = (model_id, context)
        if (few := self._few.get(name)) is None:
            few = await self._database.fetchval(sql.query("embedding_near_few"), model_id, context, self._most)
            self._few[name] = few
        return few

    async def _found(self, model: Model, words: tuple[Any, ...]) -> list[Any]:
        async with self._database.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(f"{_SCAN}; {_SEARCH}; {_INDEX}")
            query = sql.query("embedding_near_indexed").format(model=model.id, dimensions=model.dimensions)
            return await connection.fetch(query, *words)
