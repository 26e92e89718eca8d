"""`/v1/sql`: a tenant's own SQL over the views of the schema `api`, read only."""

from typing import Any, Final

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.types import ASGIApp

from gateway.caller import Caller
from gateway.errors import Forbidden, SqlRefused
from gateway.routes.leaving import unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded
from gateway.routes.whole import JSON, Whole
from gateway.wire import sql as wire
from storage import sql as questions
from storage.tenant_sql.faults import SqlFault
from storage.tenant_sql.statements import Result

HttpRequest = Request[Any, Caller, Any]

_CSV: Final = {"content-type": "text/csv; charset=utf-8; header=present", "x-content-type-options": "nosniff"}


@post("/v1/sql", summary="Ask in SQL", status_code=200, opt={"scope": "cache"})
async def ask(request: HttpRequest, parts: NamedDependency[Parts]) -> ASGIApp:
    """One statement that reads; its rows as JSON or CSV. It ends when its client leaves."""
    asked = await decoded(request, wire.decode)
    result = await unless_left(request.receive, _read(request.auth, parts, asked.sql, asked.params))
    said = {"x-askonce-rows": str(result.count), "x-askonce-truncated": str(result.truncated).lower()}
    if asked.format == "csv":
        return Whole(await wire.as_csv(result), _CSV | said)
    return Whole(await wire.as_json(result), JSON | said)


@get("/v1/sql/schema", summary="Show what SQL can ask about", opt={"scope": "cache"})
async def schema(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Every view, with its columns and their types."""
    result = await _read(request.auth, parts, questions.query("tenant_sql_schema"), ())
    views: dict[str, list[dict[str, str]]] = {}
    for view, column, kind in (row for rows in result.batches for row in rows):
        views.setdefault(view, []).append({"name": column, "type": kind})
    return {"object": "list", "data": [{"object": "view", "name": name, "columns": of} for name, of in views.items()]}


async def _read(caller: Caller, parts: Parts, text: str, params: Any) -> Result:
    if caller.models is not None:
        message = "This key may ask some models only, and SQL shows the answers of all; use one for all models."
        raise Forbidden(message, code="insufficient_scope")
    try:
        return await parts.sql.run(caller.tenant, text, params)
    except SqlFault as fault:
        raise SqlRefused(fault.code, str(fault), has_params=fault.code == "sql_params") from fault
