"""Documents, runs and calls -> rows; and rows -> what they were."""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from storage.errors import RefusedError, brief
from storage.extracted import Call, Document, Record, Run
from storage.rows import storable, words

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_AT_ONCE: Final = 100
"""Rows made before others have their turn: half a millisecond."""
_LONGEST_CLASS: Final = 500
"""A model may call a class anything; an index takes no more than 2.7 KB."""
_NUL: Final = b"\\u0000"
_LISTS: Final = frozenset({"pages"})
_JSON: Final = frozenset({"meta", "options", "counts", "metadata", "error", "parameters"})
_RECORDS: Final = msgspec.json.Decoder(tuple[Record, ...])
_REFUSALS: Final = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""What the server says of rows that it would not take later either."""


@contextlib.contextmanager
def refusals() -> Generator[None]:
    """What is the rows' own fault becomes `RefusedError`, so that nobody takes the database to be ill."""
    try:
        yield
    except (asyncpg.DataError, ValueError) as error:
        kind, said, *_ = [*brief(error).split(": "), ""]  # the value follows
        raise RefusedError(f"{kind}: {said}") from error
    except _REFUSALS as error:
        raise RefusedError(brief(error)) from error


def document_row(doc: Document) -> tuple[Any, ...]:
    """The row of a document."""
    own = (doc.id, doc.tenant, doc.sha256, doc.text, doc.characters, json_text(doc.meta), doc.created_at)
    return (*own, doc.media_type, doc.title, list(doc.pages))


def run_row(run: Run, chunks: int) -> tuple[Any, ...]:
    """The row of a run over so many chunks."""
    return texts(
        (
            run.id,
            run.tenant,
            run.scope,
            run.document_id,
            run.recipe,
            run.edition,
            run.model,
            json_text(run.options),
            run.langextract,
            run.chunker,
            run.passes,
            run.status,
            json_text(run.counts),
            chunks,
            json_text(run.metadata),
            run.made_by,
            run.created_at,
            run.worker,
        )
    )


async def call_columns(calls: Sequence[Call]) -> list[tuple[Any, ...]]:
    """The columns of the rows of calls."""
    return await _columns(calls, _call_row)


async def record_columns(calls: Sequence[Call]) -> list[tuple[Any, ...]]:
    """The columns of the rows of what was found in calls; none when that is nothing."""
    found = [(call, number, record) for call in calls for number, record in enumerate(call.records)]
    return await _columns(found, lambda one: _record_row(*one))


async def _columns(items: Sequence[T], row: Callable[[T], tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The columns of the items' rows, made a few at a time: requests are answered meanwhile."""
    made: list[tuple[Any, ...]] = []
    for start in range(0, len(items), _AT_ONCE):
        made += map(texts, map(row, items[start : start + _AT_ONCE]))
        await asyncio.sleep(0)
    return list(zip(*made, strict=True))


def _call_row(call: Call) -> tuple[Any, ...]:
    return (
        call.chunk,
        call.pass_number,
        call.attempt,
        call.status,
        call.chosen,
        words(call.problems),
        call.key,
        call.prompt_hash,
        call.model,
        call.model_version,
        call.engine,
        call.engine_version,
        call.backend,
        call.finish_reason,
        call.cache,
        call.tier,
        call.origin_id,
        call.prompt_tokens,
        call.completion_tokens,
        call.answered_at,
        call.served_at,
        call.duration_ms,
        None if call.error is None else json_text(call.error),
        None if call.parameters is None else json_text(call.parameters),
    )


def _record_row(call: Call, number: int, record: Record) -> tuple[Any, ...]:
    return (
        call.chunk,
        call.pass_number,
        call.attempt,
        number,
        record.name[:_LONGEST_CLASS],
        record.text,
        None if record.attributes is None else json_text(record.attributes),
        record.start,
        record.end,
        record.quote,
        record.alignment,
        record.group,
        record.fits,
        record.kept,
    )


def struct_of(kind: type[S], row: Any) -> S:
    """The document, or the run, in a row. It may have columns besides."""
    return kind(**fields(row, kind.__struct_fields__))


def call_of(row: Any) -> Call:
    """The call in a row, with its records."""
    names = [name for name in Call.__struct_fields__ if name != "records"]
    return Call(**fields(row, names), records=_RECORDS.decode(row["records"]))


def fields(row: Any, names: Iterable[str]) -> dict[str, Any]:
    """Columns of a row as the fields of these names have them."""
    return {name: _plain(name, row[name]) for name in names}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, str) and name in _JSON:
        return msgspec.json.decode(value)
    return tuple(value) if isinstance(value, list) else value


def texts(values: Iterable[Any]) -> tuple[Any, ...]:
    """The values, of which texts are as Postgres can hold them."""
    return tuple([storable(value) if isinstance(value, str) else value for value in values])


def json_text(value: Mapping[str, Any]) -> str:
    """JSON as Postgres can hold it. Raises `RefusedError` for what has none."""
    with refusals():
        said = msgspec.json.encode(value)
        return (msgspec.json.encode(_storable(value)) if _NUL in said else said).decode()


def _storable(value: Any) -> Any:
    """JSON without NUL, which jsonb cannot hold."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(name)): _storable(inner) for name, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list | tuple) else value
