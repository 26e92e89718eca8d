"""migrations/*.sql -> the database's schema: numbered, forward only, one at a time even when many start at once."""

import hashlib
import re
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from storage import sql
from storage.errors import AddressError, MigrationError, StorageError, brief

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from importlib.resources.abc import Traversable

LOCK = 0x61736B6F6E6365
"""The advisory lock: "askonce" in ASCII."""

_CONNECT_S = 10
_LOCK_WAIT = "60s"
_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says when the server dies just after a connection was made
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)
_RIGHTS = "run 'askonce migrate' as a user who owns the schema askonce, and grant this one its use."
_NAME = re.compile(r"(\d{4})_\w+\.sql")
_REQUIRES = re.compile(r"-- requires: (\w+)$", re.MULTILINE)


class UnreachableError(StorageError):
    """The database cannot be reached."""


class Step(msgspec.Struct, frozen=True):
    """One migration: a number, its file and the sha256 of its text."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """What was applied, so that an edited migration is noticed."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def requires(self) -> str:
        """The extension without which it waits, however many steps come after it; mostly none."""
        return _required(self.text)


class Status(msgspec.Struct, frozen=True):
    """One migration and when it was applied, as text; None while it was not."""

    number: int
    name: str
    applied_at: str | None


def steps() -> list[Step]:
    """The numbered migrations, in order."""
    found = [file for file in _files("migrations") if _NAME.fullmatch(file.name)]
    return sorted((Step(int(f.name[:4]), f.name, f.read_text("utf-8")) for f in found), key=lambda step: step.number)


async def migrate(url: str) -> list[Step]:
    """Apply what is missing, then the views. Returns the steps that were applied now. What requires an extension that
    this server does not have waits until it has.

    Raises `MigrationError` when an applied file has changed since, the database is ahead of this version, a step
    fails, or another askonce does not get done with its own; `AddressError` and `UnreachableError`.
    """
    async with opened(url) as connection:
        await _lock(connection)
        return await _apply(connection)


async def status(url: str) -> list[Status]:
    """Every migration this version knows, and when it was applied. Changes nothing. Raises as `migrate` does."""
    async with opened(url) as connection:
        applied = await _applied(connection)
    when = {row["number"]: row["applied_at"].isoformat() for row in applied}
    return [Status(step.number, step.name, when.get(step.number)) for step in steps()]


@asynccontextmanager
async def opened(url: str) -> "AsyncGenerator[asyncpg.Connection]":
    """A connection for the block. What the block does not name itself becomes one sentence, as is said at `migrate`."""
    connection = await _connected(url)
    try:
        yield connection
    except _LOST as error:
        message = f"The connection to Postgres was lost while the schema was looked at ({brief(error)})."
        raise UnreachableError(message) from error
    except asyncpg.InsufficientPrivilegeError as error:
        message = f"The database's user may not bring the schema to this version ({brief(error)}): {_RIGHTS}"
        raise MigrationError(message) from error
    except asyncpg.PostgresError as error:
        message = f"The database's schema cannot be brought to this version ({brief(error)})."
        raise MigrationError(message) from error
    finally:
        with suppress(*_LOST):
            await connection.close(timeout=5)


async def _connected(url: str) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(url, timeout=_CONNECT_S)
    except ValueError as error:  # asyncpg's own errors about addresses are such too
        message = f"The database's address (`database_url`) is not valid: {error}."
        raise AddressError(message) from error
    except (TimeoutError, asyncpg.PostgresError, *_LOST) as error:
        message = f"Postgres cannot be reached ({brief(error)})."
        raise UnreachableError(message) from error


async def _lock(connection: asyncpg.Connection) -> None:
    """Take the lock until the connection closes. Raises `MigrationError` when another does not let go of it."""
    try:
        # The transaction bounds the wait for this lock alone; those of the steps may take longer.
        async with connection.transaction():
            await connection.execute("select set_config('lock_timeout', $1, true)", _LOCK_WAIT)
            await connection.execute("select pg_advisory_lock($1)", LOCK)
    except asyncpg.LockNotAvailableError as error:
        message = (
            f"Another askonce has been bringing this database's schema to its version for more than {_LOCK_WAIT}: wait"
            " for it, or end its session (the view pg_locks has its pid, as that of an advisory lock), and start again."
        )
        raise MigrationError(message) from error


async def _apply(connection: asyncpg.Connection) -> list[Step]:
    known = {row["number"]: row["sha256"] for row in await _applied(connection)}
    _check(known)
    if not known:
        await _execute(connection, "The table of migrations", sql.query("migrations_create"))
    available = {"", *(row["name"] for row in await connection.fetch(sql.query("migrations_extensions")))}
    missing = [step for step in steps() if step.number not in known and step.requires in available]
    for step in missing:
        async with connection.transaction():
            await connection.execute(sql.query("tenant_sql_turn"))
            await _execute(connection, step.name, step.text)
            await connection.execute(sql.query("migrations_put"), step.number, step.name, step.sha256)
    for view in sorted(_files("migrations/views"), key=lambda file: file.name):
        text = view.read_text("utf-8")
        if _required(text) in available:
            async with connection.transaction():
                await connection.execute(sql.query("tenant_sql_turn"))
                await _execute(connection, f"views/{view.name}", text)
    return missing


async def _execute(connection: asyncpg.Connection, name: str, text: str) -> None:
    try:
        await connection.execute(text)
    except _LOST:
        raise
    except asyncpg.InsufficientPrivilegeError as error:
        message = f"{name} cannot be applied ({brief(error)}): {_RIGHTS}"
        raise MigrationError(message) from error
    except asyncpg.PostgresError as error:
        message = f"{name} cannot be applied ({brief(error)})."
        raise MigrationError(message) from error


def _check(known: dict[int, str]) -> None:
    ours = {step.number: step for step in steps()}
    for number, sha256 in known.items():
        if number not in ours:
            message = f"The database has migration {number:04}, which this version does not know; use a newer askonce."
            raise MigrationError(message)
        if ours[number].sha256 != sha256:
            message = f"Migration {ours[number].name} has changed since it was applied; add a new one instead."
            raise MigrationError(message)


async def _applied(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    if await connection.fetchval("select to_regclass('askonce.migrations')") is None:
        return []
    return await connection.fetch(sql.query("migrations_get"))


def _required(text: str) -> str:
    found = _REQUIRES.match(text)
    return found[1] if found else ""


def _files(folder: str) -> "Iterator[Traversable]":
    package, _, inner = folder.partition("/")
    root = resources.files(package)
    return (file for file in (root / inner if inner else root).iterdir() if file.name.endswith(".sql"))
