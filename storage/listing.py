"""Which answers the record has for a scope: the last ones, or some drawn by lot."""

import secrets
from collections.abc import Collection
from typing import Any, Protocol

import msgspec

from storage import sql
from storage.entry import Kind


class Listed(msgspec.Struct, frozen=True):
    """One answer, without what was asked and said."""

    key: bytes
    kind: Kind
    model: str
    params: str
    """Canonical JSON."""
    created_at: float


class Database(Protocol):
    """A pool."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...


class Listing:
    """Reads the rows of `askonce.completions`. Raises what the database's client raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last(
        self, scope: str, count: int, *, model: str | None = None, models: Collection[str] | None = None
    ) -> list[Listed]:
        """The last `count` answers, newest first; only those of `model` and of `models`, unless these are None."""
        return await self._listed("completion_last", scope, model, _listed(models), count)

    async def sample(
        self, scope: str, count: int, *, model: str | None = None, models: Collection[str] | None = None
    ) -> list[Listed]:
        """`count` answers drawn by lot."""
        return await self._listed("completion_sample", scope, model, _listed(models), count, secrets.token_bytes(32))

    async def _listed(self, name: str, *words: Any) -> list[Listed]:
        rows = await self._database.fetch(sql.query(name), *words)
        return [Listed(row["key"], row["kind"], row["model"], row["params"], row["created_at"]) for row in rows]


def _listed(models: Collection[str] | None) -> list[str] | None:
    return None if models is None else sorted(models)
