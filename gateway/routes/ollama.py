"""Ollama's API: `/api/chat`, `/api/generate`, embeddings, the models, and `/api/version`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Final

import msgspec
from litestar import Request, Response, get, head, post
from litestar.di import NamedDependency
from litestar.types import ASGIApp

from gateway import steering
from gateway.caller import Caller
from gateway.canonical import Description, Identity
from gateway.canonical import Request as Question
from gateway.config import BackendConfig, ReplicaConfig
from gateway.errors import BackendError
from gateway.pipeline import Answer
from gateway.routes import steps
from gateway.routes.described import FOR_ALL
from gateway.routes.headers import describing, describing_vectors
from gateway.routes.leaving import EventStream, unless_left
from gateway.routes.parts import Parts
from gateway.routes.probing import probed
from gateway.routes.reading import decoded
from gateway.routing.replica import Replica
from gateway.routing.router import Router
from gateway.wire import ollama, reply
from storage.entry import Chunk, usage_of

HttpRequest = Request[Any, Caller, Any]
NDJSON = {"content-type": "application/x-ndjson"}

_NEVER = "1970-01-01T00:00:00Z"
"""Said where nobody knows when a model was changed: clients expect a date."""
_NO_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": None,
    "parameter_size": "",
    "quantization_level": "",
}

API_VERSION = "0.33.0"
"""The version of Ollama whose API this is."""


@post("/api/chat", summary="Answer a conversation (Ollama)", status_code=200)
async def chat(request: HttpRequest, parts: NamedDependency[Parts]) -> ASGIApp:
    """Ollama's chat, streamed unless `stream` is false."""
    question = await decoded(request, ollama.decode_chat)
    if isinstance(question, ollama.Load):
        return await _loaded(question, request.auth, parts, chat=True)
    return await unless_left(request.receive, _answer(question, request, parts, chat=True))


@post("/api/generate", summary="Answer a prompt (Ollama)", status_code=200)
async def generate(request: HttpRequest, parts: NamedDependency[Parts]) -> ASGIApp:
    """Ollama's generate, streamed unless `stream` is false."""
    question = await decoded(request, ollama.decode_generate)
    if isinstance(question, ollama.Load):
        return await _loaded(question, request.auth, parts, chat=False)
    return await unless_left(request.receive, _answer(question, request, parts, chat=False))


@post("/api/embed", summary="Embed texts (Ollama)", status_code=200)
async def embed(request: HttpRequest, parts: NamedDependency[Parts]) -> Response[bytes]:
    """Ollama's embed. Inputs embedded before are not embedded again."""
    started = time.monotonic_ns()
    questions = await decoded(request, ollama.decode_embed)
    model = questions[0].model
    head = reply.head("embd-", model)
    vectors = await unless_left(
        request.receive, parts.embedder.embed(questions, request.auth, steering.read(request.headers), head.id)
    )
    headers = describing_vectors(vectors)
    parts.telemetry.replied(request.auth.tenant, "embedding", model, headers["x-askonce-cache"], "")
    content = ollama.embeddings(model, vectors.values, vectors.usage, time.monotonic_ns() - started, vectors.provenance)
    return Response(content, media_type="application/json", headers=headers)


@post("/api/embeddings", summary="Embed a text (Ollama's older endpoint)", status_code=200)
async def embeddings(request: HttpRequest, parts: NamedDependency[Parts]) -> Response[bytes]:
    """Ollama's older way to embed: one text, the same question as in `/api/embed`."""
    question = await decoded(request, ollama.decode_embeddings)
    if isinstance(question, ollama.Load):
        await parts.router.model(question.model, request.auth.models).first()
        return Response(ollama.embedding(b""), media_type="application/json")
    head = reply.head("embd-", question.model)
    work = parts.embedder.embed([question], request.auth, steering.read(request.headers), head.id)
    vectors = await unless_left(request.receive, work)
    headers = describing_vectors(vectors)
    parts.telemetry.replied(request.auth.tenant, "embedding", question.model, headers["x-askonce-cache"], "")
    return Response(ollama.embedding(vectors.values[0]), media_type="application/json", headers=headers)


class _Found(msgspec.Struct, frozen=True):
    """A model, and what could be learnt of it now."""

    name: str
    identity: Identity = Identity("", "", "")
    described: Description = Description()

    def tag(self) -> dict[str, Any]:
        """Its entry in a list."""
        return {
            "name": self.name,
            "model": self.name,
            "modified_at": self.described.modified_at or _NEVER,
            "size": self.described.size_bytes,
            "digest": self.identity.model_version,
            "details": _NO_DETAILS | self.described.details,
        }


@get("/api/tags", summary="List models (Ollama)")
async def tags(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Every model by the name clients use."""
    return {"models": [found.tag() for found in await _tags(parts.router, request.auth)]}


@get("/api/ps", summary="List loaded models (Ollama)")
async def ps(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Every model that answers now."""
    loaded = [found for found in await _tags(parts.router, request.auth) if found.identity.model_version]
    return {"models": [found.tag() | _length(found.described) for found in loaded]}


@post("/api/show", summary="Describe a model (Ollama)", status_code=200)
async def show(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """One model, as its server describes it. 404 when there is none of this name."""
    name = await decoded(request, ollama.decode_show)
    pool = parts.router.model(name, request.auth.models)
    described = await (await pool.first()).described()
    return {
        "license": described.license,
        "parameters": described.parameters,
        "template": described.template,
        "system": described.system,
        "details": _NO_DETAILS | described.details,
        "model_info": described.model_info,
        "capabilities": _capabilities(described, pool.replicas),
        "modified_at": described.modified_at or _NEVER,
    }


@head("/", summary="There? (Ollama)", exclude_from_auth=True, security=FOR_ALL)
async def there() -> None:
    """Ollama's own program asks this before anything else."""


@get("/", summary="Running? (Ollama)", media_type="text/plain", exclude_from_auth=True, security=FOR_ALL)
async def running() -> str:
    """By these words clients and monitors know a server of Ollama's."""
    return "Ollama is running"


@head("/api/tags", summary="Models there? (Ollama)")
async def tags_there() -> None:
    """Clients look whether there is a list before they ask for it."""


@get("/api/version", summary="The version (Ollama)")
async def version() -> dict[str, str]:
    """The version of Ollama whose API this is."""
    return {"version": API_VERSION}


def _length(described: Description) -> dict[str, int]:
    return {"context_length": described.context_tokens} if described.context_tokens else {}


async def _loaded(asked: ollama.Load, caller: Caller, parts: Parts, *, chat: bool) -> Any:
    """What Ollama answers to a request that says nothing; loading is the backend's own business."""
    await parts.router.model(asked.model, caller.models).first()
    return Response(ollama.loaded(asked, chat=chat), media_type="application/json", status_code=200)


async def _answer(question: Question, request: HttpRequest, parts: Parts, *, chat: bool) -> Any:
    head = reply.head("ollama-", question.model)
    caller, wishes = request.auth, steering.read(request.headers)
    if question.stream:
        answer = await parts.pipeline.answer(question, caller, wishes, head.id)
        first = await steps.first(answer.chunks)
        parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
        lines = _lines(head.of(answer.provenance), first, answer, chat=chat)
        return EventStream(NDJSON | describing(answer), lines, answer.chunks)
    answer, chunks = await parts.pipeline.whole(question, caller, wishes, head.id)
    parts.telemetry.replied(caller.tenant, question.kind, question.model, answer.status, answer.tier)
    content = ollama.whole(head.of(answer.provenance), _steps(chunks), usage_of(chunks), chat=chat)
    return Response(content, media_type="application/json", headers=describing(answer, ended=True), status_code=200)


async def _lines(head: reply.Head, first: Chunk, answer: Answer, *, chat: bool) -> AsyncGenerator[bytes]:
    chunks = [first]
    async with aclosing(answer.chunks) as arriving:
        yield ollama.line(head, first, chat=chat)
        try:
            async for chunk in arriving:
                chunks.append(chunk)
                if line := ollama.line(head, chunk, chat=chat):
                    yield line
        except BackendError as error:
            # Too late for a status: Ollama's client raises on this line.
            yield msgspec.json.encode({"error": str(error)}) + b"\n"
            return
    yield ollama.last_lines(head, _steps(chunks), usage_of(chunks), chat=chat)


def _capabilities(described: Description, replicas: Iterable[Replica]) -> list[str]:
    """What may be asked of a model. Tools nearly always: where the engine cannot show them, the gateway tells them."""
    replicas = list(replicas)
    tools = any(replica.kind != "scripted" and _takes_tools(replica.settings) for replica in replicas)
    found = [word for word in described.capabilities if word != "tools"]
    return [*found, *(["tools"] if tools and "completion" in found else [])]


def _takes_tools(settings: ReplicaConfig) -> bool:
    return not (isinstance(settings, BackendConfig) and settings.tools == "refused")


def _steps(chunks: list[Chunk]) -> list[Chunk]:
    return [chunk for chunk in chunks if chunk.usage is None]


async def _tags(router: Router, caller: Caller) -> list[_Found]:
    return await asyncio.gather(*(_found(router, name) for name in router.models(caller.models)))


async def _found(router: Router, name: str) -> _Found:
    """What is known of a model within the time that a client should wait for a list."""
    route = await probed(router.model(name).first())
    if isinstance(route, str):
        return _Found(name)
    described = await probed(route.described())
    if isinstance(described, str):
        return _Found(name, route.identity)
    return _Found(name, route.identity, described)


HANDLERS: Final = (
    chat,
    generate,
    embed,
    embeddings,
    tags,
    ps,
    show,
    version,
    there,
    running,
    tags_there,
)
