"""A chat with `extract`: an answer and what is extracted from it, or from what was asked, in one reply."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from gateway.caller import Caller
from gateway.canonical import Request as Question
from gateway.errors import BackendError, envelope
from gateway.pipeline import Answer
from gateway.routes import steps
from gateway.routes.extractions import whole_of
from gateway.routes.failing import refusal
from gateway.routes.headers import describing
from gateway.routes.leaving import EventStream
from gateway.routes.parts import Parts
from gateway.routes.whole import JSON, Whole
from gateway.steering import Steering
from gateway.steps import together
from gateway.wire import extractions, openai_chat, reply
from gateway.wire.extractions import Asked, Wanted
from storage.entry import Chunk, Usage, usage_of


async def replying(
    question: Question, wanted: Wanted, caller: Caller, wishes: Steering, parts: Parts
) -> EventStream | Whole:
    """The reply: streamed, with an event that tells what was extracted at its end; or whole.

    Raises what `Pipeline.answer` raises and, before the model is asked, what `Extractor.expect` does. A failure to
    extract leaves the answer as it is; it is told where the records would be.
    """
    parts.extraction.extractor.expect(wanted, "extract.recipe")
    extraction = _Extraction(question, wanted, caller, wishes, parts)
    head = reply.head(openai_chat.PREFIX, question.model)
    if question.stream:
        answer = await parts.pipeline.answer(question, caller, wishes, head.id)
        first = await steps.first(answer.chunks)
        parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
        events = _events(question, head.of(answer.provenance), first, answer, extraction)
        return EventStream(describing(answer), events, answer.chunks)
    try:
        extraction.begin()
        answer, chunks = await parts.pipeline.whole(question, caller, wishes, head.id)
        parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
        said = [chunk for chunk in chunks if chunk.usage is None]
        content = openai_chat.whole(head.of(answer.provenance), said, usage_of(chunks))
        found = await extraction.of(said)
    finally:
        extraction.leave()
    return Whole(openai_chat.with_field(content, "extraction", found), describing(answer, ended=True) | JSON)


class _Extraction:
    """What is extracted beside one answer."""

    def __init__(self, question: Question, wanted: Wanted, caller: Caller, wishes: Steering, parts: Parts) -> None:
        self._question = question
        self._wanted = wanted
        self._caller = caller
        self._wishes = wishes
        self._parts = parts
        self._task: asyncio.Task[Any] | None = None

    def begin(self) -> None:
        """Begin with what was asked, while it is answered; an answer has to be there first."""
        if self._wanted.source == "messages":
            text = extractions.spoken(self._question.prompt["messages"])
            self._task = asyncio.create_task(self._extracted(text))

    async def of(self, said: Sequence[Chunk]) -> Any:
        """What was extracted, or why nothing was; None where there are no words to extract anything from."""
        if self._task is None:
            self._task = asyncio.create_task(self._extracted("".join([step.content for step in said])))
        return await self._task

    def leave(self) -> None:
        """End what is not done."""
        if self._task is not None:
            self._task.cancel()

    async def _extracted(self, text: str) -> Any:
        if not text.strip():
            return None
        asked = Asked(wanted=self._wanted, model=self._question.model, text=extractions.storable(text))
        try:
            session = await self._parts.extraction.extractor.begin(asked, self._caller, self._wishes)
            async with aclosing(session.go()) as going:
                async for _ in going:
                    pass
        except Exception as error:  # noqa: BLE001 -- the answer is there, whatever becomes of the records
            said = refusal(error, "extract")
            return {"object": "extraction", "status": "failed", "records": [], **said.content}
        return await whole_of(session.told, session.calls)


async def _events(
    question: Question, head: reply.Head, first: Chunk, answer: Answer, extraction: _Extraction
) -> AsyncGenerator[bytes]:
    usage, heard = first.usage or Usage(), [] if first.usage else [first]
    try:
        extraction.begin()
        async with aclosing(together(answer.chunks)) as arriving:
            yield openai_chat.opening(head, question.choices) + openai_chat.events(head, heard)
            async for some in arriving:
                usage += usage_of(some)
                if said := [chunk for chunk in some if chunk.usage is None]:
                    heard += said
                    yield openai_chat.events(head, said)
        yield openai_chat.extracted(head, await extraction.of(heard))
    except BackendError as error:
        yield b"data: " + msgspec.json.encode(envelope(error)) + b"\n\n"
        return
    finally:
        extraction.leave()
    yield openai_chat.closing(head, usage if question.include_usage else None)
