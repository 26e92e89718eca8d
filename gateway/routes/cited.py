"""A chat with `retrieval`: passages are found, the model reads them, and its reply says where they stand."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from gateway.caller import Caller
from gateway.canonical import Request as Question
from gateway.errors import BackendError, envelope
from gateway.pipeline import Answer
from gateway.routes import steps
from gateway.routes.headers import describing
from gateway.routes.leaving import EventStream
from gateway.routes.parts import Parts
from gateway.routes.whole import JSON, Whole
from gateway.steering import Steering
from gateway.steps import together
from gateway.wire import openai_chat, reply
from storage.entry import Chunk, Usage, usage_of


async def replying(question: Question, caller: Caller, wishes: Steering, parts: Parts) -> EventStream | Whole:
    """The reply: streamed, with its citations in the last event; or whole. The same passages are the same question.

    Raises what `Searcher.search` and `Pipeline.answer` raise.
    """
    question, citations = await parts.searching.retriever.given(question, caller)
    head = reply.head(openai_chat.PREFIX, question.model)
    if question.stream:
        answer = await parts.pipeline.answer(question, caller, wishes, head.id)
        first = await steps.first(answer.chunks)
        parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
        events = _events(question, head.of(answer.provenance), first, answer, citations)
        return EventStream(describing(answer), events, answer.chunks)
    answer, chunks = await parts.pipeline.whole(question, caller, wishes, head.id)
    parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
    said = (chunk for chunk in chunks if chunk.usage is None)
    content = openai_chat.whole(head.of(answer.provenance), said, usage_of(chunks))
    return Whole(openai_chat.with_field(content, "citations", citations), describing(answer, ended=True) | JSON)


async def _events(
    question: Question, head: reply.Head, first: Chunk, answer: Answer, citations: list[dict[str, Any]]
) -> AsyncGenerator[bytes]:
    usage, heard = first.usage or Usage(), () if first.usage else (first,)
    async with aclosing(together(answer.chunks)) as arriving:
        yield openai_chat.opening(head, question.choices) + openai_chat.events(head, heard)
        try:
            async for some in arriving:
                usage += usage_of(some)
                if said := [chunk for chunk in some if chunk.usage is None]:
                    yield openai_chat.events(head, said)
        except BackendError as error:
            yield b"data: " + msgspec.json.encode(envelope(error)) + b"\n\n"
            return
    yield openai_chat.closing_with(head, usage if question.include_usage else None, {"citations": citations})
