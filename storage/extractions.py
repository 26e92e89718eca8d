"""Documents, runs over them and what came of each chunk -> rows; and the rows again, for who may see them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

import asyncpg
import msgspec

from storage import sql
from storage.errors import RefusedError, brief
from storage.guard import Guard
from storage.rows import storable, words

T = TypeVar("T")

RunStatus = Literal["in_progress", "completed", "incomplete", "failed", "cancelling", "cancelled"]
Ended = Literal["completed", "incomplete", "failed", "cancelled"]
CallStatus = Literal["ok", "empty", "refused", "truncated", "invalid", "failed"]

SILENT_S: Final = 30.0
"""A run whose worker was not heard of for so long is anybody's."""
_LARGE_DEADLINES: Final = 10
"""How much longer than a look-up that may take which writes, or reads a whole run."""
_AT_ONCE: Final = 100
"""Rows made before others have their turn: half a millisecond."""
_LONGEST_CLASS: Final = 500
"""A model may call a class anything; an index takes no more than 2.7 KB."""
_NUL: Final = b"\\u0000"
_JSON: Final = frozenset({"meta", "options", "counts", "metadata", "error", "parameters"})
_REFUSALS = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""What the server says of rows that it would not take later either."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A text, once for each tenant."""

    id: str
    tenant: str
    sha256: bytes
    text: str
    characters: int
    created_at: float
    meta: dict[str, Any] = {}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe applied to a document."""

    id: str
    tenant: str
    """Who may see it."""
    scope: str
    """Where its answers are kept."""
    document_id: str
    recipe: str
    edition: str
    model: str
    options: dict[str, Any]
    langextract: str
    """The version of LangExtract."""
    chunker: str
    """How the document is split."""
    passes: int
    created_at: float
    status: RunStatus = "in_progress"
    error: dict[str, Any] | None = None
    counts: dict[str, Any] = {}
    chunks: int = 0
    chunks_done: int = 0
    metadata: dict[str, Any] = {}
    made_by: str = ""
    worker: str = ""
    """Who goes on with it: nobody else writes to it."""
    seen_at: float = 0.0
    """When its worker was last heard of; the database says."""
    ended_at: float | None = None


class ChunkSpan(msgspec.Struct, frozen=True):
    """A part of a document. Places are code points from its beginning."""

    ordinal: int
    start: int
    end: int
    sha256: bytes


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was found."""

    name: str
    """Its class."""
    text: str
    attributes: dict[str, Any] | None = None
    start: int | None = None
    end: int | None = None
    quote: str | None = None
    """What the document says there."""
    alignment: str | None = None
    group: int = 0
    fits: bool = True
    """Its attributes are what the recipe asks for."""
    kept: bool = True
    """It is part of the run's result."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One time a model was asked about a chunk. What a call that failed does not know is None."""

    chunk: int
    pass_number: int
    attempt: int
    status: CallStatus
    chosen: bool
    """Its records are what its pass found."""
    model: str
    served_at: float
    """When its answer was given to the run, or it failed."""
    duration_ms: float
    problems: tuple[str, ...] = ()
    key: bytes | None = None
    prompt_hash: bytes | None = None
    model_version: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    backend: str | None = None
    finish_reason: str | None = None
    cache: str | None = None
    tier: str | None = None
    origin_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    answered_at: float | None = None
    """When the model said it."""
    error: dict[str, Any] | None = None
    parameters: dict[str, Any] | None = None
    """Temperature, seed and their like, as it was asked."""
    records: tuple[Record, ...] = ()
    serial: int = 0
    """Given by the database; what is committed later has a higher one."""


_RECORDS: Final = msgspec.json.Decoder(tuple[Record, ...])


class Extractions:
    """Rows of `askonce.documents`, `extraction_runs` and what belongs to them.

    Every call raises `RefusedError` for what no row can be made of, and `StorageError` when the database cannot be
    asked in time. NUL in texts is kept as U+2400. Where a tenant is named, what is another's is as good as not there;
    the other calls are for who has found the run with its tenant.
    """

    def __init__(self, pool: asyncpg.Pool, guards: tuple[Guard, Guard], deadline_s: float) -> None:
        self._pool = pool
        self._reads, self._writes = guards
        self._deadline_s = deadline_s

    async def put_document(self, doc: Document) -> Document:
        """`doc` as it is kept; of a text that the tenant has already, the document that is there. Its `meta` becomes
        that of `doc`, unless this is empty.
        """
        row = (doc.id, doc.tenant, doc.sha256, doc.text, doc.characters, _json(doc.meta), doc.created_at)
        [kept] = await self._write("document_put", *row)
        found = {name: _plain(name, kept[name]) for name in ("id", "meta", "created_at")}
        return msgspec.structs.replace(doc, text=storable(doc.text), **found)

    async def document(self, name: str, tenant: str) -> Document | None:
        """The tenant's document of this id."""
        rows = await self._read("document_get", _LARGE_DEADLINES, name, tenant)
        return Document(**_fields(Document, rows[0])) if rows else None

    async def document_head(self, name: str, tenant: str) -> Document | None:
        """The tenant's document of this id, without its text."""
        rows = await self._read("document_head", 1, name, tenant)
        return Document(**_fields(Document, rows[0])) if rows else None

    async def delete_document(self, name: str, tenant: str) -> bool:
        """Forget the tenant's document, and all runs over it; False when there is none."""
        return bool(await self._write("document_delete", name, tenant))

    async def begin(self, run: Run, recipe: Mapping[str, Any], chunks: Sequence[ChunkSpan]) -> None:
        """Keep a new run with its recipe and the chunks of its document. It has as many as there are here."""
        parts = [(chunk.ordinal, chunk.start, chunk.end, chunk.sha256) for chunk in chunks]
        columns = list(zip(*parts, strict=True)) or [()] * 4
        first = _texts((run.tenant, run.recipe, run.edition, _json(recipe)))
        row = _run_row(run, len(chunks))

        async def begun(connection: Any) -> None:
            await connection.execute(sql.query("extraction_recipe_put"), *first)
            await connection.execute(sql.query("extraction_chunks_put"), run.document_id, run.chunker, *columns)
            await connection.execute(sql.query("extraction_run_put"), *row)

        await self._transaction("begin", begun)

    async def commit(self, run_id: str, calls: Sequence[Call], worker: str = "") -> RunStatus | None:
        """Keep calls and their records: of each chunk that is spoken of all, instead of those it had. Nothing is
        written to a run that is over, was deleted, or is another worker's by now. Returns the run's status; None when
        there is no such run of this worker's.
        """
        asked = await _columns(calls, _call_row)
        found = [(call, number, record) for call in calls for number, record in enumerate(call.records)]
        records = await _columns(found, lambda one: _record_row(*one))

        async def committed(connection: Any) -> RunStatus | None:
            status = await connection.fetchval(sql.query("extraction_beat"), run_id, worker)
            if calls and status in ("in_progress", "cancelling"):
                await connection.execute(sql.query("extraction_calls_drop"), run_id, list({c.chunk for c in calls}))
                await connection.execute(sql.query("extraction_calls_put"), run_id, *asked)
                if records:
                    await connection.execute(sql.query("extraction_records_put"), run_id, *records)
                await connection.execute(sql.query("extraction_count"), run_id)
            return status

        return await self._transaction("commit", committed)

    async def beat(self, run_id: str, worker: str = "") -> RunStatus | None:
        """Say that the run's worker is there. Returns the run's status; None when there is no such run."""
        rows = await self._write("extraction_beat", run_id, worker)
        return rows[0]["status"] if rows else None

    async def end(
        self,
        run_id: str,
        status: Ended,
        counts: Mapping[str, Any],
        error: Mapping[str, Any] | None = None,
        worker: str = "",
    ) -> RunStatus | None:
        """End a run: `cancelled` when somebody wanted that, and otherwise with this status; one that is over stays as
        it is. Returns the run's status; None when there is no such run of this worker's.
        """
        said = None if error is None else _json(error)
        rows = await self._write("extraction_end", run_id, status, _json(counts), said, worker)
        return rows[0]["status"] if rows else None

    async def run(self, name: str, tenant: str) -> Run | None:
        """The tenant's run of this id."""
        return _run(await self._read("extraction_run_get", 1, name, tenant))

    async def runs(
        self,
        tenant: str,
        limit: int,
        before: float | None = None,
        document_id: str | None = None,
        models: Collection[str] | None = None,
    ) -> list[Run]:
        """The tenant's last runs, newest first: those made before a moment, over a document, of some models."""
        named = None if models is None else sorted(models)
        rows = await self._read("extraction_run_list", 1, tenant, limit, before, document_id, named)
        return [Run(**_fields(Run, row)) for row in rows]

    async def recipe(self, tenant: str, name: str, edition: str) -> dict[str, Any] | None:
        """A recipe as a run of the tenant's used it."""
        rows = await self._read("extraction_recipe_get", 1, tenant, name, edition)
        return msgspec.json.decode(rows[0]["recipe"]) if rows else None

    async def chunks(self, document_id: str, chunker: str) -> list[ChunkSpan]:
        """The chunks of a document, as a run was given them."""
        rows = await self._read("extraction_chunks_get", 1, document_id, chunker)
        return [ChunkSpan(*row) for row in rows]

    async def calls(self, run_id: str, after: int = -1) -> list[Call]:
        """The calls about the chunks after one, with their records, by chunk, pass and attempt."""
        return await self._calls(run_id, after, 0)

    async def calls_since(self, run_id: str, serial: int) -> list[Call]:
        """The calls with a higher serial, in the order of their serials. A chunk's calls become visible together, and
        none with a lower serial is ever there later.
        """
        return sorted(await self._calls(run_id, -1, serial), key=lambda call: call.serial)

    async def cancel(self, name: str, tenant: str) -> Run | None:
        """Have the tenant's run end, and return it as it is then: `cancelling`, or `cancelled` when its worker is gone.
        One that is over stays as it is. None when there is none.
        """
        return _run(await self._write("extraction_cancel", name, tenant, SILENT_S))

    async def reopen(self, name: str, tenant: str, worker: str = "") -> Run | None:
        """Have the tenant's run go on that ended before it was complete, or whose worker is gone: it is `worker`'s
        then, and nobody else's. None when it is not there, complete, or another's already.
        """
        return _run(await self._write("extraction_reopen", name, tenant, SILENT_S, worker))

    async def delete_run(self, name: str, tenant: str) -> bool:
        """Forget the tenant's run, and its records; False when there is none."""
        return bool(await self._write("extraction_run_delete", name, tenant))

    async def aclose(self) -> None:
        """End calls that never came back."""
        self._reads.close()
        self._writes.close()

    async def _calls(self, run_id: str, after: int, serial: int) -> list[Call]:
        return [_call(row) for row in await self._read("extraction_calls", _LARGE_DEADLINES, run_id, after, serial)]

    async def _read(self, query: str, deadlines: int, *asked: Any) -> list[Any]:
        async def fetched() -> list[Any]:
            with _refusals():
                return await self._pool.fetch(sql.query(query), *asked)

        return await self._reads.call(query, fetched, self._deadline_s * deadlines)

    async def _write(self, query: str, *said: Any) -> list[Any]:
        async def written(connection: Any) -> list[Any]:
            return await connection.fetch(sql.query(query), *_texts(said))

        return await self._transaction(query, written)

    async def _transaction(self, doing: str, work: Callable[[Any], Awaitable[T]]) -> T:
        async def done() -> T:
            with _refusals():
                async with self._pool.acquire() as connection, connection.transaction():
                    return await work(connection)

        return await self._writes.call(doing, done, self._deadline_s * _LARGE_DEADLINES)


@contextlib.contextmanager
def _refusals() -> Generator[None]:
    """What is the rows' own fault becomes `RefusedError`, so that nobody takes the database to be ill."""
    try:
        yield
    except (asyncpg.DataError, ValueError) as error:
        kind, said, *_ = [*brief(error).split(": "), ""]  # the value follows
        raise RefusedError(f"{kind}: {said}") from error
    except _REFUSALS as error:
        raise RefusedError(brief(error)) from error


async def _columns(items: Sequence[T], row: Callable[[T], tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The columns of the items' rows, made a few at a time: requests are answered meanwhile."""
    made: list[tuple[Any, ...]] = []
    for start in range(0, len(items), _AT_ONCE):
        made += map(_texts, map(row, items[start : start + _AT_ONCE]))
        await asyncio.sleep(0)
    return list(zip(*made, strict=True))


def _run_row(run: Run, chunks: int) -> tuple[Any, ...]:
    return _texts(
        (
            run.id,
            run.tenant,
            run.scope,
            run.document_id,
            run.recipe,
            run.edition,
            run.model,
            _json(run.options),
            run.langextract,
            run.chunker,
            run.passes,
            run.status,
            _json(run.counts),
            chunks,
            _json(run.metadata),
            run.made_by,
            run.created_at,
            run.worker,
        )
    )


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
        None if call.error is None else _json(call.error),
        None if call.parameters is None else _json(call.parameters),
    )


def _record_row(call: Call, number: int, record: Record) -> tuple[Any, ...]:
    return (
        call.chunk,
        call.pass_number,
        call.attempt,
        number,
        record.name[:_LONGEST_CLASS],
        record.text,
        None if record.attributes is None else _json(record.attributes),
        record.start,
        record.end,
        record.quote,
        record.alignment,
        record.group,
        record.fits,
        record.kept,
    )


def _run(rows: Sequence[Any]) -> Run | None:
    return Run(**_fields(Run, rows[0])) if rows else None


def _call(row: Any) -> Call:
    fields = {name: _plain(name, row[name]) for name in Call.__struct_fields__ if name != "records"}
    return Call(**fields, records=_RECORDS.decode(row["records"]))


def _fields(kind: type[msgspec.Struct], row: Any) -> dict[str, Any]:
    """Those of the row's columns that `kind` has."""
    return {name: _plain(name, row[name]) for name in kind.__struct_fields__}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, str) and name in _JSON:
        return msgspec.json.decode(value)
    return tuple(value) if isinstance(value, list) else value


def _texts(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple([storable(value) if isinstance(value, str) else value for value in values])


def _json(value: Mapping[str, Any]) -> str:
    with _refusals():
        said = msgspec.json.encode(value)
        return (msgspec.json.encode(_storable(value)) if _NUL in said else said).decode()


def _storable(value: Any) -> Any:
    """JSON without NUL, which jsonb cannot hold."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(name)): _storable(inner) for name, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list | tuple) else value
