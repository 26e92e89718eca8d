"""`/v1/sql`: bytes -> a statement and its parameters; rows -> JSON or CSV, a batch at a time. Others: `columnar.py`."""

import asyncio
import csv
import io
from typing import Any, Final, Literal

import msgspec

from gateway.errors import InvalidRequest
from gateway.wire import body
from storage.tenant_sql.statements import Result

_JSON: Final = msgspec.json.Encoder(enc_hook=str)


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends."""

    sql: str | None = None
    query: str | None = None
    """Instead of a statement, the name of a saved one."""
    params: list[Any] = []
    format: Literal["json", "csv", "arrow", "parquet"] = "json"


def decode(data: bytes) -> Asked:
    """The statement. Raises `InvalidRequest`."""
    raw = body.decode(data)
    body.expect_known(raw, Asked)
    asked = body.typed(raw, Asked)
    if (asked.sql is None) == (asked.query is None):
        message = "Give either 'sql', a statement, or 'query', the name of a saved one."
        raise InvalidRequest(message, param="sql", code="invalid_value")
    return asked


async def as_json(result: Result) -> bytes:
    """Columns with their types, rows as lists, how many they are, and whether there are more."""
    parts: list[bytes] = []
    for rows in result.batches:
        parts += [_JSON.encode(list(row)) for row in rows]
        await asyncio.sleep(0)  # others have their turn
    head = _JSON.encode({"object": "sql.result", "columns": result.columns})
    tail = b'"row_count":%d,"truncated":%s}' % (result.count, b"true" if result.truncated else b"false")
    return b'%b,"rows":[%b],%b' % (head[:-1], b",".join(parts), tail)


async def as_csv(result: Result) -> bytes:
    """The same as CSV: a line with the names, then one for each row; null is empty, lists are JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in result.columns])
    for rows in result.batches:
        writer.writerows([[_cell(value) for value in row] for row in rows])
        await asyncio.sleep(0)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (msgspec.Raw, list, tuple, bool)):
        return _JSON.encode(value).decode()
    return value
