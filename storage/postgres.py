"""The record: every answer a row in Postgres, exact enough to replay and plain enough to query."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from storage import entry as entries
from storage import rows, sql
from storage.entry import Encoded, Entry, Held, Query, Usage
from storage.errors import RefusedError, brief

T = TypeVar("T")

_AT_ONCE: Final = 4
"""Rows made before others have their turn: half a millisecond, for answers of a hundred steps."""
_LOG = logging.getLogger("askonce")
_REFUSALS = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.PLPGSQLError,  # a trigger's
    asyncpg.WithCheckOptionViolationError,
)
"""What the server says of a row that it would not take later either. A full disk or a standby is none of these."""


class PostgresTier:
    """Rows of `askonce.completions`."""

    name = "postgres"

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def get(self, keys: Sequence[bytes]) -> list[Held | None]:
        """The entry of each of `keys`, in one round trip; None also for a row whose steps cannot be read."""
        rows = await self._pool.fetch(sql.query("completion_get"), keys)
        found = {row["key"]: held for row in rows if (held := _held(row)) is not None}
        return [found.get(key) for key in keys]

    async def put(self, items: Sequence[Encoded]) -> None:
        """Keep `items`, all or none; those that were taken back while they were under way are left out.

        Raises `RefusedError` when one of them will never be taken, `TimeoutError`, and what asyncpg raises.
        """
        await put_rows(self._pool, "completion_put", rows.row, *_rounds(items))

    async def ping(self) -> None:
        """Raise when the server does not answer."""
        await self._pool.fetchval("select 1")

    async def aclose(self) -> None:
        """Close the connections; those that are stuck are cut."""
        self._pool.terminate()


async def put_rows(pool: asyncpg.Pool, query: str, row: Callable[[T], tuple[Any, ...]], *rounds: Sequence[T]) -> None:
    """Run a query for all items of a round together, round after round, for all or none, taking turns with deletions.
    Its parameters are the columns of what `row` makes of them here: an item of which it cannot is refused, too.

    Raises `RefusedError` when one of them will never be taken, `TimeoutError`, and what asyncpg raises.
    """
    try:
        made = [await _columns(row, items) for items in rounds]
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(sql.query("completion_lock"))
            for columns in made:
                await connection.execute(sql.query(query), *columns)
    except (asyncpg.DataError, ValueError) as error:
        kind, said, *_ = [*brief(error).split(": "), ""]  # the value follows, which no column can hold
        raise RefusedError(f"{kind}: {said}") from error
    except _REFUSALS as error:
        raise RefusedError(brief(error)) from error
    except asyncpg.QueryCanceledError as error:
        raise TimeoutError(brief(error)) from error  # the server's own statement_timeout


async def _columns(row: Callable[[T], tuple[Any, ...]], items: Sequence[T]) -> list[tuple[Any, ...]]:
    """The columns of the items' rows, made a few at a time: requests are answered meanwhile."""
    made: list[tuple[Any, ...]] = []
    for start in range(0, len(items), _AT_ONCE):
        made += map(row, items[start : start + _AT_ONCE])
        await asyncio.sleep(0)
    return list(zip(*made, strict=True))


def _rounds(items: Iterable[Encoded]) -> list[list[Encoded]]:
    """`items` in their order, no two of one key together: a statement cannot touch a row twice."""
    rounds: list[dict[bytes, Encoded]] = []
    for item in items:
        free = next((one for one in rounds if item.key not in one), None)
        if free is None:
            rounds.append(free := {})
        free[item.key] = item
    return [list(one.values()) for one in rounds]


async def _unchanged(connection: asyncpg.Connection) -> None:
    """Nothing to reset: no statement here leaves anything behind. asyncpg's own reset is a round trip for each call."""
    del connection


async def connect(url: str, max_connections: int) -> asyncpg.Pool:
    """Connections to the server at `url`, made when first used, so that a server that is down stops nothing."""
    return await asyncpg.create_pool(
        url, min_size=0, max_size=max_connections, timeout=2, command_timeout=10, reset=_unchanged
    )


def query_of(row: asyncpg.Record) -> Query:
    """What the answer in `row` was asked."""
    return Query(
        key=row["key"],
        scope=row["scope"],
        kind=row["kind"],
        model=row["model"],
        model_version=row["model_version"],
        engine=row["engine"],
        engine_version=row["engine_version"],
        prompt_hash=row["prompt_hash"],
        prompt=row["prompt"],
        params=row["params"],
        text=row["prompt_text"],
    )


def _held(row: asyncpg.Record) -> Held | None:
    try:
        found = _entry(row)
    except msgspec.DecodeError as error:
        _LOG.warning("The row of %s cannot be read: %s", row["key"].hex(), brief(error))
        return None
    return Held(found, Encoded.of(found))


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(
        query=query_of(row),
        origin_id=row["origin_id"],
        backend=row["backend"],
        created_at=row["created_at"],
        duration_ms=row["duration_ms"],
        chunks=entries.decode_steps(row["steps"]),
        embedding=row["embedding"],
        usage=Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"], row["cost_micro_usd"]),
        epoch=row["epoch"],
        tags=tuple(row["tags"]),
        made_by=row["made_by"],
        fallback=row["fallback"],
    )
