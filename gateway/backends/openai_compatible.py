"""Any server that speaks OpenAI's protocol (vLLM, llama.cpp, hosted ones): Request -> stream of Chunk over HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol, TypeVar

import msgspec

from gateway.backends import dialect as accents
from gateway.backends import probabilities, shapes, upstream
from gateway.backends.dialect import Dialect
from gateway.backends.known import KnownIdentity
from gateway.backends.shapes import Count
from gateway.canonical import Identity, Request, Vector
from gateway.errors import BackendError
from storage.entry import Chunk, Usage

T = TypeVar("T")

_DRAIN_S = 0.5
_DONE = b"[DONE]"
_NOTHING = b"null"

PATHS = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    index: Count = 0
    delta: _Delta = msgspec.field(default_factory=_Delta)
    text: str | None = None
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None
    token_ids: tuple[Count, ...] | None = None
    prompt_token_ids: tuple[Count, ...] | None = None


class _Details(msgspec.Struct):
    cached_tokens: Count | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count | None = 0
    prompt_tokens_details: _Details | None = None

    def counts(self) -> Usage:
        cached = self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None
        return Usage(self.prompt_tokens, self.completion_tokens or 0, cached)


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None
    prompt_token_ids: tuple[Count, ...] | None = None


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Model(msgspec.Struct):
    id: str
    root: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


class _Props(msgspec.Struct):
    chat_template: str = ""
    chat_template_caps: dict[str, Any] = {}


class _Version(msgspec.Struct):
    version: str


_EVENT = msgspec.json.Decoder(_Event)
_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)


class Server(Protocol):
    """Where requests go. What it raises is a `BackendError`."""

    def asked(
        self, path: str, content: bytes, *, keep_connection: bool = True
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Post JSON; the reply's body, as it comes."""
        ...

    async def read(self, path: str, content: bytes | None = None) -> bytes:
        """Post JSON, or get; the whole body of the reply."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class OpenAICompatible:
    """One model on one server."""

    def __init__(
        self,
        name: str,
        server: Server,
        model: str,
        accent: Dialect,
        identity: Identity | None = None,
        *,
        embeds_together: bool = True,
    ) -> None:
        """`embeds_together`: what a text is embedded as does not depend on those that are embedded beside it."""
        self.name = name
        self._server = server
        self._model = model
        self._dialect = accent
        self._tools: bool | None = None
        self._embeds_together = embeds_together
        self._embedding = asyncio.Lock()
        self._identity = KnownIdentity(self._ask_identity, given=identity)

    async def identity(self) -> Identity:
        """Engine, its version and the weights. Raises `BackendError` while they have never been learnt."""
        return await self._identity.get()

    async def ping(self) -> None:
        """Raise `BackendError` unless the server answers now."""
        await self._read("/v1/models", msgspec.json.Decoder(_Models))

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Ask, and yield the answer's steps, the usage last. Raises `BackendError`, also midway."""
        upstream.expect(self.name, request, self._dialect.lacks)
        if request.prompt.get("tools") and not await self._reads_tools():
            upstream.expect(self.name, request, frozenset({"tools"}))
        body = msgspec.json.encode(accents.wire_body(request, self._model, self._dialect))
        tally = _Tally()
        asked = self._server.asked(PATHS[request.kind], body, keep_connection=self._dialect.keeps_connections)
        async with asked as pieces, aclosing(_events(pieces)) as arriving:
            async for told in arriving:
                for event in tally.events(told):
                    for choice in event.choices:
                        if (step := self._step(choice, event, request)) is not None:
                            yield step
        if not tally.complete:
            message = f"Backend '{self.name}' ended its stream before it was complete."
            raise BackendError(message)
        prompts = request.params.get("n", 1) if self._dialect.counts_prompt_per_choice else 1
        yield Chunk(usage=shapes.usage(self.name, tally.usage.shared(prompts)))

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        """One vector for each request, in order; all must share their parameters. Raises `BackendError`."""
        first = requests[0]
        upstream.expect(self.name, first, self._dialect.lacks)
        if self._embeds_together:
            return await self._embedded(requests)
        async with self._embedding:
            return [vector for request in requests for vector in await self._embedded([request])]

    async def _embedded(self, requests: Sequence[Request]) -> list[Vector]:
        first = requests[0]
        inputs = [request.prompt["input"] for request in requests]
        body = first.extra | first.params | {"model": self._model, "input": inputs, "encoding_format": "float"}
        content = await self._server.read("/v1/embeddings", msgspec.json.encode(body))
        reply = upstream.decoded(self.name, content, _EMBEDDINGS)
        if sorted(item.index for item in reply.data) != list(range(len(requests))):
            message = f"Backend '{self.name}' returned {len(reply.data)} embeddings for {len(requests)} inputs."
            raise BackendError(message)
        rows = [item.embedding for item in sorted(reply.data, key=_index)]
        return upstream.vectors(self.name, rows, reply.usage.prompt_tokens)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._identity.aclose()
        await self._server.aclose()

    def _step(self, choice: _Choice, event: _Event, request: Request) -> Chunk | None:
        delta = choice.delta
        step = Chunk(
            index=choice.index,
            content=choice.text or delta.content or "",
            reasoning=delta.reasoning_content or delta.reasoning or "",
            refusal=delta.refusal or "",
            tool_calls=shapes.tool_calls(self.name, delta.tool_calls or ()),
            logprobs=self._probabilities(choice.logprobs, request),
            finish_reason=choice.finish_reason,
            token_ids=choice.token_ids if self._dialect.gives_token_ids else None,
            prompt_token_ids=choice.prompt_token_ids or event.prompt_token_ids,
        )
        if step == Chunk(index=choice.index):
            return None
        if self._dialect.gives_token_ids and step.token_ids is None and not _speaks(step):
            # vLLM's first event has the prompt's tokens and none of its own.
            return msgspec.structs.replace(step, token_ids=())
        return step

    def _probabilities(self, logprobs: dict[str, Any] | None, request: Request) -> dict[str, Any] | None:
        """In OpenAI's form. llama.cpp uses that of a chat for completions too."""
        if logprobs is None or probabilities.wanted(request) is None:
            return None
        shapes.logprobs(self.name, logprobs)
        if "content" not in logprobs:
            return logprobs
        return probabilities.shown(logprobs["content"] or (), request)

    async def _reads_tools(self) -> bool:
        """Whether the chat template shows tools to the model; the engine says nothing when it does not."""
        if self._dialect.props_path is None:
            return True
        if self._tools is None:
            props = await self._read(self._dialect.props_path, msgspec.json.Decoder(_Props))
            said = props.chat_template_caps.get("supports_tools")
            self._tools = "tools" in props.chat_template if said is None else bool(said)
        return self._tools

    async def _ask_identity(self) -> Identity:
        self._tools = None  # another model may have come
        return Identity(self._dialect.engine, await self._version(), await self._weights())

    async def _version(self) -> str:
        if self._dialect.version_path is None:
            return ""
        return (await self._read(self._dialect.version_path, msgspec.json.Decoder(_Version))).version

    async def _weights(self) -> str:
        """What the server itself says of its weights: where they came from."""
        models = (await self._read("/v1/models", msgspec.json.Decoder(_Models))).data
        return next((model.root for model in models if model.id == self._model and model.root), self._model)

    async def _read(self, path: str, decoder: msgspec.json.Decoder[T]) -> T:
        return upstream.decoded(self.name, await self._server.read(path), decoder)


class _Tally:
    """What a stream says besides its steps: what they cost, and that it is complete.

    A server that dies leaves an end like any other, even after the last step. So there must be a `[DONE]`, or from a
    server that has none the usage, which is asked for and comes last.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self.complete = False

    def events(self, told: Iterable[bytes]) -> Iterator[_Event]:
        """What is told, decoded. Raises `BackendError`."""
        for data in told:
            if data == _DONE:
                self.complete = True
                return
            event = _decode(data)
            if event.usage:
                self.usage += event.usage.counts()
                self.complete = True
            yield event


async def _events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[list[bytes]]:
    """The data of the server-sent events in each piece, up to and with the one that says that it is done.

    Lines end at \\n or \\r\\n only: a splitter that also honours U+2028 and its like, as httpx's does, would cut
    answers that contain them.
    """
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        found = [line[5:].strip() for line in lines if line.startswith(b"data:")]
        if _DONE in found:
            yield _told(found[: found.index(_DONE) + 1])
            await _drained(pieces)
            return
        yield _told(found)
    if rest.startswith(b"data:"):
        yield _told([rest[5:].strip()])


def _told(found: list[bytes]) -> list[bytes]:
    """Without what tells nothing: llama.cpp's `null` before the answers to several prompts."""
    return [data for data in found if data != _NOTHING]


async def _drained(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end of the reply, which is here already: a connection left before it cannot be used again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for _ in pieces:
                pass


def _decode(data: bytes) -> _Event:
    try:
        event = _EVENT.decode(data)
    except upstream.MISREAD as error:
        message = f"The backend sent an event that is no completion chunk: {data[:120]!r}"
        raise BackendError(message) from error
    if event.error is not None:
        raise BackendError(upstream.reason(event.error))
    return event


def _speaks(step: Chunk) -> bool:
    return bool(step.content or step.reasoning or step.refusal or step.tool_calls)


def _index(item: _Embedding) -> int:
    return item.index
