"""The models that vectors are of: one of them is current, the others' vectors wait for it to come back, and go."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import asyncpg
import msgspec

from storage import sql
from storage.vectors.database import Database, told

INDEXED_MOST: Final = 4000
"""The most dimensions that an index of pgvector's takes for numbers of 16 bits."""
BESIDE_MOST: Final = 1024
"""The most dimensions of vectors that stand beside each other in an index: a row of one has 2,704 bytes at most."""
_LOCK: Final = "select pg_advisory_xact_lock(hashtext('askonce.embedding_models'))"


class Model(msgspec.Struct, frozen=True):
    """Weights that embed texts, under the name that clients use."""

    id: int
    model: str
    model_version: str
    dimensions: int
    looked_through: bool = False
    """Whether all that was kept before has been looked through."""

    def is_of(self, model: str, model_version: str, dimensions: int) -> bool:
        """Whether it is this one."""
        return (self.model, self.model_version, self.dimensions) == (model, model_version, dimensions)


class Progress(msgspec.Struct, frozen=True):
    """How many of one kind there are, and how many of them have a vector."""

    embedded: int
    of: int


class Models:
    """Rows of `askonce.embedding_models`. Every call raises `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def current(self) -> Model | None:
        """The model that embeds what is new; None when there is none, or no pgvector."""
        with told():
            try:
                row = await self._database.fetchrow(sql.query("embedding_model_get"))
            except asyncpg.UndefinedTableError:
                return None
        return None if row is None else _model(row)

    async def use(self, model: str, model_version: str, dimensions: int) -> Model:
        """Have this be the current model. Its vectors are found by an index of its own, made here when there is none;
        what is kept and has none yet is found by looking through everything again.
        """
        with told():
            async with self._database.acquire() as connection, connection.transaction():
                await connection.execute(_LOCK)
                await connection.execute(sql.query("embedding_model_retire"), 0.0)
                number = await connection.fetchval(sql.query("embedding_model_put"), model, model_version, dimensions)
                if dimensions <= INDEXED_MOST:
                    await connection.execute(_index(number, dimensions))
                if dimensions <= BESIDE_MOST:
                    await connection.execute(_beside(number))
        return Model(number, model, model_version, dimensions)

    async def seen(self, model_id: int) -> None:
        """Say that a model is used."""
        with told():
            await self._database.execute(sql.query("embedding_model_seen"), model_id)

    async def retire(self, unused_s: float) -> None:
        """Have no model be the current one, if nobody has used it for so long: what is new waits for none then."""
        with told(), suppress(asyncpg.UndefinedTableError):
            await self._database.execute(sql.query("embedding_model_retire"), unused_s)

    async def forget_old(self, unused_s: float, most: int) -> bool:
        """Delete some vectors of a model that nobody has used for so long, and it with the last; False if none is."""
        with told(), suppress(asyncpg.UndefinedTableError):
            number = await self._database.fetchval(sql.query("embedding_old"), unused_s)
            if number is None:
                return False
            if not await self._database.fetchval(sql.query("embedding_old_drop"), number, most):
                for name in (index_name(number), f"embeddings_within_{number}"):
                    await self._database.execute(f"drop index if exists askonce.{name}")
            return True
        return False

    async def progress(self, model: Model, scope: str) -> Mapping[str, Progress]:
        """Of each kind, how many there are in a place, and how many have a vector of this model."""
        with told():
            row = await self._database.fetchrow(sql.query("embedding_figures"), model.id, scope)
        return {kind: Progress(row[kind], row[f"all_{kind}"]) for kind in ("prompts", "chunks", "records")}


def index_name(number: int) -> str:
    """Of the index on the vectors of a model."""
    return f"embeddings_of_{number}"


def _index(number: int, dimensions: int) -> str:
    """No file can hold it: numbers of models and dimensions are part of what an index is."""
    return (
        f"create index if not exists {index_name(number)} on askonce.embeddings"
        f" using hnsw ((embedding::halfvec({dimensions})) halfvec_cosine_ops) where model_id = {number}"
    )


def _beside(number: int) -> str:
    """All vectors of a place, or of a context, are compared without reading a row from elsewhere."""
    return (
        f"create index if not exists embeddings_within_{number} on askonce.embeddings (scope, kind, context)"
        f" include (completion, passage, whole, embedding) where model_id = {number}"
    )


def _model(row: Any) -> Model:
    waits = [row[name] for name in ("prompts_after", "chunks_after", "records_after")]
    return Model(row["id"], row["model"], row["model_version"], row["dimensions"], waits == [None, None, None])
