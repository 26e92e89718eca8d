"""`/v1/documents` and `/v1/recipes`: what is extracted from, and what for."""

from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from extractors.errors import RecipeError
from extractors.recipe import Recipe
from gateway.caller import Caller
from gateway.errors import StorageUnavailable
from gateway.extraction import told
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded
from gateway.wire import extractions as wire
from storage.extracted import Document

HttpRequest = Request[Any, Caller, Any]


@post("/v1/documents", summary="Keep a document", status_code=200)
async def keep(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """A text that extractions may name by its id. The same text is the same document."""
    text, metadata = await decoded(request, wire.document)
    return _document(await parts.extraction.archive.keep_document(text, metadata, request.auth))


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
    }


def _listed(name: str, found: Recipe | Exception) -> dict[str, Any]:
    if isinstance(found, Recipe):
        said = {"edition": found.edition, "title": found.title, "classes": list(found.classes)}
        return {"object": "recipe", "name": name, **said}
    return {"object": "recipe", "name": name, "error": str(found)}
