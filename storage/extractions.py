"""Documents, runs over them and what came of each chunk: kept in Postgres, and found by whom they belong to."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from storage import sql
from storage.extracted import SILENT_S, Call, ChunkSpan, Document, Outcome, Run, RunStatus
from storage.extraction_rows import (
    call_columns,
    call_of,
    document_row,
    fields,
    json_text,
    record_columns,
    refusals,
    run_row,
    struct_of,
    texts,
)
from storage.guard import Guard
from storage.rows import storable

T = TypeVar("T")

_LARGE_DEADLINES: Final = 10
"""How much longer than a look-up that may take which writes, or reads a whole run."""


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
        [kept] = await self._write("document_put", *document_row(doc))
        found = fields(kept, ("id", "meta", "created_at", "media_type", "title", "pages", "passages"))
        return msgspec.structs.replace(doc, text=storable(doc.text), **found)

    async def document(self, name: str, tenant: str) -> Document | None:
        """The tenant's document of this id."""
        rows = await self._read("document_get", _LARGE_DEADLINES, name, tenant)
        return struct_of(Document, rows[0]) if rows else None

    async def document_head(self, name: str, tenant: str) -> Document | None:
        """The tenant's document of this id, without its text."""
        rows = await self._read("document_head", 1, name, tenant)
        return struct_of(Document, rows[0]) if rows else None

    async def documents(self, tenant: str, limit: int, before: float | str | None = None) -> list[Document]:
        """The tenant's last documents, newest first, without their texts: those kept before a moment, or those that
        come after the one of an id.
        """
        rows = await self._read("document_list", 1, tenant, limit, *_moment_or_id(before))
        return [struct_of(Document, row) for row in rows]

    async def delete_document(self, name: str, tenant: str, models: Collection[str] | None = None) -> bool:
        """Forget the tenant's document, and all runs over it; False when there is none, or runs of other `models`."""
        named = None if models is None else sorted(models)
        return bool(await self._write("document_delete", name, tenant, named))

    async def begin(self, run: Run, recipe: Mapping[str, Any], chunks: Sequence[ChunkSpan]) -> None:
        """Keep a new run with its recipe and the chunks of its document. It has as many as there are here."""
        parts = [(chunk.ordinal, chunk.start, chunk.end, chunk.sha256) for chunk in chunks]
        columns = list(zip(*parts, strict=True)) or [()] * 4
        first = texts((run.tenant, run.recipe, run.edition, json_text(recipe)))
        row = run_row(run, len(chunks))

        async def begun(connection: Any) -> None:
            await connection.execute(sql.query("extraction_recipe_put"), *first)
            await connection.execute(sql.query("extraction_chunks_put"), run.document_id, run.chunker, *columns)
            await connection.execute(sql.query("extraction_run_put"), *row)

        await self._transaction("begin", begun)

    async def commit(self, run_id: str, calls: Sequence[Call], worker: str) -> RunStatus | None:
        """Keep calls and their records: of each chunk that is spoken of all, instead of those it had. Nothing is
        written to a run that is over, was deleted, or is another worker's by now. Without calls it says that its
        worker is there. Returns the run's status; None when there is no such run of this worker's.
        """
        asked = await call_columns(calls)
        records = await record_columns(calls)

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

    async def end(self, run_id: str, outcome: Outcome, worker: str) -> RunStatus | None:
        """End a run: `cancelled` when somebody wanted that, and otherwise with this outcome; one that is over stays as
        it is. Returns the run's status; None when there is no such run of this worker's.
        """
        said = None if outcome.error is None else json_text(outcome.error)
        counts, ended_at = json_text(outcome.counts), outcome.ended_at
        rows = await self._write("extraction_end", run_id, outcome.status, counts, said, worker, ended_at)
        return rows[0]["status"] if rows else None

    async def run(self, name: str, tenant: str) -> Run | None:
        """The tenant's run of this id."""
        return _first(await self._read("extraction_run_get", 1, name, tenant))

    async def runs(
        self,
        tenant: str,
        limit: int,
        before: float | str | None = None,
        document_id: str | None = None,
        models: Collection[str] | None = None,
    ) -> list[Run]:
        """The tenant's last runs, newest first: those made before a moment, or that come after the one of an id; over a
        document, and of some models.
        """
        named = None if models is None else sorted(models)
        moment, after = _moment_or_id(before)
        rows = await self._read("extraction_run_list", 1, tenant, limit, moment, document_id, named, after)
        return [struct_of(Run, row) for row in rows]

    async def recipe(self, tenant: str, name: str, edition: str) -> dict[str, Any] | None:
        """A recipe as a run of the tenant's used it."""
        rows = await self._read("extraction_recipe_get", 1, tenant, name, edition)
        return msgspec.json.decode(rows[0]["recipe"]) if rows else None

    async def chunks(self, document_id: str, chunker: str) -> list[ChunkSpan]:
        """The chunks of a document, as a run was given them."""
        rows = await self._read("extraction_chunks_get", 1, document_id, chunker)
        return [ChunkSpan(*row) for row in rows]

    async def calls_since(self, run_id: str, serial: int) -> list[Call]:
        """The calls with a higher serial, in the order of their serials. A chunk's calls become visible together, and
        none with a lower serial is ever there later.
        """
        return [call_of(row) for row in await self._read("extraction_calls", _LARGE_DEADLINES, run_id, serial)]

    async def cancel(self, name: str, tenant: str) -> Run | None:
        """Have the tenant's run end, and return it as it is then: `cancelling`, or `cancelled` when its worker is gone.
        One that is over stays as it is. None when there is none.
        """
        return _first(await self._write("extraction_cancel", name, tenant, SILENT_S))

    async def reopen(self, name: str, tenant: str, worker: str) -> Run | None:
        """Have the tenant's run go on that ended before it was complete, or whose worker is gone: it is `worker`'s
        then, and nobody else's. None when it is not there, complete, or another's already.
        """
        return _first(await self._write("extraction_reopen", name, tenant, SILENT_S, worker))

    async def delete_run(self, name: str, tenant: str) -> bool:
        """Forget the tenant's run, and its records; False when there is none."""
        return bool(await self._write("extraction_run_delete", name, tenant))

    async def aclose(self) -> None:
        """End calls that never came back."""
        self._reads.close()
        self._writes.close()

    async def _read(self, query: str, deadlines: int, *asked: Any) -> list[Any]:
        async def fetched() -> list[Any]:
            with refusals():
                return await self._pool.fetch(sql.query(query), *asked)

        return await self._reads.call(query, fetched, self._deadline_s * deadlines)

    async def _write(self, query: str, *said: Any) -> list[Any]:
        async def written(connection: Any) -> list[Any]:
            return await connection.fetch(sql.query(query), *texts(said))

        return await self._transaction(query, written)

    async def _transaction(self, doing: str, work: Callable[[Any], Awaitable[T]]) -> T:
        async def done() -> T:
            with refusals():
                async with self._pool.acquire() as connection, connection.transaction():
                    return await work(connection)

        return await self._writes.call(doing, done, self._deadline_s * _LARGE_DEADLINES)


def _moment_or_id(before: float | str | None) -> tuple[float | None, str | None]:
    return (None, before) if isinstance(before, str) else (before, None)


def _first(rows: Sequence[Any]) -> Run | None:
    return struct_of(Run, rows[0]) if rows else None
