"""Whoever logs in as a tenant, past the gate, gets no further; and functions that are left tell nothing."""

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from storage.tenant_sql import selftest
from storage.tenant_sql.connection import TenantConnection
from tests.suites.tenants import Site, site

__all__ = ["site"]

STATEMENTS: list[str] = tomllib.loads((Path(__file__).parent / "session_attacks.toml").read_text("utf-8"))["statements"]
STATE = """
select (select count(*) from askonce.completions), (select count(*) from pg_roles), (select count(*) from pg_class),
       (select count(*) from pg_proc), (select count(*) from pg_largeobject_metadata),
       (select count(*) from pg_locks where locktype = 'advisory'),
       (select md5(string_agg(r::text, '' order by rolname)) from pg_roles r)
"""


@asynccontextmanager
async def logged_in(site: Site) -> AsyncIterator[Any]:
    """A session of the first tenant's own."""
    connection = await asyncpg.connect(
        site.url, user=site.pair.names["self"], connection_class=TenantConnection, statement_cache_size=0,
        server_settings={"statement_timeout": "250ms"},
    )  # fmt: skip
    try:
        yield connection
    finally:
        await connection.close()


async def test_who_logs_in_gets_no_further(site: Site) -> None:
    """Also one who has set what can be set, and even where the server can be written to."""
    before = await site.pool.fetchrow(STATE)
    failures: list[str] = []
    async with logged_in(site) as connection:
        for statement in STATEMENTS:
            await connection.execute(
                "reset all; set default_transaction_read_only = off; set search_path = askonce, api"
            )
            try:
                await connection.execute(site.pair.filled(statement))
            except asyncpg.PostgresError:
                continue
            failures.append(statement)
    assert failures == []
    assert await site.pool.fetchrow(STATE) == before


@pytest.mark.parametrize("seed", [1, 2])
async def test_functions_that_are_left_tell_nothing(site: Site, seed: int) -> None:
    """Whatever they are called with: no row of the other's, no value in what an error says, nothing that lasts."""
    before = await site.pool.fetchrow(STATE)
    calls = await selftest.calls(site.pool, site.pair, 1000, seed)
    async with logged_in(site) as connection:
        transaction = connection.transaction(readonly=True)
        await transaction.start()
        failures = [await selftest.tried(connection, call, site.pair) for call in calls]
        await transaction.rollback()
    assert [failure for failure in failures if failure] == []
    assert await site.pool.fetchrow(STATE) == before


async def test_calls_get_somewhere(site: Site) -> None:
    """Many of them give rows: a fuzz that is refused throughout would tell nothing."""
    calls = await selftest.calls(site.pool, site.pair, 100, 1)
    given = 0
    async with logged_in(site) as connection:
        for call in calls:
            try:
                given += bool(await connection.fetch(call.sql))
            except (asyncpg.PostgresError, asyncpg.InternalClientError):
                continue
    assert given > 50
