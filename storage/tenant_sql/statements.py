"""A statement, on a connection that is in a transaction: its columns, and its rows up to a bound."""

import re
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec

from storage.tenant_sql.faults import SqlFault, fault_of

# Literally so: of all statements only SELECT, VALUES, TABLE and WITH can follow, and none of them can write.
_CURSOR: Final = "DECLARE c NO SCROLL CURSOR FOR "
# Without costs: estimates are made from everybody's rows.
_PLAN: Final = "EXPLAIN (COSTS OFF) "
_EXPLAIN: Final = re.compile(r"\s*explain\s+(?=\S)", re.IGNORECASE)
_FIRST: Final = 1
_GROWTH: Final = 8
_MOST: Final = 1024
_BATCH_BYTES: Final = 2**20
_TOO_LARGE: Final = "A row is larger than a result may be; ask for fewer columns, or for parts of their values."


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a statement may give, and how long it may take."""

    rows: int = 10_000
    bytes: int = 16 * 2**20
    seconds: float = 10.0
    bytes_read: int | None = None
    """How much may be read at once, of rows whose size is not known before; more ends the session. None is all."""


class Column(msgspec.Struct, frozen=True):
    """One column of a result."""

    name: str
    type: str
    """As Postgres calls it."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement gave. Values are those that `TenantConnection` makes."""

    columns: Sequence[Column]
    batches: Sequence[Sequence[Sequence[Any]]]
    truncated: bool
    """There are more rows."""

    @property
    def count(self) -> int:
        """How many rows."""
        return sum(map(len, self.batches))


async def fetched(connection: Any, text: str, params: Sequence[Any], limits: Limits) -> Result:
    """Run `text`. Raises `SqlFault`."""
    before = _CURSOR
    if explained := _EXPLAIN.match(text):
        before, text = _PLAN + _CURSOR, text[explained.end() :]
    skipped = len(before) - (explained.end() if explained else 0)
    try:
        opened = await connection.prepare(before + text)
        given = _given(opened.get_parameters(), params)
        rows = await opened.fetch(*given)
        if explained:
            return Result(columns=[Column("plan", "text")], batches=[rows], truncated=False)
        return await _drained(connection, limits)
    except asyncpg.PostgresConnectionError:
        raise
    except asyncpg.InternalClientError as error:
        raise SqlFault("sql_failed", "A column has a type that cannot be told; cast it to text.") from error
    except (asyncpg.PostgresError, ValueError, OverflowError) as error:
        if isinstance(error, asyncpg.PostgresError) and getattr(error, "severity", None):
            raise fault_of(error, skipped) from error
        # It was made here, of what was to be sent.
        raise SqlFault("sql_params", "A parameter is not of the type that the statement takes.") from error


async def _drained(connection: Any, limits: Limits) -> Result:
    """The rows, in batches that are small where rows are large: a batch is in memory as a whole."""
    columns: list[Column] = []
    batches: list[Sequence[Sequence[Any]]] = []
    count = size = 0
    wanted = min(_FIRST, limits.rows + 1)
    while True:
        connection.bound(limits.bytes_read)
        got = await _next(connection, wanted)
        if got is None:
            return _cut(columns, batches)
        statement, rows = got
        columns = columns or [Column(one.name, one.type.name) for one in statement.get_attributes()]
        kept = 0
        for row in rows:
            size += _size(row)
            if count + kept == limits.rows or size > limits.bytes:
                break
            kept += 1
        batches.append(rows[:kept])
        count += kept
        if kept < len(rows):
            return _cut(columns, batches)
        if len(rows) < wanted:
            return Result(columns=columns, batches=batches, truncated=False)
        wanted = max(1, min(_GROWTH * wanted, _MOST, _BATCH_BYTES * count // max(size, 1), limits.rows + 1 - count))


async def _next(connection: Any, wanted: int) -> tuple[Any, Sequence[Any]] | None:
    """So many rows, and what they are of; None when they are too much to be read."""
    try:
        statement = await connection.prepare(f"FETCH FORWARD {wanted} FROM c")
        return statement, await statement.fetch()
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError):
        if connection.overflowed:
            return None
        raise


def _cut(columns: Sequence[Column], batches: Sequence[Sequence[Sequence[Any]]]) -> Result:
    """What there is, of more. Raises `SqlFault` when that is nothing."""
    if not any(batches):
        raise SqlFault("sql_too_large", _TOO_LARGE)
    return Result(columns=columns, batches=batches, truncated=True)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, msgspec.Raw):
        return len(bytes(value))
    if isinstance(value, (list, tuple, asyncpg.Record)):
        return sum(map(_size, value)) + 2
    return 8


def _given(types: Sequence[Any], params: Sequence[Any]) -> list[Any]:
    """JSON's values as asyncpg takes them. Raises `SqlFault`."""
    if len(types) != len(params):
        message = f"The statement has {len(types)} parameters ($1, $2 …), and {len(params)} were sent."
        raise SqlFault("sql_params", message)
    return [_param(place, one.name, value) for place, (one, value) in enumerate(zip(types, params, strict=True), 1)]


def _param(place: int, kind: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if kind.endswith("[]"):
        if not isinstance(value, list):
            message = f"Parameter ${place} must be a list: the statement takes {kind}."
            raise SqlFault("sql_params", message)
        return [_param(place, kind[:-2], one) for one in value]
    if kind in {"json", "jsonb"} or (kind in {"vector", "halfvec"} and isinstance(value, list)):
        return msgspec.json.encode(value).decode()
    if kind in {"float4", "float8", "numeric"} and not isinstance(value, (bool, list, dict)):
        return str(value)
    fits = {"bool": bool, "int2": int, "int4": int, "int8": int, "oid": int}.get(kind, str)
    if not isinstance(value, fits) or (fits is int and isinstance(value, bool)):
        message = f"Parameter ${place} cannot be what was sent: the statement takes {kind}."
        raise SqlFault("sql_params", message)
    return value
