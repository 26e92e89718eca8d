"""What vectors are kept in, and its faults in our words."""

import contextlib
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import asyncpg

from storage.errors import StorageError, brief


class Database(Protocol):
    """A pool of connections to a database with pgvector."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """One row, or None."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """One value."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        """A connection for the block."""
        ...


@contextlib.contextmanager
def told() -> Generator[None]:
    """Whatever the database's client raises becomes `StorageError`."""
    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise StorageError(brief(error)) from error
