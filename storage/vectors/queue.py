"""What waits to be embedded: read, written with its vector, put off or given up; one gateway at a time does it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Literal

import asyncpg
import msgspec

from storage import sql
from storage.vector import direction
from storage.vectors.database import Database, told

Kind = Literal["prompt", "chunk", "record"]

_LOOKS: Final = ("embedding_look_prompts", "embedding_look_chunks", "embedding_look_records")


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A completion whose prompt waits: what its key is made of."""

    scope: str
    kind: str
    model: str
    model_version: str
    engine: str
    engine_version: str
    prompt: str
    """Canonical JSON."""
    params: str


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that waits."""

    id: int
    kind: Kind
    scope: str
    """Whose it is; empty when there is nothing to be embedded any more."""
    prompt: Prompt | None = None
    text: str = ""
    """Of everything that is no prompt, and of one that is too long to be looked at whole."""


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be kept of one thing that waited."""

    due: Due
    vector: bytes
    """Little-endian float32s."""
    context: bytes | None
    whole: bool


class Queue:
    """Rows of `askonce.embedding_queue`. Every call raises `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has_work(self, model_id: int) -> bool:
        """Whether anything waits, or is to be looked through."""
        with told():
            return await self._database.fetchval(sql.query("embedding_waiting"), model_id)

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[bool]:
        """Whether nobody else embeds what waits, for the length of the block."""
        with told():
            async with self._database.acquire() as connection:
                if not await connection.fetchval(sql.query("embedding_begin")):
                    yield False
                    return
                try:
                    yield True
                finally:
                    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                        await connection.execute(sql.query("embedding_end"))

    async def due(self, model_id: int, most: int) -> list[Due]:
        """What has waited longest."""
        with told():
            return [_due(row) for row in await self._database.fetch(sql.query("embedding_due"), most, model_id)]

    async def put(self, model_id: int, embedded: Sequence[Embedded]) -> None:
        """Keep vectors, as far as what they are of is still there."""
        columns = (
            [one.due.id for one in embedded],
            [one.due.scope for one in embedded],
            [one.context for one in embedded],
            [one.whole for one in embedded],
            [direction(one.vector) for one in embedded],
        )
        with told():
            try:
                await self._database.execute(sql.query("embedding_put"), model_id, *columns)
            except (
                asyncpg.ForeignKeyViolationError
            ):  # something was deleted just now, and is seen to be gone the next time
                await self._database.execute(sql.query("embedding_put"), model_id, *columns)

    async def drop(self, due: Sequence[Due]) -> None:
        """Have these wait no longer."""
        with told():
            await self._database.execute(sql.query("embedding_drop"), [one.id for one in due])

    async def postpone(self, due: Sequence[Due], tries: int) -> int:
        """Have these wait longer; how many have been tried more often than `tries` times, and are given up."""
        with told():
            gone = await self._database.fetch(sql.query("embedding_postpone"), [one.id for one in due], tries)
        return len(gone)

    async def look_through(self, model_id: int, most: int) -> bool:
        """Have some of what was kept before the model was used wait for its vector; False when all has been."""
        with told():
            for name in _LOOKS:
                column = name.removeprefix("embedding_look_") + "_after"
                query = f"select {column} is not null from askonce.embedding_models where id = $1"  # noqa: S608 -- ours
                if await self._database.fetchval(query, model_id):
                    await self._database.execute(sql.query(name), model_id, most)
                    return True
        return False


def _due(row: Any) -> Due:
    due = Due(id=row["id"], kind=row["kind"], scope=row["scope"] or "")
    if not due.scope:
        return due
    if due.kind == "chunk":
        return msgspec.structs.replace(due, text=row["passage"])
    if due.kind == "record":
        return msgspec.structs.replace(due, text=_record(row))
    if row["prompt"] is None:
        return msgspec.structs.replace(due, text=row["ending"])
    said = {name: row[name] for name in Prompt.__struct_fields__ if name != "kind"}
    return msgspec.structs.replace(due, prompt=Prompt(kind=row["completion_kind"], **said))


def _record(row: Any) -> str:
    """A record's words, with what they are, so that it is found by either."""
    attributes = msgspec.json.decode(row["attributes"] or "null")
    said = [f"{name}: {_said(value)}" for name, value in attributes.items()] if isinstance(attributes, dict) else []
    return f"{row['class']}: {row['text']}" + (f" ({', '.join(said)})" if said else "")


def _said(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
