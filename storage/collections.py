"""Collections of documents (vector stores): kept in Postgres, each for its own tenant alone."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from storage import sql
from storage.extraction_rows import fields, json_text, refusals, texts
from storage.guard import Guard

_DEADLINES: Final = 10
"""How much longer than a look-up a list may take."""


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """Documents that are searched together."""

    id: str
    name: str
    description: str
    metadata: dict[str, Any]
    created_at: float
    used_at: float
    expires_after_s: int | None
    is_expired: bool | None
    documents: int
    waiting: int
    """How many of them are not found by everything yet."""
    bytes: int


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A document in a collection."""

    id: str
    title: str
    attributes: str
    """JSON of what is said of it there."""
    added_at: float
    bytes: int
    is_waiting: bool


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Documents that were added together."""

    documents: int
    waiting: int
    added_at: float


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A document, as a file."""

    id: str
    title: str
    created_at: float
    bytes: int


class Page(msgspec.Struct, frozen=True):
    """Which part of a list."""

    limit: int
    after: str | None = None
    ascending: bool = False


class Collections:
    """Rows of `askonce.collections` and `collection_documents`. What is another tenant's is as good as not there.

    Every call raises `RefusedError` for what cannot be kept, and `StorageError` when the database cannot be asked in
    time.
    """

    def __init__(self, pool: asyncpg.Pool, guard: Guard, deadline_s: float) -> None:
        self._pool = pool
        self._guard = guard
        self._deadline_s = deadline_s * _DEADLINES

    async def put(
        self, name: str, tenant: str, title: str, description: str, metadata: Mapping[str, Any], expires_s: int | None
    ) -> None:
        """Keep a new one under this id."""
        await self._fetch("collection_put", name, tenant, title, description, json_text(metadata), expires_s)

    async def update(
        self,
        name: str,
        tenant: str,
        title: str | None,
        metadata: Mapping[str, Any] | None,
        expires: tuple[int | None] | None,
    ) -> bool:
        """Change what is not None; `expires` says after how many seconds, or never. False when there is none."""
        said = None if metadata is None else json_text(metadata)
        after = expires[0] if expires else None
        return bool(await self._fetch("collection_update", name, tenant, title, said, after, expires is not None))

    async def get(self, name: str, tenant: str) -> Collection | None:
        """One of a tenant's."""
        rows = await self._fetch("collection_get", name, tenant)
        return Collection(**fields(rows[0], Collection.__struct_fields__)) if rows else None

    async def listed(self, tenant: str, page: Page) -> list[Collection]:
        """Those of a tenant."""
        rows = await self._fetch("collection_list", tenant, page.limit, page.after, page.ascending)
        return [Collection(**fields(row, Collection.__struct_fields__)) for row in rows]

    async def delete(self, name: str, tenant: str) -> bool:
        """Forget one; its documents stay. False when there is none."""
        return bool(await self._fetch("collection_delete", name, tenant))

    async def add(
        self, name: str, tenant: str, members: Mapping[str, Mapping[str, Any]], batch: str | None = None
    ) -> set[str]:
        """Have documents be in one, with their attributes; those that are, by their ids. `name` is the tenant's."""
        attributes = [json_text(one) for one in members.values()]
        return {row[0] for row in await self._fetch("collection_add", name, tenant, list(members), attributes, batch)}

    async def describe(self, name: str, tenant: str, document_id: str, attributes: Mapping[str, Any]) -> bool:
        """Say something else of a document in one; False when it is not there."""
        return bool(await self._fetch("collection_describe", name, tenant, document_id, json_text(attributes)))

    async def remove(self, name: str, tenant: str, document_id: str) -> bool:
        """Take a document out of one; False when it is not there."""
        return bool(await self._fetch("collection_remove", name, tenant, document_id))

    async def members(
        self, name: str, tenant: str, page: Page, *, batch: str | None = None, ready: bool | None = None
    ) -> list[Member]:
        """Documents of one, of a batch, that are ready or are not."""
        asked = (name, tenant, page.limit, page.after, page.ascending, batch, ready, None)
        return [_member(row) for row in await self._fetch("collection_members", *asked)]

    async def member(self, name: str, tenant: str, document_id: str) -> Member | None:
        """A document of one."""
        first = Page(1)
        asked = (name, tenant, first.limit, first.after, first.ascending, None, None, document_id)
        rows = await self._fetch("collection_members", *asked)
        return _member(rows[0]) if rows else None

    async def batch(self, name: str, tenant: str, batch: str) -> Batch | None:
        """The documents that were added together."""
        [row] = await self._fetch("collection_batch", name, tenant, batch)
        return Batch(**fields(row, Batch.__struct_fields__)) if row["documents"] else None

    async def files(self, tenant: str, page: Page, name: str | None = None) -> list[File]:
        """A tenant's documents as files, or the one of this id."""
        rows = await self._fetch("file_list", tenant, page.limit, page.after, page.ascending, name)
        return [File(**fields(row, File.__struct_fields__)) for row in rows]

    async def absent(self, tenant: str, names: Sequence[str]) -> list[str]:
        """Which of these are no documents of a tenant's."""
        return [row[0] for row in await self._fetch("file_absent", tenant, list(names))]

    async def aclose(self) -> None:
        """End calls that never came back."""
        self._guard.close()

    async def _fetch(self, query: str, *asked: Any) -> Sequence[Any]:
        async def fetched() -> list[Any]:
            with refusals():
                return await self._pool.fetch(sql.query(query), *texts(asked))

        return await self._guard.call(query, fetched, self._deadline_s)


def _member(row: Any) -> Member:
    return Member(**fields(row, Member.__struct_fields__))
