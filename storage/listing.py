"""Which answers the record has for a scope: the last ones, or some drawn by lot."""

import secrets
import time
from collections.abc import Callable, Collection
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

    def __init__(self, database: Database, ttl_s: Callable[[str, str], float | None]) -> None:
        """`ttl_s` says of a scope and a model how long answers count; older ones are left out of what was found."""
        self._database = database
        self._ttl_s = ttl_s

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

    async def _listed(self, name: str, scope: str, *words: Any) -> list[Listed]:
        rows = await self._database.fetch(sql.query(name), scope, *words)
        found = [Listed(row["key"], row["kind"], row["model"], row["params"], row["created_at"]) for row in rows]
        return [one for one in found if self._counts(scope, one)]

    def _counts(self, scope: str, one: Listed) -> bool:
        ttl_s = self._ttl_s(scope, one.model)
        return ttl_s is None or time.time() - one.created_at <= ttl_s


def _listed(models: Collection[str] | None) -> list[str] | None:
    return None if models is None else sorted(models)
