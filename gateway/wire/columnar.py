"""Rows of SQL -> Arrow's stream and Parquet, where pyarrow is installed: it is large, and few want it."""

import asyncio
import importlib
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec

from gateway.errors import SqlRefused
from storage.tenant_sql.statements import Column, Result

ARROW: Final = {"content-type": "application/vnd.apache.arrow.stream"}
PARQUET: Final = {"content-type": "application/vnd.apache.parquet"}
_JSON: Final = msgspec.json.Encoder(enc_hook=str)


def needed(form: str) -> None:
    """Raise `SqlRefused` where what writes `form` is not installed."""
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        message = (
            f"The format '{form}' is not available here: it takes pyarrow. Install the extra 'arrow'"
            " (pip install 'askonce[arrow]') and start askonce again, or ask for 'json' or 'csv'."
        )
        raise SqlRefused("format_not_available", message, param="format") from error


async def as_arrow(result: Result) -> bytes:
    """Arrow's IPC stream, a record batch for each batch. Raises `SqlRefused` for a value that has no place there."""
    pa: Any = importlib.import_module("pyarrow")
    schema, batches = await _batches(pa, result)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


async def as_parquet(result: Result) -> bytes:
    """A file of Parquet. Raises `SqlRefused` for a value that has no place there."""
    pa: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    schema, batches = await _batches(pa, result)
    sink = pa.BufferOutputStream()
    await asyncio.to_thread(parquet.write_table, pa.Table.from_batches(batches, schema), sink)
    return sink.getvalue().to_pybytes()


async def _batches(pa: Any, result: Result) -> tuple[Any, list[Any]]:
    kinds = [_kind(pa, column.type) for column in result.columns]
    schema = pa.schema([(column.name, kind) for column, (kind, _) in zip(result.columns, kinds, strict=True)])
    batches: list[Any] = []
    for rows in result.batches:
        arrays = [
            _array(pa, column, kind, [row[place] for row in rows])
            for place, (column, kind) in enumerate(zip(result.columns, kinds, strict=True))
        ]
        if rows:
            batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        await asyncio.sleep(0)  # others have their turn
    return schema, batches


def _array(pa: Any, column: Column, kind: tuple[Any, Callable[[Any], Any]], values: Sequence[Any]) -> Any:
    of, read = kind
    try:
        return pa.array([None if value is None else read(value) for value in values], of)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        message = f"The column '{column.name}' has a value that {of} cannot hold: cast it to text."
        raise SqlRefused("sql_failed", message) from error


def _kind(pa: Any, name: str) -> tuple[Any, Callable[[Any], Any]]:
    """What a type of Postgres becomes, and what makes a value of it of what `TenantConnection` gives."""
    if name.endswith("[]"):
        of, read = _kind(pa, name[:-2])
        return pa.list_(of), lambda values: [None if value is None else read(value) for value in _list(values)]
    plain = {"bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "oid": pa.int64()}
    if name in plain:
        return plain[name], _itself
    reading = {
        "float4": (pa.float32(), _number),
        "float8": (pa.float64(), _number),
        "numeric": (pa.float64(), _number),
        "date": (pa.date32(), date.fromisoformat),
        "timestamp": (pa.timestamp("us"), datetime.fromisoformat),
        "timestamptz": (pa.timestamp("us", "UTC"), datetime.fromisoformat),
        "vector": (pa.list_(pa.float32()), msgspec.json.decode),
        "halfvec": (pa.list_(pa.float32()), msgspec.json.decode),
    }
    return reading.get(name, (pa.string(), _text))


def _itself(value: Any) -> Any:
    return value


def _list(value: Any) -> Any:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _number(value: Any) -> float:
    return float(bytes(value) if isinstance(value, msgspec.Raw) else value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _JSON.encode(value).decode()
