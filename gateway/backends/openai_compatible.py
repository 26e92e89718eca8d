"""Any server that speaks OpenAI's protocol (vLLM, llama.cpp, hosted ones): Request -> stream of Chunk over HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import msgspec

from gateway.backends import abilities, blame, cutting, describing, probabilities, shapes, telling, upstream
from gateway.backends import dialect as accents
from gateway.backends.dialect import Dialect
from gateway.backends.events import Choice, Counted, Event, Stream
from gateway.backends.forms import Manners
from gateway.backends.interpreter import Interpreter
from gateway.backends.known import KnownIdentity
from gateway.backends.weights import Files, NoFiles, Weights
from gateway.canonical import Description, Identity, Request, Vector
from gateway.errors import BackendError, BackendRefused
from gateway.steps import Batches, Steps
from storage.entry import Chunk, Usage

T = TypeVar("T")

_DRAIN_S = 0.5

PATHS = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]
    usage: Counted = msgspec.field(default_factory=Counted)


_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)


class Server(telling.Server, Protocol):
    """Where requests go. What it raises is a `BackendError`."""

    def asked(
        self, path: str, content: bytes, *, keep_connection: bool = True
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Post JSON; the reply's body, as it comes."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class OpenAICompatible:
    """One model on one server."""

    def __init__(  # noqa: PLR0913 -- only the composition root calls it, with names
        self,
        name: str,
        server: Server,
        model: str,
        accent: Dialect,
        identity: Identity | None = None,
        files: Files | None = None,
        *,
        manners: Manners | None = None,
        embeds_together: bool = True,
    ) -> None:
        """`embeds_together`: what a text is embedded as does not depend on those that are embedded beside it."""
        self.name = name
        self._server = server
        self._model = model
        self._dialect = accent
        manners = manners or Manners(engine=accent.engine, constrains=accent.constrains)
        asked = abilities.ASKED[accent.engine]
        self._embeds_together = embeds_together
        self._embedding = asyncio.Lock()
        effort = abilities.EFFORT.get(accent.engine)
        self._interpreter = Interpreter(
            name,
            manners,
            lambda: asked(name, server, model),
            (lambda: effort(name, server, model)) if effort else None,
        )
        self._telling = telling.TELLING[accent.engine](name, server, model)
        self._identity = KnownIdentity(self._ask_identity, given=identity, signs=server.signs, ages=self._telling.ages)
        self._weights = Weights(files or NoFiles(), self._identity.forget)

    @property
    def known(self) -> Identity | None:
        """Who answered when that was last asked; None while it is not known."""
        return self._identity.known

    def certain(self) -> bool:
        """Whether that can be relied on now."""
        return self._identity.certain()

    def doubted(self) -> bool:
        """Whether there was a sign that it may be another one by now."""
        return self._identity.doubted()

    async def identity(self) -> Identity:
        """Engine, its version and the weights. Raises `BackendError` while they have never been learnt."""
        return await self._identity.get()

    async def renew(self) -> Identity:
        """The same, asked for now. Raises `BackendError`."""
        return await self._identity.renew()

    async def confirms(self, identity: Identity) -> bool:
        """Whether what was answered until now was answered by `identity`."""
        return await self._identity.confirms(identity)

    async def ping(self) -> None:
        """Raise `BackendError` unless the server answers now."""
        await self._read("/v1/models", telling.CARDS)

    async def described(self) -> Description:
        """What the server tells of its model. Raises `BackendError`."""
        return await describing.DESCRIBED[self._dialect.engine](self.name, self._server, self._model)

    def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Ask; the answer's steps, the usage last. Raises `BackendError`, also midway."""
        return self._interpreter.answer(request, self._said)

    def _said(self, request: Request, fields: Mapping[str, Any]) -> Steps:
        """What the server says to `request` with `fields` more in the body."""
        return Steps(self._batches(request, fields))

    async def _batches(self, request: Request, fields: Mapping[str, Any]) -> Batches:
        body = msgspec.json.encode(accents.wire_body(request, self._model, self._dialect) | dict(fields))
        stream = Stream(self.name, partial(self._step, request))
        asked = self._server.asked(PATHS[request.kind], body, keep_connection=self._dialect.keeps_connections)
        async with asked as pieces:
            async for piece in pieces:
                for some, fault in stream.told(piece):
                    if some:
                        yield some
                    if fault is not None:
                        raise fault
                if stream.done:
                    await _drained(pieces)
                    break
        some, fault = stream.end()
        if fault is not None:
            raise fault
        yield [*some, Chunk(usage=self._counted(stream, request))]

    def _counted(self, stream: Stream, request: Request) -> Usage:
        """What the answer in `stream` took. Raises `BackendError` when it is not complete."""
        if not stream.complete:
            message = f"Backend '{self.name}' ended its stream before it was complete."
            raise BackendError(message)
        prompts = request.params.get("n", 1) if self._dialect.counts_prompt_per_choice else 1
        return shapes.usage(self.name, stream.usage.shared(prompts))

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        """One vector for each request, in order; all must share their parameters. Raises `BackendError`."""
        first = requests[0]
        self._interpreter.expect(first)
        if self._embeds_together:
            return await self._embedded(requests)
        async with self._embedding:
            return [vector for request in requests for vector in await self._embedded([request])]

    async def _embedded(self, requests: Sequence[Request]) -> list[Vector]:
        """Their vectors. Where a text may be cut and the engine does not cut it, its first tokens are asked for."""
        first = requests[0]
        inputs: Sequence[Any] = [request.prompt["input"] for request in requests]
        try:
            return await self._vectors(first, inputs)
        except BackendRefused as refused:
            limit = cutting.most(refused) if first.params.get("truncate") else None
            if limit is None or self._dialect.engine != "llamacpp":
                raise
        return await self._vectors(first, [await cutting.cut(self.name, self._server, text, limit) for text in inputs])

    async def _vectors(self, first: Request, inputs: Sequence[Any]) -> list[Vector]:
        params = {name: value for name, value in first.params.items() if name != "truncate"}
        params |= self._dialect.cuts if first.params.get("truncate") else {}
        body = first.extra | params | {"model": self._model, "input": inputs, "encoding_format": "float"}
        with blame.naming(first):
            content = await self._embeddings(msgspec.json.encode(body))
        reply = upstream.decoded(self.name, content, _EMBEDDINGS)
        if sorted(item.index for item in reply.data) != list(range(len(inputs))):
            message = f"Backend '{self.name}' returned {len(reply.data)} embeddings for {len(inputs)} inputs."
            raise BackendError(message)
        rows = [item.embedding for item in sorted(reply.data, key=_index)]
        return upstream.vectors(self.name, rows, reply.usage.prompt_tokens, first.params.get("dimensions"))

    async def _embeddings(self, body: bytes) -> bytes:
        try:
            return await self._server.read("/v1/embeddings", body)
        except BackendRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            message = f"The model of backend '{self.name}' does not embed texts; ask another one."
            raise BackendRefused(message, status=404, code="model_does_not_embed", param="model") from refused

    async def aclose(self) -> None:
        """Close the connections."""
        await self._identity.aclose()
        await self._server.aclose()

    def _step(self, request: Request, choice: Choice, event: Event) -> Chunk | None:
        """What a choice says. Raises `BackendError`."""
        delta = choice.delta
        step = Chunk(
            choice.index,
            choice.text or delta.content or "",
            delta.reasoning_content or delta.reasoning or "",
            delta.refusal or "",
            shapes.tool_calls(self.name, delta.tool_calls) if delta.tool_calls else (),
            None if choice.logprobs is None else self._probabilities(choice.logprobs, request),
            choice.finish_reason,
            choice.token_ids if self._dialect.gives_token_ids else None,
            choice.prompt_token_ids or event.prompt_token_ids,
        )
        if not step.content and step == Chunk(choice.index):
            return None
        if self._dialect.gives_token_ids and step.token_ids is None and not _speaks(step):
            # vLLM's first event has the prompt's tokens and none of its own.
            return msgspec.structs.replace(step, token_ids=())
        return step

    def _probabilities(self, logprobs: dict[str, Any], request: Request) -> dict[str, Any] | None:
        """In OpenAI's form. llama.cpp uses that of a chat for completions too."""
        if probabilities.wanted(request) is None:
            return None
        shapes.logprobs(self.name, logprobs)
        if "content" not in logprobs:
            return logprobs
        return probabilities.shown(logprobs["content"] or (), request)

    async def _ask_identity(self) -> Identity:
        self._interpreter.forget()  # another model may have come
        served = await self._telling.served()
        version = await self._weights.version(served, self._telling.fingerprint)
        return Identity(self._dialect.engine, served.engine_version, version)

    async def _read(self, path: str, decoder: msgspec.json.Decoder[T]) -> T:
        return upstream.decoded(self.name, await self._server.read(path), decoder)


async def _drained(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end of the reply, which is here already: a connection left before it cannot be used again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for _ in pieces:
                pass


def _speaks(step: Chunk) -> bool:
    return bool(step.content or step.reasoning or step.refusal or step.tool_calls)


def _index(item: _Embedding) -> int:
    return item.index
