"""`/v1/extractions`: texts in, grounded records out; at once, as they come, or in the background."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ASGIApp

from extractors import jsonl, view
from gateway import steering
from gateway.caller import Caller
from gateway.errors import BackendError, RequestError, envelope
from gateway.extraction import counting, told
from gateway.extraction.session import Session
from gateway.extraction.told import Told
from gateway.routes.described import asking
from gateway.routes.leaving import EventStream, unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import before, decoded, listing, most, query
from gateway.routes.whole import JSON, Whole
from gateway.wire import extractions as wire
from storage.extracted import Call

HttpRequest = Request[Any, Caller, Any]

_ENCODE: Final = msgspec.json.Encoder().encode
_LOOK_S: Final = 0.5
"""How often a run that goes on elsewhere is looked at."""


@post("/v1/extractions", summary="Extract records from a text", status_code=200)
async def create(request: HttpRequest, parts: NamedDependency[Parts]) -> ASGIApp:
    """A text, a document or a conversation, a recipe and a model in; records with their places in the text out."""
    asked = await decoded(request, wire.decode)
    wishes = steering.read(request.headers)
    if asked.background:
        with parts.extraction.jobs.room(request.auth.tenant):
            session = await parts.extraction.extractor.begin(asked, request.auth, wishes)
            parts.extraction.jobs.start(session)
        return _json(session.told.state(()), status=202)
    session = await unless_left(request.receive, parts.extraction.extractor.begin(asked, request.auth, wishes))
    if asked.stream:
        events = _events(session)
        return EventStream({"x-askonce-extraction": session.run.id}, events, events)
    return await unless_left(request.receive, whole(session))


@get(
    "/v1/extractions",
    summary="List extractions",
    operation_class=asking(
        limit="How many at most, up to 100; without it, 20.",
        after="Only those that come after the one of this id, as `last_id` names it.",
        before="Only those begun before this moment, as in 2026-11-30T12:00:00Z.",
        document_id="Only those of this document.",
    ),
)
async def listed(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """This tenant's, newest first, without their records."""
    params = query(request, ("limit", "after", "before", "document_id"))
    limit, document_id = most(params), params.get("document_id")
    runs = await parts.extraction.archive.listed(request.auth, limit + 1, before(params), document_id)
    return listing(runs, limit, told.listed)


@get("/v1/extractions/{extraction_id:str}", summary="Find an extraction again")
async def retrieve(request: HttpRequest, parts: NamedDependency[Parts], extraction_id: FromPath[str]) -> ASGIApp:
    """As it was given, or as far as it is."""
    found = await parts.extraction.archive.found(extraction_id, request.auth)
    calls = await parts.extraction.archive.calls(found)
    return _whole(found.run.id, await whole_of(found, calls))


@get("/v1/extractions/{extraction_id:str}/events", summary="Follow an extraction")
async def events(request: HttpRequest, parts: NamedDependency[Parts], extraction_id: FromPath[str]) -> ASGIApp:
    """What came of each chunk, and what comes, until it ends."""
    found = await parts.extraction.archive.found(extraction_id, request.auth)
    said = _followed(found, request.auth, parts)
    return EventStream({"x-askonce-extraction": extraction_id}, said, said)


@get("/v1/extractions/{extraction_id:str}/view", summary="Look at an extraction")
async def shown(request: HttpRequest, parts: NamedDependency[Parts], extraction_id: FromPath[str]) -> Response[str]:
    """A page: the text with its records coloured, and a list of them."""
    found = await parts.extraction.archive.found(extraction_id, request.auth, with_text=True)
    records = told.grounded(await parts.extraction.archive.calls(found))
    title = f"{found.run.recipe}: {found.document.id}"
    page = await asyncio.to_thread(view.page, title, found.document.text, records)
    return Response(page, media_type="text/html", headers=_SAFE)


@get("/v1/extractions/{extraction_id:str}/jsonl", summary="Save an extraction as LangExtract does")
async def saved(request: HttpRequest, parts: NamedDependency[Parts], extraction_id: FromPath[str]) -> Response[bytes]:
    """A line that LangExtract loads."""
    found = await parts.extraction.archive.found(extraction_id, request.auth, with_text=True)
    records = told.grounded(await parts.extraction.archive.calls(found))
    line = await asyncio.to_thread(jsonl.line, found.document.id, found.document.text, records)
    name = {"content-disposition": f'attachment; filename="{extraction_id}.jsonl"'}
    return Response(line, media_type="application/jsonl", headers=name | _SAFE)


@post("/v1/extractions/{extraction_id:str}/cancel", summary="End an extraction", status_code=200)
async def cancel(request: HttpRequest, parts: NamedDependency[Parts], extraction_id: FromPath[str]) -> dict[str, Any]:
    """What is done by now stays, and the rest can be resumed."""
    return told.listed(await parts.extraction.archive.cancel(extraction_id, request.auth))


@post("/v1/extractions/{extraction_id:str}/resume", summary="Go on with an extraction", status_code=202)
async def resume(request: HttpRequest, parts: NamedDependency[Parts], extraction_id: FromPath[str]) -> ASGIApp:
    """Ask about the chunks that have no answer yet, in the background."""
    with parts.extraction.jobs.room(request.auth.tenant):
        session = await parts.extraction.extractor.resume(extraction_id, request.auth)
        parts.extraction.jobs.start(session)
    return _json(session.told.state(session.calls), status=202)


@delete("/v1/extractions/{extraction_id:str}", summary="Forget an extraction", status_code=200)
async def forget(request: HttpRequest, parts: NamedDependency[Parts], extraction_id: FromPath[str]) -> dict[str, Any]:
    """With its records. Its document stays, and so do the answers in the cache."""
    await parts.extraction.archive.forget(extraction_id, request.auth)
    return {"id": extraction_id, "object": "extraction", "deleted": True}


_SAFE: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "x-content-type-options": "nosniff",
}


async def whole(session: Session) -> Whole:
    """All of a run, once it has ended. Raises why nothing at all was extracted."""
    async with aclosing(session.go()) as going:
        async for _ in going:
            pass
    if session.fault is not None:
        session.fault.headers = {"x-askonce-extraction": session.run.id}
        raise session.fault
    return _whole(session.run.id, await whole_of(session.told, session.calls))


async def _events(session: Session) -> AsyncGenerator[bytes]:
    """A run as events, while it goes on."""
    yield _event("extraction.created", session.told.state(()))
    async with aclosing(session.go()) as going:
        async for done in going:
            yield _event("extraction.chunk", session.told.part(done.calls))
    yield _event(f"extraction.{session.run.status}", session.told.state(session.calls))


async def _followed(found: Told, caller: Caller, parts: Parts) -> AsyncGenerator[bytes]:
    """A run as events, from its rows: it may go on anywhere."""
    had: list[Call] = []
    serial = 0
    yield _event("extraction.created", found.state(()))
    while True:
        is_over = told.is_over(found.run) or told.head(found.run)["status"] == "interrupted"
        try:
            new = await parts.extraction.archive.calls(found, serial)
            serial = max((call.serial for call in new), default=serial)
            again = {call.chunk for call in new}  # what was kept of a chunk before is not there any more
            had = [*(call for call in had if call.chunk not in again), *new]
            for calls in counting.by_chunk(new):
                yield _event("extraction.chunk", found.part(calls))
            if is_over:
                break
            await asyncio.sleep(_LOOK_S)
            found = msgspec.structs.replace(found, run=await parts.extraction.archive.run(found.run.id, caller))
        except (RequestError, BackendError) as error:
            yield _event("error", envelope(error))
            return
    yield _event(f"extraction.{told.head(found.run)['status']}", found.state(had))


async def whole_of(told_: Told, calls: Sequence[Call]) -> msgspec.Raw:
    """All of a run as JSON, made chunk by chunk: of a long text it takes too long to be made at once."""
    records: list[msgspec.Raw] = []
    chunks: list[msgspec.Raw] = []
    of_chunk = {some[0].chunk: some for some in counting.by_chunk(calls)}
    for chunk in told_.chunks:
        some = of_chunk.get(chunk.index)
        records += [msgspec.Raw(_ENCODE(record)) for record in told_.records(some or ())]
        chunks.append(msgspec.Raw(_ENCODE(told_.chunk(chunk.index, some) if some else told_.pending(chunk))))
        await asyncio.sleep(0)
    return msgspec.Raw(_ENCODE(told_.state(calls) | {"records": records, "chunks": chunks}))


def _event(kind: str, said: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _ENCODE({"type": kind, **said}))


def _json(said: dict[str, Any], status: int = 200) -> Whole:
    return _whole(said["id"], _ENCODE(said), status)


def _whole(name: str, said: msgspec.Raw | bytes, status: int = 200) -> Whole:
    return Whole(bytes(said), JSON | {"x-askonce-extraction": name}, status)


HANDLERS: Final = (
    create,
    listed,
    retrieve,
    events,
    shown,
    saved,
    cancel,
    resume,
    forget,
)
