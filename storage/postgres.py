"""The record: every answer a row in Postgres, exact enough to replay and plain enough to query."""

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import msgspec

from storage import entry as entries
from storage import sql
from storage.entry import Chunk, Encoded, Entry, Query, Usage
from storage.errors import RefusedError, brief

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

    async def get(self, key: bytes) -> Entry | None:
        """The entry of `key`; None also for a row whose steps cannot be read."""
        row = await self._pool.fetchrow(sql.query("completion_get"), key)
        try:
            return _entry(row) if row else None
        except msgspec.DecodeError as error:
            _LOG.warning("The row of %s cannot be read: %s", key.hex(), brief(error))
            return None

    async def put(self, items: Sequence[Encoded]) -> None:
        """Keep `items`, all or none; those that were taken back while they were under way are left out.

        Raises `RefusedError` when one of them will never be taken, `TimeoutError`, and what asyncpg raises.
        """
        await put_rows(self._pool, "completion_put", (_row(item.entry()) for item in items))

    async def ping(self) -> None:
        """Raise when the server does not answer."""
        await self._pool.fetchval("select 1")

    async def aclose(self) -> None:
        """Close the connections; those that are stuck are cut."""
        self._pool.terminate()


async def put_rows(pool: asyncpg.Pool, query: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Run a query for each of `rows`, for all or none, taking turns with deletions. Rows are made here: one that cannot
    be is refused, too.

    Raises `RefusedError` when one of them will never be taken, `TimeoutError`, and what asyncpg raises.
    """
    try:
        made = list(rows)
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(sql.query("completion_lock"))
            await connection.executemany(sql.query(query), made)
    except (asyncpg.DataError, ValueError) as error:
        kind, said, *_ = [*brief(error).split(": "), ""]  # the value follows, which no column can hold
        raise RefusedError(f"{kind}: {said}") from error
    except _REFUSALS as error:
        raise RefusedError(brief(error)) from error
    except asyncpg.QueryCanceledError as error:
        raise TimeoutError(brief(error)) from error  # the server's own statement_timeout


async def _unchanged(connection: asyncpg.Connection) -> None:
    """Nothing to reset: no statement here leaves anything behind. asyncpg's own reset is a round trip for each call."""
    del connection


async def connect(url: str, max_connections: int) -> asyncpg.Pool:
    """Connections to the server at `url`, made when first used, so that a server that is down stops nothing."""
    return await asyncpg.create_pool(
        url, min_size=0, max_size=max_connections, timeout=2, command_timeout=10, reset=_unchanged
    )


def _row(item: Entry) -> tuple[Any, ...]:
    asked, usage = item.query, item.usage
    first = [chunk for chunk in item.chunks if chunk.index == 0 and chunk.usage is None]
    return (
        asked.key,
        asked.scope,
        asked.kind,
        asked.model,
        asked.model_version,
        asked.engine,
        asked.engine_version,
        item.backend,
        asked.prompt_hash,
        asked.prompt,
        asked.params,
        storable(asked.text),
        item.origin_id,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        item.duration_ms,
        entries.encode_steps(item.chunks),
        item.embedding,
        item.created_at,
        storable(item.text()),
        _messages(item.chunks),
        item.finish_reason(),
        item.token_ids(),
        [len(chunk.content) for chunk in first],
        _seed(asked),
        item.first_ms(),
        item.epoch,
        list(item.tags),
        item.made_by,
        item.replaces,
        item.fallback,
        usage.cost_micro_usd,
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


def storable(text: str) -> str:
    """Text without NUL, which Postgres cannot hold."""
    return text.replace("\x00", "\u2400")


def _messages(chunks: Sequence[Chunk]) -> str:
    """Each choice's message as JSON; escaped, so that NUL fits."""
    found = [
        {
            "index": index,
            "content": "".join(c.content for c in chunks if c.index == index),
            "reasoning": "".join(c.reasoning for c in chunks if c.index == index),
            "refusal": "".join(c.refusal for c in chunks if c.index == index),
            "tool_calls": [call for c in chunks if c.index == index for call in c.tool_calls],
        }
        for index in sorted({chunk.index for chunk in chunks})
    ]
    return json.dumps([{name: value for name, value in choice.items() if value != []} for choice in found])


def _seed(asked: Query) -> int | None:
    seed = json.loads(asked.params).get("known", {}).get("seed")
    return int(seed) if seed is not None else None
