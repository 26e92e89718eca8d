"""`/v1/search`: what is kept, found by what it says."""

from typing import Any

from litestar import Request, post
from litestar.di import NamedDependency

from gateway.caller import Caller
from gateway.routes.leaving import unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded
from gateway.searching import told
from gateway.wire import search as wire


@post("/v1/search", summary="Search documents, records and answers", status_code=200)
async def search(request: Request[Any, Caller, Any], parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Passages of documents, extracted records and kept answers, by their words and by what they mean."""
    asked = await decoded(request, wire.decode)
    found = await unless_left(request.receive, parts.searching.searcher.search(asked, request.auth))
    return told.results(found)
