"""A database comes in; roles, policies, grants and revokes that tenants' SQL takes are there, or it is told why not."""

import contextlib
import hashlib
import logging
from importlib import resources
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from storage import migrate, sql
from storage.errors import MigrationError, brief
from storage.tenant_sql import selftest

Mode = Literal["auto", "on", "off"]
"""`auto`: on askonce's own server only; `on`: on another one too, whose rights for everybody it changes."""

_LOG = logging.getLogger("askonce")
_LEAST: Final = 17
"""The version from which on a role's transactions can be bounded."""
_LOCK_WAIT: Final = "5s"


def edition() -> str:
    """What tells this version's rules and tests from another's."""
    texts = [file.read_bytes() for file in _scripts()] + [selftest.source()]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


async def prepare(url: str, mode: Mode = "auto") -> str:
    """Have tenants' SQL be ready and tested. Returns why it is not; nothing when it is.

    Raises what `migrate.opened` raises.
    """
    async with migrate.opened(url) as connection:
        refused = await _refused(connection, mode)
        if not refused:
            refused = await _prepared(connection, url)
        # Before it is told: whoever connects by itself asks nobody whether it may.
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            for row in await connection.fetch(sql.query("tenant_sql_door"), refused):
                await connection.execute(row["statement"])
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute(sql.query("tenant_sql_put"), edition(), refused)
    return refused


async def _refused(connection: Any, mode: Mode) -> str:
    """Why it is not even tried."""
    if mode == "off":
        return "the setting tenant_sql is 'off'"
    if not await _is_own(connection) and mode != "on":
        return "the database is not askonce's own, and the setting tenant_sql is not 'on'"
    if connection.get_settings().is_superuser != "on":
        return "askonce's role is no superuser there, and cannot take from everybody what tenants must not have"
    if connection.get_server_version().major < _LEAST:
        return "it takes Postgres 17 or later"
    return ""


async def _prepared(connection: Any, url: str) -> str:
    try:
        async with connection.transaction():
            await _begin(connection)
            for file in _scripts():
                await connection.execute(file.read_text("utf-8"))
            trusted = await connection.fetchval(sql.query("tenant_sql_trusted"))
        if await _is_own(connection):
            await _keep_out_of_others(connection, url, trusted)
    except (MigrationError, asyncpg.PostgresError) as error:
        return f"its roles and rights could not be made ({brief(error)})"
    failures = await selftest.run(url)
    for failure in failures:
        _LOG.error("Tenants' SQL does not hold: %s", failure)
    return f"{len(failures)} of its tests failed, the first: {failures[0]}" if failures else ""


async def _is_own(connection: Any) -> bool:
    """Whether it is the server that askonce starts."""
    return await connection.fetchval("show cluster_name") == "askonce"


async def _keep_out_of_others(connection: Any, url: str, trusted: str) -> None:
    """On our own server: tenants come into no other database, and find nothing in one that is made later."""
    for row in await connection.fetch(sql.query("tenant_sql_databases")):
        await connection.execute(row["statement"])
    async with migrate.opened(_of_database(url, "template1")) as template, template.transaction():
        await _begin(template)
        await template.execute("select set_config('askonce.trusted', $1, true)", trusted)
        [revokes] = [file for file in _scripts() if "revokes" in file.name]
        await template.execute(revokes.read_text("utf-8"))


async def _begin(connection: Any) -> None:
    await connection.execute("select set_config('lock_timeout', $1, true)", _LOCK_WAIT)
    await connection.execute(sql.query("tenant_sql_turn"))


def _of_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _scripts() -> list[Any]:
    folder = resources.files("migrations") / "tenant_sql"
    return sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
