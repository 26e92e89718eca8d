"""`/v1/chat/completions` and `/v1/completions`: one flow, two dialects."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec
from litestar import Request, post
from litestar.di import NamedDependency
from litestar.types import ASGIApp, Receive

from gateway import steering
from gateway.caller import Caller
from gateway.canonical import Request as Question
from gateway.errors import BackendError, envelope
from gateway.pipeline import Answer
from gateway.prepared import Said
from gateway.ready import Form, form
from gateway.routes import both, cited, steps
from gateway.routes.headers import describing
from gateway.routes.incoming import Incoming
from gateway.routes.leaving import STREAM, EventStream, unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded
from gateway.routes.whole import JSON, Whole
from gateway.steering import Steering
from gateway.steps import together
from gateway.wire import openai_chat, openai_completions, reply
from gateway.wire.extractions import Wanted
from storage.entry import Chunk, Entry, Usage, usage_of

HttpRequest = Request[Any, Caller, Any]
_OWN: Final = frozenset({"x-askonce-tier", "age"})
"""Headers of replies that differ from hit to hit."""


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

    def events(self, head: reply.Head, chunks: Iterable[Chunk]) -> bytes:
        """Each step as an event."""
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


WIRES: Final[Mapping[str, Wire]] = {
    "/v1/chat/completions": openai_chat,
    "/v1/completions": openai_completions,
}
"""What is spoken at which path."""


def rendered(wire: Wire, head: reply.Head, question: Question, entry: Entry) -> bytes:
    """All of a kept answer, as it was asked for."""
    said = [chunk for chunk in entry.chunks if chunk.usage is None]
    if not question.stream:
        return wire.whole(head, said, entry.usage)
    closing = wire.closing(head, entry.usage if question.include_usage else None)
    return wire.opening(head, question.choices) + wire.events(head, said) + closing


def formed(wire: Wire, question: Question, entry: Entry, answer: Answer) -> Form:
    """All replies to `question` with what is kept, but for what each has of its own. `answer` is one of them."""
    told = describing(answer, ended=True)
    headers = {name: value for name, value in told.items() if name not in _OWN}
    headers |= STREAM if question.stream else JSON
    return form(wire.PREFIX, question.model, lambda head: rendered(wire, head, question, entry), headers)


async def _reply(request: HttpRequest, parts: Parts, wire: Wire) -> Any:
    asked = Incoming(await decoded(request, wire.decode))
    return await replying(asked, request.auth, steering.read(request.headers), request.receive, parts, wire)


async def replying(
    asked: Incoming, caller: Caller, wishes: Steering, receive: Receive, parts: Parts, wire: Wire
) -> EventStream | Whole:
    """The reply to it, its first step there, or all of it.

    Raises what `Pipeline.answer` raises, and `ClientLeft` when `receive` says so before.
    """
    return await unless_left(receive, _answer(asked, caller, wishes, parts, wire))


async def _answer(asked: Incoming, caller: Caller, wishes: Steering, parts: Parts, wire: Wire) -> EventStream | Whole:
    question = asked.question
    if isinstance(question.extract, Wanted):
        return await both.replying(question, question.extract, caller, wishes, parts)
    if question.retrieval is not None:
        return await cited.replying(question, caller, wishes, parts)
    head = reply.head(wire.PREFIX, question.model)
    if question.stream:
        answer = await parts.pipeline.answer(question, caller, wishes, head.id, asked.preview)
        first = await steps.first(answer.chunks)
        parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
        events = _events(question, head.of(answer.provenance), wire, first, answer)
        return EventStream(describing(answer), events, answer.chunks)
    answer, chunks = await parts.pipeline.whole(question, caller, wishes, head.id, asked.preview)
    parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
    said = (chunk for chunk in chunks if chunk.usage is None)
    content = wire.whole(head.of(answer.provenance), said, usage_of(chunks))
    if asked.since is not None and answer.status == "miss" and answer.is_kept():  # once the reply is on its way
        asyncio.get_running_loop().call_soon(_prepare, parts, wire, asked, caller, answer)
    return Whole(content, describing(answer, ended=True) | JSON)


def _prepare(parts: Parts, wire: Wire, asked: Incoming, caller: Caller, answer: Answer) -> None:
    """Have the next who asks in the same bytes given what is kept by now."""
    entry = parts.tiers.in_memory(answer.key)
    if entry is None or asked.since is None:
        return
    again = msgspec.structs.replace(
        answer, status="hit", provenance="exact", origin_id=entry.origin_id, backend=entry.backend
    )
    made = formed(wire, asked.question, entry, again)
    said = Said(
        place=asked.place, caller=caller, question=asked.question, form=made, entry=entry, fallback=answer.fallback
    )
    parts.prepared.keep_new(said, asked.since)


async def _events(
    question: Question, head: reply.Head, wire: Wire, first: Chunk, answer: Answer
) -> AsyncGenerator[bytes]:
    usage = first.usage or Usage()
    async with aclosing(together(answer.chunks)) as arriving:
        yield wire.opening(head, question.choices) + wire.events(head, () if first.usage else (first,))
        try:
            async for some in arriving:
                usage += usage_of(some)
                if said := [chunk for chunk in some if chunk.usage is None]:
                    yield wire.events(head, said)
        except BackendError as error:
            # Too late for a status: OpenAI's clients raise on this event, and no [DONE] follows.
            yield b"data: " + msgspec.json.encode(envelope(error)) + b"\n\n"
            return
    yield wire.closing(head, usage if question.include_usage else None)
