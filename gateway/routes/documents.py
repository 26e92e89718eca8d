"""`/v1/documents` and `/v1/recipes`: what is searched and extracted from, and what for."""

from typing import Any, Final

import msgspec
from litestar import Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from extractors.errors import RecipeError
from extractors.recipe import Recipe
from gateway.caller import Caller
from gateway.errors import InvalidRequest, StorageUnavailable
from gateway.extraction import told
from gateway.extraction.archive import looked_up
from gateway.routes.described import asking
from gateway.routes.leaving import unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import before, decoded, listing, most, ordinal, query
from gateway.searching.places import page
from gateway.wire import extractions as wire
from gateway.wire import files
from gateway.wire.files import File
from storage.extracted import Document
from storage.passages import Passage

HttpRequest = Request[Any, Caller, Any]


@post("/v1/documents", summary="Keep a document", status_code=200)
async def keep(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """A text that extractions may name by its id: as JSON, or a file (text, Markdown, HTML, PDF) as it is or in a form.
    The same text is the same document.
    """
    if (file := await sent(request)) is not None:
        return _document(await kept(request, parts, file))
    said, metadata = await decoded(request, wire.document)
    document = await parts.extraction.archive.keep_document(said, metadata, request.auth)
    await parts.searching.divider.divide(document)
    return _document(document)


async def kept(request: HttpRequest, parts: Parts, file: File) -> Document:
    """The document that a file becomes, divided. Raises `InvalidRequest` and `StorageUnavailable`."""
    reading = parts.extraction.extractor.read(file.data, file.media_type, file.charset, request.auth)
    found = await unless_left(request.receive, reading)
    said, metadata = wire.of_file(found, file.metadata, file.name)
    document = await parts.extraction.archive.keep_document(said, metadata, request.auth, file.media_type)
    await parts.searching.divider.divide(document)
    return document


async def sent(request: HttpRequest) -> File | None:
    """The file that a request brings; None where it brings JSON. Raises `InvalidRequest` and `UnsupportedMedia`."""
    media_type, charset = files.kind_of(request.headers.get("content-type", ""))
    if media_type != files.FORM:
        return files.of_body(await request.body(), media_type, charset)
    try:
        form = await request.form()
    except (LookupError, ValueError) as error:
        message = "A field of the form is not the text that its charset says; send UTF-8."
        raise InvalidRequest(message, code="invalid_utf8") from error
    part = files.of_form(form)
    content_type, metadata = files.content_type_of(part), await files.metadata_of(form)
    return files.readable(await part.read(), content_type, part.filename or "", metadata)


@get(
    "/v1/documents",
    summary="List documents",
    operation_class=asking(
        limit="How many at most, up to 100; without it, 20.",
        after="Only those that come after the one of this id, as `last_id` names it.",
        before="Only those kept before this moment, as in 2026-11-30T12:00:00Z.",
    ),
)
async def listed(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """This tenant's, newest first, without their texts."""
    params = query(request, ("limit", "after", "before"))
    limit = most(params)
    found = await parts.extraction.archive.documents(request.auth, limit + 1, before(params))
    return listing(found, limit, _document)


@get("/v1/documents/{document_id:str}", summary="Find a document again")
async def retrieve(request: HttpRequest, parts: NamedDependency[Parts], document_id: FromPath[str]) -> dict[str, Any]:
    """With its text."""
    document = await parts.extraction.archive.document(document_id, request.auth)
    return _document(document) | {"text": document.text}


@delete("/v1/documents/{document_id:str}", summary="Forget a document", status_code=200)
async def forget(request: HttpRequest, parts: NamedDependency[Parts], document_id: FromPath[str]) -> dict[str, Any]:
    """With all extractions from it. Answers about it stay in the cache until they are deleted there."""
    await parts.extraction.archive.forget_document(document_id, request.auth)
    return {"id": document_id, "object": "document", "deleted": True}


@get(
    "/v1/documents/{document_id:str}/chunks",
    summary="List the parts of a document that are searched",
    operation_class=asking(
        limit="How many at most, up to 100; without it, 20.",
        after="Only those after this one: its index, as in 'last_id'.",
    ),
)
async def chunks(request: HttpRequest, parts: NamedDependency[Parts], document_id: FromPath[str]) -> dict[str, Any]:
    """In the order of the document, with their places in it. A document that was kept just now may have none yet."""
    params = query(request, ("limit", "after"))
    limit, after = most(params), ordinal(params)
    document = await parts.extraction.archive.document(document_id, request.auth, with_text=False)
    found = await looked_up(parts.searching.passages.of(document_id, request.auth.tenant, after, limit + 1))
    return {
        "object": "list",
        "data": [_chunk(document, one) for one in found[:limit]],
        "last_id": str(found[:limit][-1].ordinal) if found else None,
        "has_more": len(found) > limit,
    }


@get("/v1/recipes", summary="List saved recipes")
async def recipes(parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Those that come with askonce, and those in its folder."""
    try:
        found = parts.extraction.book.all()
    except RecipeError as error:
        raise StorageUnavailable(str(error)) from error
    return {"object": "list", "data": [_listed(name, one) for name, one in found.items()]}


@get("/v1/recipes/{name:str}", summary="Show a saved recipe")
async def recipe(parts: NamedDependency[Parts], name: FromPath[str]) -> dict[str, Any]:
    """All of it, with the JSON Schema of a model's answer."""
    found = parts.extraction.extractor.recipe(name)
    return {"object": "recipe", "edition": found.edition, **msgspec.to_builtins(found), "schema": found.schema}


def _document(document: Document) -> dict[str, Any]:
    return {
        **told.described(document),
        "object": "document",
        "created": int(document.created_at),
        "metadata": document.meta,
        "media_type": document.media_type,
        "title": document.title,
        "pages": document.pages,
    }


def _chunk(document: Document, one: Passage) -> dict[str, Any]:
    return {
        "object": "document.chunk",
        "index": one.ordinal,
        "key": one.key.hex(),
        "start": one.start,
        "end": one.end,
        "page": page(document.pages, one.start),
        "text": one.text,
    }


def _listed(name: str, found: Recipe | Exception) -> dict[str, Any]:
    if isinstance(found, Recipe):
        said = {"edition": found.edition, "title": found.title, "classes": list(found.classes)}
        return {"object": "recipe", "name": name, **said}
    return {"object": "recipe", "name": name, "error": found.sentence if isinstance(found, RecipeError) else str(found)}


HANDLERS: Final = (
    keep,
    listed,
    retrieve,
    forget,
    chunks,
    recipes,
    recipe,
)
