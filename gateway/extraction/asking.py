"""One chunk in, every try of a model at it out: asked, read, checked and, where that failed, asked again.

Each try is a chat completion like any other: named, looked up, shared with whoever asks the same, and kept. Which try
it is is part of its name, so that a bad answer is not given to the next try, and a second run finds them all.
"""

import asyncio
import time
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from extractors.judging import Judge, Judged
from extractors.passages import Frame
from extractors.recipe import Recipe
from gateway.caller import Caller
from gateway.canonical import Request, Try
from gateway.errors import BackendError, BackendRefused, NotKept, Overloaded, RequestError, envelope, may_pass
from gateway.extraction.turns import Turns
from gateway.looking import Preview
from gateway.pipeline import Answer
from gateway.steering import Steering
from gateway.wire import reply, sampling
from gateway.wire.extractions import Options
from storage import entry
from storage.extracted import Call

_AGAIN_S: Final = (0.5, 2.0)
"""Pauses before a chunk is asked about again whose backend failed."""
_PATIENCE: Final = 10
"""How often a chunk waits for backends that have too much to do."""
_LONGEST_S: Final = 10.0
_FRESH_S: Final = 1.0
"""How long what was looked up ahead is good for: what is deleted meanwhile is not to be given long after."""
_NO_WISHES: Final = Steering()
_LONG: Final = 50_000
"""Characters of an answer from which on it takes a while to read it."""
_CORRECTED: Final = 16_000
"""Characters of an answer that a model is shown again, to correct it."""


class Pipeline(Protocol):
    """Who answers."""

    async def whole(
        self, request: Request, caller: Caller, steering: Steering, reply_id: str, preview: Preview | None = None
    ) -> tuple[Answer, list[entry.Chunk]]:
        """The answer, and all its steps."""
        ...

    async def preview(self, request: Request, caller: Caller) -> Preview | None:
        """What is kept of a request without wishes."""
        ...


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What all chunks of a text are asked for."""

    recipe: Recipe
    frame: Frame
    options: Options
    model: str
    caller: Caller
    steering: Steering
    turns: Turns
    plain: MutableMapping[tuple[str, bytes], None]
    """Models that were heard to know nothing of a schema, and which; all runs of a process share it."""


class Tried(msgspec.Struct, frozen=True):
    """One try. `judged` is None where there was no answer."""

    call: Call
    judged: Judged | None = None
    text: str = ""
    fault: BackendError | RequestError | None = None
    """Why there was no answer."""


class Place(msgspec.Struct, frozen=True):
    """A chunk, and the pass over it."""

    chunk: int
    number: int


class Look(msgspec.Struct, frozen=True):
    """What is being looked up of a chunk's first question, before it is to be asked."""

    request: Request
    task: asyncio.Task[Preview | None]
    since: float


class Asker:
    """Asks about the chunks of one text."""

    def __init__(self, pipeline: Pipeline, task: Task) -> None:
        self._pipeline = pipeline
        self._task = task
        self._judge = Judge(task.recipe)
        self._schema = (task.model, msgspec.json.encode(task.recipe.schema))
        held = task.options.constrained and self._schema not in task.plain
        self._format = _format(task.recipe) if held else None
        """None once the engine was heard to know no such thing."""

    def look(self, words: str, before: str) -> Look:
        """Begin to look up what is kept of the first question about a chunk."""
        request = self._request([self._said(words, before)], Try(1, 1), self._task.options.max_tokens)
        return Look(request, asyncio.create_task(self._looked(request)), time.monotonic())

    async def _looked(self, request: Request) -> Preview | None:
        if self._task.steering != _NO_WISHES:
            return None
        await self._task.turns.turn()
        try:
            return await self._pipeline.preview(request, self._task.caller)
        except (BackendError, RequestError):  # it will be raised again when the question is asked
            return None

    async def tries(self, words: str, before: str, place: Place, look: Look | None = None) -> list[Tried]:
        """What came of asking about a chunk, which reads `words`, in a pass; `before` is the text before it.

        Ends with the first answer that is good, or without. A failure of those who answer is a try without an answer.
        Raises `RequestError`: what is wrong with this request is so for all chunks.
        """
        messages = [self._said(words, before)]
        tried: list[Tried] = []
        limit = self._task.options.max_tokens
        for attempt in range(1, self._task.options.attempts + 1):
            request = self._request(messages, Try(place.number, attempt), limit)
            preview = await _preview(look, request)
            one = await self._try(place.chunk, request, preview)
            tried.append(one)
            if one.judged is None or one.judged.is_good:
                break
            if one.judged.status == "truncated":
                limit *= 2  # it has to say all that again, and more
            else:
                corrected = {"role": "assistant", "content": one.text[:_CORRECTED]}
                messages = [*messages, corrected, {"role": "user", "content": one.judged.complaint}]
        return tried

    def _said(self, words: str, before: str) -> dict[str, Any]:
        return {"role": "user", "content": self._task.frame.prompt(words, before)}

    async def _try(self, chunk: int, request: Request, preview: Preview | None) -> Tried:
        await self._task.turns.turn()
        started, attempt = time.monotonic(), request.extraction.attempt if request.extraction else 1
        try:
            steps, told = await self._asked(request, preview)
        except (BackendError, RequestError) as error:
            if isinstance(error, RequestError) and not isinstance(error, NotKept) and attempt == 1:
                raise  # it is so for all chunks; what is made of a model's own words is not
            error = _shorter(error)
            fault = envelope(error)["error"]
            failed = self._call(chunk, request, started)
            return Tried(msgspec.structs.replace(failed, error=fault, problems=(str(error),)), fault=error)
        await self._task.turns.turn()
        said, finish = _folded(steps)
        judge = self._judge.judge
        judged = await asyncio.to_thread(judge, said, finish) if len(said) > _LONG else judge(said, finish)
        usage = entry.usage_of(steps)
        call = msgspec.structs.replace(
            self._call(chunk, request, started),
            status=judged.status,
            problems=judged.problems,
            finish_reason=finish,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            **told,
        )
        return Tried(call, judged, said)

    async def _asked(self, request: Request, preview: Preview | None) -> tuple[list[entry.Chunk], dict[str, Any]]:
        """The answer, held to the schema unless the engine cannot be told to, and what is known of who gave it.

        Raises `RequestError` and `BackendError`.
        """
        try:
            answer, steps, reply_id = await self._patiently(request, preview)
        except BackendRefused as refused:
            if refused.status != 400 or "response_format" not in request.prompt:
                raise
            plain = {name: value for name, value in request.prompt.items() if name != "response_format"}
            request = msgspec.structs.replace(request, prompt=plain)
            answer, steps, reply_id = await self._patiently(request, None)
            self._format = None
            self._task.plain[self._schema] = None
        return steps, _told(answer, reply_id, request)

    async def _patiently(self, request: Request, preview: Preview | None) -> tuple[Answer, list[entry.Chunk], str]:
        """The answer, waited for where there is too much to do, and asked for again where a backend failed."""
        waited = failed = 0
        caller, steering = self._task.caller, self._task.steering
        while True:
            reply_id = reply.head("chatcmpl-", request.model).id
            try:
                answer, steps = await self._pipeline.whole(request, caller, steering, reply_id, preview)
            except Overloaded as error:
                if (waited := waited + 1) > _PATIENCE:
                    raise
                await asyncio.sleep(min(max(error.retry_after_s or 0, 0.1 * 2**waited), _LONGEST_S))
            except BackendError as error:
                if not may_pass(error) or failed == len(_AGAIN_S):
                    raise
                await asyncio.sleep(_AGAIN_S[failed])
                failed += 1
            else:
                return answer, steps, reply_id
            preview = None  # it was of a moment ago

    def _request(self, messages: Sequence[dict[str, Any]], which: Try, limit: int) -> Request:
        options = self._task.options
        params = sampling.DEFAULTS | {"temperature": options.temperature_of(which.number), "max_tokens": limit}
        if (seed := options.seed_of(which.number)) is not None:
            params["seed"] = seed
        held = {} if self._format is None else {"response_format": self._format}
        return Request(
            kind="chat",
            model=self._task.model,
            prompt={"messages": list(messages), **held},
            params=params,
            extra={},
            size_bytes=sum(len(message["content"]) for message in messages),
            extraction=which,
        )

    def _call(self, chunk: int, request: Request, started: float) -> Call:
        """A call as it is known without an answer."""
        which = request.extraction or Try(1, 1)
        return Call(
            chunk=chunk,
            pass_number=which.number,
            attempt=which.attempt,
            status="failed",
            chosen=False,
            model=self._task.model,
            served_at=time.time(),
            duration_ms=(time.monotonic() - started) * 1000,
        )


async def _preview(look: Look | None, request: Request) -> Preview | None:
    """What was looked up of this very question, unless that was too long ago."""
    if look is None or look.request != request or time.monotonic() - look.since > _FRESH_S:
        return None
    return await look.task


def _shorter(error: BackendError | RequestError) -> BackendError | RequestError:
    """The same; of a question that is too long for a model, with what mends it here."""
    if error.code != "context_length_exceeded":
        return error
    message = f"{error} Make the chunks smaller ('chunk_chars'), or the recipe shorter."
    return BackendRefused(message, status=400, code=error.code, param="chunk_chars")


def _format(recipe: Recipe) -> dict[str, Any]:
    # All recipes that ask the same are to find each other's answers, so that the name is not the recipe's.
    described = {"name": "extractions", "schema": recipe.schema, "strict": True}
    return {"type": "json_schema", "json_schema": described}


def _folded(steps: Sequence[entry.Chunk]) -> tuple[str, str | None]:
    """What the first choice said, and why it ended."""
    said = [step for step in steps if step.usage is None]
    return "".join([step.content for step in said]), reply.finish_reason(said)


def _told(answer: Answer, reply_id: str, request: Request) -> dict[str, Any]:
    """What is known of who answered, and what was asked."""
    params = {name: request.params.get(name) for name in ("temperature", "seed", "max_tokens")}
    return {
        "parameters": {**params, "constrained": "response_format" in request.prompt},
        "key": answer.key,
        "prompt_hash": answer.query.prompt_hash,
        "model": answer.query.model,
        "model_version": answer.query.model_version,
        "engine": answer.query.engine,
        "engine_version": answer.query.engine_version,
        "backend": answer.backend,
        "cache": answer.status,
        "tier": answer.tier,
        "origin_id": answer.origin_id or reply_id,
        "answered_at": answer.outcome.asked_at or time.time() - answer.age_s,
    }
