"""`/v1/chat/completions` and `/v1/completions`: one flow, two dialects."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.types import ASGIApp

from gateway import steering
from gateway.caller import Caller
from gateway.canonical import Request as Question
from gateway.errors import BackendError, envelope
from gateway.pipeline import Answer
from gateway.routes import steps
from gateway.routes.headers import describing
from gateway.routes.leaving import EventStream, unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded
from gateway.wire import openai_chat, openai_completions, reply
from storage.entry import Chunk, Usage, usage_of

HttpRequest = Request[Any, Caller, Any]


class Wire(Protocol):
    """A dialect of text generation: the functions a module in `wire/` offers."""

    @property
    def PREFIX(self) -> str:  # noqa: N802 -- a module's constant, seen as an attribute
        """What reply ids begin with."""
        ...

    def decode(self, data: bytes) -> Question:
        """Bytes -> request."""
        ...

    def opening(self, head: reply.Head, choices: int) -> bytes:
        """The events before the first step."""
        ...

    def event(self, head: reply.Head, chunk: Chunk) -> bytes:
        """One step as an event."""
        ...

    def closing(self, head: reply.Head, usage: Usage | None) -> bytes:
        """The events after the last step."""
        ...

    def whole(self, head: reply.Head, chunks: Iterable[Chunk], usage: Usage) -> bytes:
        """All steps as one reply."""
        ...


@post("/v1/chat/completions", summary="Answer a conversation", status_code=200)
async def chat(request: HttpRequest, parts: NamedDependency[Parts]) -> ASGIApp:
    """OpenAI's chat completions, streamed or whole."""
    return await _reply(request, parts, openai_chat)


@post("/v1/completions", summary="Continue a text", status_code=200)
async def completions(request: HttpRequest, parts: NamedDependency[Parts]) -> ASGIApp:
    """OpenAI's completions, streamed or whole."""
    return await _reply(request, parts, openai_completions)


async def _reply(request: HttpRequest, parts: Parts, wire: Wire) -> Any:
    question = await decoded(request, wire.decode)
    head = reply.head(wire.PREFIX, question.model)
    return await unless_left(request.receive, _answer(question, head, request, parts, wire))


async def _answer(question: Question, head: reply.Head, request: HttpRequest, parts: Parts, wire: Wire) -> Any:
    caller, wishes = request.auth, steering.read(request.headers)
    if question.stream:
        answer = await parts.pipeline.answer(question, caller, wishes, head.id)
        first = await steps.first(answer.chunks)
        parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
        events = _events(question, head.of(answer.provenance), wire, first, answer)
        return EventStream(describing(answer), events, answer.chunks)
    answer, chunks = await parts.pipeline.whole(question, caller, wishes, head.id)
    parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
    said = (chunk for chunk in chunks if chunk.usage is None)
    content = wire.whole(head.of(answer.provenance), said, usage_of(chunks))
    return Response(content, media_type="application/json", headers=describing(answer, ended=True), status_code=200)


async def _events(
    question: Question, head: reply.Head, wire: Wire, first: Chunk, answer: Answer
) -> AsyncGenerator[bytes]:
    usage = first.usage or Usage()
    async with aclosing(answer.chunks) as arriving:
        yield wire.opening(head, question.choices) + (b"" if first.usage else wire.event(head, first))
        try:
            async for chunk in arriving:
                if chunk.usage is None:
                    yield wire.event(head, chunk)
                else:
                    usage += chunk.usage
        except BackendError as error:
            # Too late for a status: OpenAI's clients raise on this event, and no [DONE] follows.
            yield b"data: " + msgspec.json.encode(envelope(error)) + b"\n\n"
            return
    yield wire.closing(head, usage if question.include_usage else None)
