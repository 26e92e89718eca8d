"""`/v1/sql`: a tenant's own SQL over the views of the schema `api`, read only."""

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.types import ASGIApp

from gateway import steering
from gateway.caller import Caller
from gateway.canonical import Request as Question
from gateway.embedding.embedder import Vectors
from gateway.embedding.params import are_embedded, embedded
from gateway.errors import Forbidden, SqlRefused, StorageUnavailable
from gateway.routes.leaving import unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded
from gateway.routes.whole import JSON, Whole
from gateway.steering import Steering
from gateway.wire import columnar, reply
from gateway.wire import sql as wire
from storage import sql as questions
from storage.errors import StorageError
from storage.tenant_sql.faults import SqlFault
from storage.tenant_sql.schema import views
from storage.tenant_sql.statements import Result

HttpRequest = Request[Any, Caller, Any]

_CSV: Final = {"content-type": "text/csv; charset=utf-8; header=present", "x-content-type-options": "nosniff"}
_FORMATS: Final[dict[str, tuple[Callable[[Result], Awaitable[bytes]], dict[str, str]]]] = {
    "json": (wire.as_json, JSON),
    "csv": (wire.as_csv, _CSV),
    "arrow": (columnar.as_arrow, columnar.ARROW),
    "parquet": (columnar.as_parquet, columnar.PARQUET),
}


@post("/v1/sql", summary="Ask in SQL", status_code=200, opt={"scope": "cache"})
async def ask(request: HttpRequest, parts: NamedDependency[Parts]) -> ASGIApp:
    """One statement that reads, or the name of a saved one; its rows, as wanted. It ends when its client leaves."""
    asked = await decoded(request, wire.decode)
    if asked.format in ("arrow", "parquet"):
        columnar.needed(asked.format)  # before anything is run
    result = await unless_left(request.receive, _asked(request, parts, asked))
    said = {"x-askonce-rows": str(result.count), "x-askonce-truncated": str(result.truncated).lower()}
    write, headers = _FORMATS[asked.format]
    return Whole(await write(result), headers | said)


@get("/v1/sql/schema", summary="Show what SQL can ask about", opt={"scope": "cache"})
async def schema(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Every view with its title, and its columns with their types and what they hold."""
    _expect_all(request.auth)
    result = await _read(request.auth, parts, questions.query("tenant_sql_schema"), ())
    data = views(row for rows in result.batches for row in rows)
    return msgspec.json.decode(msgspec.json.encode({"object": "list", "data": data}))  # columns are JSON already


@get("/v1/sql/queries", summary="List saved queries", opt={"scope": "cache"}, sync_to_thread=True)
def queries(parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Those that come with askonce, and those of its folder; each is run by its name as `query`."""
    with _readable():
        found = parts.queries.all()
    data = [{"object": "query", "name": one.name, "title": one.title, "sql": one.sql} for one in found]
    return {"object": "list", "data": data}


def _saved(parts: Parts, name: str) -> str:
    with _readable():
        found = parts.queries.get(name)
    if found is None:
        message = f"There is no saved query '{name[:80]}'; GET /v1/sql/queries lists those that there are."
        raise SqlRefused("query_not_found", message, param="query")
    return found.sql


@contextmanager
def _readable() -> Generator[None]:
    try:
        yield
    except StorageError as error:
        raise StorageUnavailable(str(error)) from error


async def _asked(request: HttpRequest, parts: Parts, asked: wire.Asked) -> Result:
    _expect_all(request.auth)
    text = asked.sql if asked.query is None else _saved(parts, asked.query)
    given = asked.params
    if are_embedded(given):
        wishes = steering.read(request.headers)
        with _readable():
            model = await parts.vectors.current()  # that kept vectors are of: those of another one cannot be compared
        usual = model.model if model else ""
        given = await embedded(given, partial(_vectors, parts), parts.router, request.auth, wishes, usual)
    return await _read(request.auth, parts, text or "", given)


async def _vectors(parts: Parts, questions: Sequence[Question], caller: Caller, wishes: Steering) -> Vectors:
    model = questions[0].model
    vectors = await parts.embedder.embed(questions, caller, wishes, reply.head("sql-", model).id)
    parts.telemetry.replied(caller.tenant, "embedding", model, vectors.status, "")
    return vectors


def _expect_all(caller: Caller) -> None:
    if caller.models is not None:
        message = "This key may ask some models only, and SQL shows the answers of all; use one for all models."
        raise Forbidden(message, code="insufficient_scope")


async def _read(caller: Caller, parts: Parts, text: str, params: Sequence[Any]) -> Result:
    try:
        return await parts.sql.run(caller.tenant, text, params)
    except SqlFault as fault:
        raise SqlRefused(fault.code, str(fault), param="params" if fault.code == "sql_params" else "sql") from fault
