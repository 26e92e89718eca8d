"""`/v1/files`: documents, as OpenAI's clients send and list files."""

from typing import Any, Final

from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.caller import Caller
from gateway.errors import InvalidRequest, NoAnswer
from gateway.routes.described import asking
from gateway.routes.documents import kept, sent
from gateway.routes.parts import Parts
from gateway.routes.reading import paged, query

HttpRequest = Request[Any, Caller, Any]
_PURPOSES: Final = ("assistants", "user_data")


@post("/v1/files", summary="Send a file", status_code=200)
async def create(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Text, Markdown, HTML or PDF; what is kept of it is the text. The same text is the same file."""
    if (file := await sent(request)) is None:
        message = "Send a form with the file as 'file'; texts as JSON go to /v1/documents."
        raise InvalidRequest(message, param="file", code="invalid_value")
    purpose = (await request.form()).get("purpose") if "form" in request.headers.get("content-type", "") else None
    if purpose not in (None, *_PURPOSES):
        message = f"Files are kept to be searched: 'purpose' must be {' or '.join(_PURPOSES)}."
        raise InvalidRequest(message, param="purpose", code="invalid_value")
    document = await kept(request, parts, file)
    return await parts.searching.stores.file(document.id, request.auth)


@get(
    "/v1/files",
    summary="List files",
    operation_class=asking(
        limit="How many at most, up to 100; without it, 20.",
        after="Only those after this one, by its id.",
        order="By when they were sent: 'desc', or 'asc'.",
        purpose="All files are for 'assistants'.",
    ),
)
async def listed(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """This tenant's documents."""
    params = query(request, ("limit", "after", "order", "purpose"))
    page = paged(params)
    if params.get("purpose", _PURPOSES[0]) != _PURPOSES[0]:
        return {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    return await parts.searching.stores.files(page, request.auth)


@get("/v1/files/{file_id:str}", summary="Find a file again")
async def retrieve(request: HttpRequest, parts: NamedDependency[Parts], file_id: FromPath[str]) -> dict[str, Any]:
    """Without its text."""
    return await parts.searching.stores.file(file_id, request.auth)


@get("/v1/files/{file_id:str}/content", summary="Read a file")
async def content(request: HttpRequest, parts: NamedDependency[Parts], file_id: FromPath[str]) -> Response[bytes]:
    """The text that was read from it."""
    try:
        document = await parts.extraction.archive.document(file_id, request.auth)
    except NoAnswer as error:
        raise NoAnswer(str(error), param="file_id") from error
    return Response(document.text.encode(), media_type="text/plain; charset=utf-8")


@delete("/v1/files/{file_id:str}", summary="Forget a file", status_code=200)
async def forget(request: HttpRequest, parts: NamedDependency[Parts], file_id: FromPath[str]) -> dict[str, Any]:
    """With all extractions from it, and out of all vector stores."""
    try:
        await parts.extraction.archive.forget_document(file_id, request.auth)
    except NoAnswer as error:
        raise NoAnswer(str(error), param="file_id") from error
    return {"id": file_id, "object": "file", "deleted": True}


HANDLERS: Final = (create, listed, retrieve, content, forget)
