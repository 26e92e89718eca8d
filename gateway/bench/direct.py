"""A database's address in; what is done to its record past the gateway: weighed, written, swept."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg
import msgspec

from gateway.bench import filling
from gateway.config import PolicyConfig
from gateway.sweeping import Sweeper
from storage import postgres
from storage.embedded.postgres import DATABASE, ROLE
from storage.invalidations import Invalidations
from storage.record import Record
from storage.writer import BATCH

_LONG_S: Final = 1e9
_WEIGHED: Final = """
select count(*) as rows, pg_total_relation_size('askonce.completions') as disk,
       sum(octet_length(prompt) + octet_length(params) + octet_length(text) + octet_length(steps))::bigint as payload
from askonce.completions
"""


class Weighed(msgspec.Struct, frozen=True):
    """A record's size, in bytes."""

    rows: int
    disk: int
    """What the table, its indexes and what is stored apart take."""
    payload: int
    """What answers are asked with and replayed from: prompt, parameters, text and steps."""
    estimate: int
    """What `record_max_bytes` is compared with."""


def address(data: Path) -> str:
    """Of the embedded Postgres in a data folder."""
    return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(data / 'run' / 'pg'))}"


async def weighed(dsn: str) -> Weighed:
    """The record as it is."""
    async with _pool(dsn) as pool:
        row = await pool.fetchrow(_WEIGHED, timeout=600)
        return Weighed(row["rows"], row["disk"], row["payload"], (await Record(pool).size()).bytes)


async def written(dsn: str, body: str, numbers: Sequence[int]) -> float:
    """Answers a second that are kept one batch after the other, as the gateway's writer does."""
    async with _pool(dsn) as pool:
        items = await filling.entries(pool, await filling.mould(pool, body), numbers)
        tier, started = postgres.PostgresTier(pool), time.perf_counter()
        for start in range(0, len(items), BATCH):
            await tier.put(items[start : start + BATCH])
        return len(items) / (time.perf_counter() - started)


async def expired(dsn: str, rows: int) -> int:
    """Have a policy take so many of the oldest rows away; how many that were."""
    async with _pool(dsn) as pool:
        oldest = "select extract(epoch from clock_timestamp() - created_at)::float8 from askonce.completions"
        ttl_s = await pool.fetchval(f"{oldest} order by created_at offset $1 limit 1", rows)
        return await _swept(pool, 0, PolicyConfig(ttl_s=ttl_s))


async def evicted(dsn: str, rows: int) -> int:
    """Have a bound take away about so many rows that were used least recently; how many that were.

    A record is left 95 % full, and its size is estimated anew: more may go, and less when that comes out small.
    """
    async with _pool(dsn) as pool:
        size = await Record(pool).size()
        return await _swept(pool, int(size.bytes * (1 - rows / max(size.rows, 1))))


async def _swept(pool: asyncpg.Pool, most: int, *policies: PolicyConfig) -> int:
    told = _Told()
    sweeper = Sweeper(
        pool,
        Invalidations(pool),
        policies,
        marks_needed_s=_LONG_S,
        responses_ttl_s=_LONG_S,
        record_max_bytes=most,
        telemetry=told,
    )
    try:
        await sweeper.sweep()
    finally:
        await sweeper.aclose()
    return told.rows


class _Told:
    """How many rows a sweep took away."""

    def __init__(self) -> None:
        self.rows = 0

    def removed(self, why: str, rows: int) -> None:
        """Add."""
        del why
        self.rows += rows

    def record_bytes(self, size: int) -> None:
        """Not asked for."""


@asynccontextmanager
async def _pool(dsn: str) -> AsyncGenerator[asyncpg.Pool]:
    pool = await postgres.connect(dsn, 3)
    try:
        yield pool
    finally:
        await pool.close()
