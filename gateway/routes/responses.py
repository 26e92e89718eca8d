"""`/v1/responses`: made, streamed, found again, followed and forgotten."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from typing import Any, Final

from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ASGIApp

from gateway import steering
from gateway.caller import Caller
from gateway.conversations import Again, Conversations, Turn
from gateway.errors import BackendError, InvalidRequest, RequestError
from gateway.pipeline import Answer
from gateway.routes import steps
from gateway.routes.described import asking
from gateway.routes.headers import describing, record
from gateway.routes.leaving import EventStream, unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded, query
from gateway.wire import reply
from gateway.wire.openai_responses import asked, items, told
from gateway.wire.openai_responses.told import Told
from storage.entry import Chunk

HttpRequest = Request[Any, Caller, Any]
MAX_LISTED: Final = 100
_INCLUDES: Final = ("include", "include[]")
"""What is asked for with these is always there, or cannot be here."""
_NAMES: Final = {
    "messages": "input",
    "response_format": "text.format",
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
}
"""What fields of a chat are called here."""
_INCLUDED: Final = "Taken, and without effect: what there is, is always shown."


@post("/v1/responses", summary="Answer, in OpenAI's Responses API", status_code=200)
async def create(request: HttpRequest, parts: NamedDependency[Parts]) -> ASGIApp:
    """OpenAI's responses, streamed or whole: the same question as a chat completion with these messages."""
    wanted = await decoded(request, asked.decode)
    return await unless_left(request.receive, _answer(wanted, request, parts))


@get(
    "/v1/responses/{response_id:str}",
    summary="Find a response again",
    operation_class=asking(
        stream="Whether it is told as events.",
        starting_after="With stream=true: only events after the one of this number.",
        include_obfuscation="Taken, and without effect: no event is padded.",
        include=_INCLUDED,
    ),
)
async def retrieve(request: HttpRequest, parts: NamedDependency[Parts], response_id: FromPath[str]) -> ASGIApp:
    """A response as it was given; with `stream=true` its events, those after `starting_after`."""
    return await _found(response_id, request, parts)


@get(
    "/v1/responses/{response_id:str}/input_items",
    summary="List what a response was asked",
    operation_class=asking(
        limit="How many at most, up to 100; without it, 20.",
        order="Newest first (desc), which is the default, or oldest first.",
        after="Only those after the item of this id.",
        include=_INCLUDED,
    ),
)
async def input_items(
    request: HttpRequest, parts: NamedDependency[Parts], response_id: FromPath[str]
) -> dict[str, Any]:
    """The items of its own request; those before it are those of the response that it follows."""
    params = _query(request, ("limit", "order", "after"))
    limit = _whole_number(params, "limit", 20, least=1, most=MAX_LISTED)
    found = await parts.conversations.again(response_id, request.auth)
    listed = items.shown(found.asked.items, f"{told.name(found.head.id)}_in")
    return _page(listed, limit, params.get("order", "desc"), params.get("after"))


@delete("/v1/responses/{response_id:str}", summary="Forget a response", status_code=200)
async def forget(request: HttpRequest, parts: NamedDependency[Parts], response_id: FromPath[str]) -> dict[str, Any]:
    """It can be neither found nor followed any more. Its answer stays in the cache, for whoever asks the same."""
    await parts.conversations.delete(response_id, request.auth)
    return {"id": response_id, "object": "response", "deleted": True}


async def _found(response_id: str, request: HttpRequest, parts: Parts) -> Any:
    params = _query(request, ("stream", "starting_after", "include_obfuscation"))
    after = _whole_number(params, "starting_after", -1, most=2**31)
    found = await parts.conversations.again(response_id, request.auth)
    headers = {"x-askonce-key": found.key.hex(), "x-askonce-record": record(found.key)}
    if _flag(params, "stream"):
        events = _replayed(found, after)
        return EventStream(headers, events, events)
    if after >= 0:
        message = "'starting_after' goes with 'stream=true'."
        raise InvalidRequest(message, param="starting_after", code="invalid_value")
    return Response(found.told().whole(found.chunks), media_type="application/json", headers=headers)


@contextmanager
def _own_names() -> Generator[None]:
    """Name the field at fault as this API calls it, and not as that of chats does."""
    try:
        yield
    except (RequestError, BackendError) as error:
        name, mark, rest = (error.param or "").partition("[")
        if name in _NAMES:
            error.param = _NAMES[name] + mark + rest
        raise


async def _answer(wanted: asked.Asked, request: HttpRequest, parts: Parts) -> Any:
    with _own_names():
        return await _answered(wanted, request, parts)


async def _answered(wanted: asked.Asked, request: HttpRequest, parts: Parts) -> Any:
    caller, wishes = request.auth, steering.read(request.headers)
    turn = await parts.conversations.turn(wanted, caller, wishes)
    question = turn.question
    head = reply.head(told.PREFIX, question.model)
    if wanted.stream:
        answer = await parts.pipeline.answer(question, caller, wishes, head.id)
        first = await steps.first(answer.chunks)
        parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
        reply_ = Told(head.of(answer.provenance), wanted, stored=turn.wanted and answer.kept)
        events = _events(reply_, first, answer, turn, parts.conversations)
        return EventStream(describing(answer), events, answer.chunks)
    answer, chunks = await parts.pipeline.whole(question, caller, wishes, head.id)
    parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
    reply_ = Told(head.of(answer.provenance), wanted, stored=turn.wanted and answer.kept)
    parts.conversations.keep(turn, answer, reply_, chunks)
    headers = describing(answer, ended=True)
    return Response(reply_.whole(chunks), media_type="application/json", headers=headers, status_code=200)


async def _events(
    reply_: Told, first: Chunk, answer: Answer, turn: Turn, conversations: Conversations
) -> AsyncGenerator[bytes]:
    chunks = [first]
    async with aclosing(answer.chunks) as arriving:
        yield reply_.opening() + reply_.step(first)
        try:
            async for chunk in arriving:
                chunks.append(chunk)
                if events := reply_.step(chunk):
                    yield events
        except BackendError as error:
            yield reply_.failed(error)
            return
    # Writing begins before the client can know the end, and nobody waits for it.
    conversations.keep(turn, answer, reply_, chunks)
    yield reply_.closing()


async def _replayed(found: Again, after: int) -> AsyncGenerator[bytes]:
    """The events of a response given before, as they were, from the one after `after`."""
    reply_ = found.told(after)
    yield reply_.opening()
    for chunk in found.chunks:
        if events := reply_.step(chunk):
            yield events
    yield reply_.closing()


def _page(listed: list[dict[str, Any]], limit: int, order: str, after: str | None) -> dict[str, Any]:
    if order not in ("asc", "desc"):
        message = "'order' must be 'asc' or 'desc'."
        raise InvalidRequest(message, param="order", code="invalid_value")
    ordered = listed if order == "asc" else listed[::-1]
    if after is not None:
        place = next((place for place, item in enumerate(ordered) if item["id"] == after), None)
        if place is None:
            message = "'after' must be the id of one of these items."
            raise InvalidRequest(message, param="after", code="invalid_value")
        ordered = ordered[place + 1 :]
    shown = ordered[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(ordered) > limit,
    }


def _query(request: HttpRequest, known: tuple[str, ...]) -> dict[str, str]:
    """The query. What is asked for with `include` may be there several times."""
    return query(request, (*known, *_INCLUDES), many=_INCLUDES)


def _flag(params: dict[str, str], name: str) -> bool:
    if params.get(name, "false") not in ("true", "false"):
        message = f"'{name}' must be 'true' or 'false'."
        raise InvalidRequest(message, param=name, code="invalid_value")
    return params.get(name) == "true"


def _whole_number(params: dict[str, str], name: str, default: int, *, least: int = 0, most: int) -> int:
    if name not in params:
        return default
    text = params[name]
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        message = f"'{name}' must be a whole number from {least} to {most}."
        raise InvalidRequest(message, param=name, code="invalid_value")
    return int(text)


HANDLERS: Final = (
    create,
    retrieve,
    input_items,
    forget,
)
