"""A prepared database with two tenants, for tests of tenants' SQL."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from storage import postgres
from storage.tenant_sql import preparing, selftest
from storage.tenant_sql.faults import SqlFault
from storage.tenant_sql.gate import Gate
from storage.tenant_sql.selftest import Pair
from storage.tenant_sql.statements import Limits, Result
from tests.suites.gates import at


class Site(msgspec.Struct):
    """A prepared database with two tenants, and the gate to it."""

    url: str
    pool: asyncpg.Pool
    pair: Pair
    gate: Gate

    async def run(self, text: str, *params: Any) -> Result:
        """A statement of the first tenant's."""
        return await self.gate.run(self.pair.names["own"], text, params)

    async def rows(self, text: str, *params: Any) -> list[list[Any]]:
        """Its rows, as JSON has them."""
        result = await self.run(text, *params)
        rows = [list(row) for rows in result.batches for row in rows]
        return msgspec.json.decode(msgspec.json.encode(rows))

    async def fault(self, text: str, *params: Any) -> SqlFault:
        """Why it gives none."""
        with pytest.raises(SqlFault) as caught:
            await self.run(text, *params)
        return caught.value


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[Site]:
    """A database of this test's own, with rows of two tenants that anybody could see."""
    assert await preparing.prepare(database_url) == ""
    pool = await postgres.connect(database_url, 4)
    async with pool.acquire() as connection:
        pair = await selftest.planted(connection, "test")
    gate = Gate(pool, at(database_url), Limits(rows=100, bytes=2**20, seconds=2.0), each=2)
    yield Site(database_url, pool, pair, gate)
    await gate.aclose()
    roles = [row["role"] for row in await pool.fetch("select role from askonce.tenant_roles")]
    for role in roles:
        await pool.execute(f'drop role "{role}"')
    pool.terminate()
