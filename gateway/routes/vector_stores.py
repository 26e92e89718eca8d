"""`/v1/vector_stores`: documents that are searched together, as OpenAI's clients make and ask them."""

from typing import Any, Final

from litestar import Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.caller import Caller
from gateway.errors import InvalidRequest
from gateway.routes.described import asking
from gateway.routes.leaving import unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded, paged, query
from gateway.wire import vector_stores as wire

HttpRequest = Request[Any, Caller, Any]
Said = dict[str, Any]

_PAGED: Final = asking(
    limit="How many at most, up to 100; without it, 20.",
    after="Only those after this one, by its id.",
    order="By when they were made or added: 'desc', or 'asc'.",
)
_STATUSES: Final = ("in_progress", "completed", "failed", "cancelled")


@post("/v1/vector_stores", summary="Make a vector store", status_code=200)
async def create(request: HttpRequest, parts: NamedDependency[Parts]) -> Said:
    """A collection of documents, which are its files."""
    return await parts.searching.stores.create(await decoded(request, wire.store), request.auth)


@get("/v1/vector_stores", summary="List vector stores", operation_class=_PAGED)
async def listed(request: HttpRequest, parts: NamedDependency[Parts]) -> Said:
    """This tenant's."""
    return await parts.searching.stores.listed(paged(query(request, ("limit", "after", "order"))), request.auth)


@get("/v1/vector_stores/{store_id:str}", summary="Find a vector store again")
async def retrieve(request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str]) -> Said:
    """With how many of its files are found by everything."""
    return await parts.searching.stores.get(store_id, request.auth)


@post("/v1/vector_stores/{store_id:str}", summary="Change a vector store", status_code=200)
async def update(request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str]) -> Said:
    """Its name, its metadata, and when it expires."""
    return await parts.searching.stores.update(store_id, await decoded(request, wire.change), request.auth)


@delete("/v1/vector_stores/{store_id:str}", summary="Forget a vector store", status_code=200)
async def forget(request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str]) -> Said:
    """Its files stay."""
    return await parts.searching.stores.delete(store_id, request.auth)


@post("/v1/vector_stores/{store_id:str}/search", summary="Search a vector store", status_code=200)
async def search(request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str]) -> Said:
    """Passages of its files, by words and vectors. `/v1/search` tells more."""
    wanted = await decoded(request, lambda data: wire.search(data, store_id))
    return await unless_left(request.receive, parts.searching.stores.search(store_id, wanted, request.auth))


@post("/v1/vector_stores/{store_id:str}/files", summary="Add a file to a vector store", status_code=200)
async def add(request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str]) -> Said:
    """A document, with attributes of its own there."""
    return await parts.searching.stores.add(store_id, await decoded(request, wire.file), request.auth)


@get(
    "/v1/vector_stores/{store_id:str}/files",
    summary="List the files of a vector store",
    operation_class=asking(
        limit="How many at most, up to 100; without it, 20.",
        after="Only those after this one, by its id.",
        order="By when they were added: 'desc', or 'asc'.",
        filter="Only those of this status, as 'completed'.",
    ),
)
async def files(request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str]) -> Said:
    """With their status: completed once they are found by everything."""
    params = query(request, ("limit", "after", "order", "filter"))
    if (status := params.get("filter")) not in (None, *_STATUSES):
        message = f"'filter' must be one of {', '.join(_STATUSES)}."
        raise InvalidRequest(message, param="filter", code="invalid_value")
    return await parts.searching.stores.members(store_id, paged(params), status, request.auth)


@get("/v1/vector_stores/{store_id:str}/files/{file_id:str}", summary="Find a file of a vector store again")
async def file(
    request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str], file_id: FromPath[str]
) -> Said:
    """With its status and attributes."""
    return await parts.searching.stores.member(store_id, file_id, request.auth)


@get("/v1/vector_stores/{store_id:str}/files/{file_id:str}/content", summary="Read a file of a vector store")
async def content(
    request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str], file_id: FromPath[str]
) -> Said:
    """The text that was read from it."""
    await parts.searching.stores.member(store_id, file_id, request.auth)
    document = await parts.extraction.archive.document(file_id, request.auth)
    said = [{"type": "text", "text": document.text}]
    return {"object": "vector_store.file_content.page", "data": said, "has_more": False, "next_page": None}


@post("/v1/vector_stores/{store_id:str}/files/{file_id:str}", summary="Describe a file", status_code=200)
async def describe(
    request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str], file_id: FromPath[str]
) -> Said:
    """Its attributes in this vector store, by which searches choose."""
    said = await decoded(request, wire.attributes)
    return await parts.searching.stores.describe(store_id, file_id, said, request.auth)


@delete("/v1/vector_stores/{store_id:str}/files/{file_id:str}", summary="Take a file out", status_code=200)
async def remove(
    request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str], file_id: FromPath[str]
) -> Said:
    """It stays a file."""
    return await parts.searching.stores.remove(store_id, file_id, request.auth)


@post("/v1/vector_stores/{store_id:str}/file_batches", summary="Add files to a vector store", status_code=200)
async def add_batch(request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str]) -> Said:
    """Several documents together."""
    return await parts.searching.stores.begin_batch(store_id, await decoded(request, wire.batch), request.auth)


@get("/v1/vector_stores/{store_id:str}/file_batches/{batch_id:str}", summary="Find a file batch again")
async def batch(
    request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str], batch_id: FromPath[str]
) -> Said:
    """With how many of its files are found by everything."""
    return await parts.searching.stores.batch(store_id, batch_id, request.auth)


@post("/v1/vector_stores/{store_id:str}/file_batches/{batch_id:str}/cancel", summary="Not done", status_code=200)
async def cancel(store_id: FromPath[str], batch_id: FromPath[str]) -> Said:
    """A batch is in its store as soon as it is made."""
    del store_id, batch_id
    message = (
        "The files of a batch are in their vector store at once, so there is nothing to cancel; delete them there."
    )
    raise InvalidRequest(message, code="unsupported_operation")


@get(
    "/v1/vector_stores/{store_id:str}/file_batches/{batch_id:str}/files",
    summary="List the files of a batch",
    operation_class=_PAGED,
)
async def batch_files(
    request: HttpRequest, parts: NamedDependency[Parts], store_id: FromPath[str], batch_id: FromPath[str]
) -> Said:
    """With their status."""
    page = paged(query(request, ("limit", "after", "order")))
    return await parts.searching.stores.batch_members(store_id, batch_id, page, request.auth)


HANDLERS: Final = (
    create,
    listed,
    retrieve,
    update,
    forget,
    search,
    add,
    files,
    file,
    content,
    describe,
    remove,
    add_batch,
    batch,
    cancel,
    batch_files,
)
