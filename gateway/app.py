"""The composition root: settings in, a running application out. Only here are concrete classes named."""

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Literal

import asyncpg
from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from gateway import policy
from gateway.access import Access, GuardedKeys
from gateway.backends import dialect, scripted
from gateway.backends.openai_compatible import OpenAICompatible
from gateway.backends.scripted import Scripted
from gateway.backends.server import MAX_CONNECTIONS, Server
from gateway.canonical import Identity
from gateway.config import LOOPBACK, BackendConfig, Config
from gateway.embedding.embedder import Embedder
from gateway.errors import BackendError, NotKept, RequestError, envelope
from gateway.explaining import Explainer
from gateway.flights.shared import SharedFlights
from gateway.pipeline import Pipeline
from gateway.proof.proving import Proof
from gateway.router import Backend, Router
from gateway.routes import cache, described, embeddings, health, models, proof, text
from gateway.routes import ollama as ollama_routes
from gateway.routes.authenticating import Authenticated
from gateway.routes.leaving import ClientLeft
from gateway.routes.local_only import LocalOnly
from gateway.routes.parts import Parts
from gateway.sweeping import Sweeper
from gateway.telemetry import Telemetry
from storage import postgres, redis
from storage.changes import EVERYTHING, Changes
from storage.embedded.marker import KeysRequired
from storage.errors import AskonceError
from storage.flights import board as flights_in_redis
from storage.flights.record import Timing
from storage.guard import Guard, GuardedTier
from storage.invalidations import Invalidations
from storage.keys import KeyStore
from storage.listing import Listing
from storage.memory import MemoryTier
from storage.near import Near
from storage.tiers import Tiers
from storage.verifications import Verifications

_LOG = logging.getLogger("askonce")

_SLACK_S = 24 * 3600
"""How much longer than entries live in Redis the marks of invalidations are kept."""

_HINTS = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}, 503: {"retry-after": "1"}}
"""Headers that go with a status."""

Build = Callable[[BackendConfig], Backend]


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncGenerator[Parts]:
    """Everything `config` asks for, opened, and closed again: usable without HTTP."""
    telemetry = Telemetry()
    async with contextlib.AsyncExitStack() as stack:
        database = await postgres.connect(config.database_url, config.database_connections)
        invalidations = Invalidations(database, telemetry.fault, config.database_deadline_s)
        tiers = _tiers(config, database, invalidations, telemetry)
        stack.push_async_callback(tiers.aclose)
        access = Access(
            GuardedKeys(KeyStore(database), config.database_deadline_s, telemetry.fault),
            local=config.host in LOOPBACK,
            admin_key=config.admin_key,
            marker=KeysRequired(config.data_dir) if config.data_dir else None,
        )
        stack.push_async_callback(Changes(config.database_url, _heard(access, invalidations)).aclose)
        marks_needed_s = config.redis_ttl_s + _SLACK_S
        sweeper = Sweeper(database, invalidations, config.policies, marks_needed_s=marks_needed_s)
        stack.push_async_callback(sweeper.aclose)
        backends = {backend.served_name: BUILD[backend.kind](backend) for backend in config.backends}
        for backend in backends.values():
            stack.push_async_callback(backend.aclose)
        board = flights_in_redis.connect(config.redis_url, telemetry.fault, Timing(deadline_s=config.redis_deadline_s))
        stack.push_async_callback(board.aclose)
        flights = SharedFlights(board)
        stack.push_async_callback(flights.aclose)
        router = Router(backends)
        kept = _verifications(config, database, telemetry)
        stack.push_async_callback(kept.aclose)
        yield Parts(
            pipeline=Pipeline(tiers, router, flights, config.policies),
            embedder=Embedder(tiers, router, flights, config.policies),
            router=router,
            tiers=tiers,
            telemetry=telemetry,
            access=access,
            invalidations=invalidations,
            proof=Proof(tiers, router, kept, config.policies),
            listing=Listing(database, lambda scope, model: policy.of(config.policies, scope, model).ttl_s),
            explainer=Explainer(tiers, router, Near(database), config.policies),
        )


def create_app(config: Config) -> Litestar:
    """The ASGI application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        async with running(config) as opened:
            app.state.parts = opened
            yield

    def parts() -> Any:
        return app.state.parts

    app = Litestar(
        route_handlers=[
            text.chat,
            text.completions,
            embeddings.embeddings,
            models.models,
            models.model,
            *OLLAMA,
            cache.explain,
            cache.delete_one,
            cache.delete_many,
            proof.record,
            proof.verify,
            proof.listed,
            health.healthz,
            health.readyz,
            health.metrics,
        ],
        lifespan=[lifespan],
        dependencies={"parts": Provide(parts, sync_to_thread=False)},
        exception_handlers={
            RequestError: _named,
            BackendError: _failed,
            ClientLeft: _left,
            HTTPException: _http,
            Exception: _unexpected,
        },
        request_max_body_size=config.max_body_bytes,
        # Its own would start a thread that every request of httpx wakes.
        logging_config=None,
        middleware=[*([LocalOnly] if config.host in LOOPBACK else []), Authenticated],
        # The bare document: the usual pages would load scripts of others into this origin.
        openapi_config=OpenAPIConfig(
            title="askonce",
            version="1",
            path="/schema",
            render_plugins=[JsonRenderPlugin()],
            components=described.COMPONENTS,
            security=described.WITH_KEY,
        ),
    )
    return app


def _heard(access: Access, invalidations: Invalidations) -> Callable[[str], Awaitable[None]]:
    async def heard(said: str) -> None:
        if said in {"keys", EVERYTHING}:
            await access.changed(told=said != EVERYTHING)
        if said in {"invalidations", EVERYTHING}:
            await invalidations.refresh()

    return heard


def _tiers(config: Config, database: asyncpg.Pool, invalidations: Invalidations, telemetry: Telemetry) -> Tiers:
    lower = [
        GuardedTier(redis.connect(config.redis_url, config.redis_ttl_s), config.redis_deadline_s, telemetry.fault),
        GuardedTier(postgres.PostgresTier(database), config.database_deadline_s, telemetry.fault),
    ]
    memory = MemoryTier(config.memory_max_bytes, config.redis_ttl_s)
    return Tiers(memory, lower, invalidations, telemetry.dropped)


def _verifications(config: Config, database: asyncpg.Pool, telemetry: Telemetry) -> Verifications:
    reads, writes = (
        Guard("postgres", telemetry.fault, sort=f"{sort} of verifications") for sort in ("reads", "writes")
    )
    return Verifications(database, reads, writes, config.database_deadline_s)


def _server(backend: BackendConfig) -> Server:
    return Server(
        backend.served_name,
        backend.url,
        api_key=backend.api_key,
        connect_timeout_s=backend.connect_timeout_s,
        read_timeout_s=backend.read_timeout_s,
    )


def _openai(accent: dialect.Dialect) -> Build:
    def build(backend: BackendConfig) -> Backend:
        identity = _given(backend, accent.engine)
        together = backend.kind != "llamacpp" or backend.kv_unified
        return OpenAICompatible(
            backend.served_name, _server(backend), backend.model, accent, identity, embeds_together=together
        )

    return build


def _given(backend: BackendConfig, engine: str) -> Identity | None:
    """Who answers, where the settings say so."""
    return Identity(engine, backend.engine_version, backend.model_version) if backend.model_version else None


def _ollama(backend: BackendConfig) -> Backend:
    # Its client brings pydantic and httpx: a third of a second and many megabytes that only its users should pay.
    import httpx  # noqa: PLC0415 -- see above

    from gateway.backends.ollama import Client, Ollama  # noqa: PLC0415 -- see above
    from gateway.backends.unbroken import UnbrokenLines  # noqa: PLC0415 -- it is httpx's

    timeout = httpx.Timeout(backend.read_timeout_s, connect=backend.connect_timeout_s)
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=256)
    transport = UnbrokenLines(httpx.AsyncHTTPTransport(limits=limits))
    client = Client(backend.url, api_key=backend.api_key, timeout=timeout, transport=transport)
    return Ollama(backend.served_name, client, _server(backend), backend.model, _given(backend, "ollama"))


def _scripted(backend: BackendConfig) -> Backend:
    return Scripted(backend.served_name, scripted.read(backend.script))


OLLAMA = (
    ollama_routes.chat,
    ollama_routes.generate,
    ollama_routes.embed,
    ollama_routes.embeddings,
    ollama_routes.tags,
    ollama_routes.ps,
    ollama_routes.show,
    ollama_routes.version,
)

BUILD: dict[str, Build] = {
    "vllm": _openai(dialect.VLLM),
    "openai": _openai(dialect.OPENAI),
    "llamacpp": _openai(dialect.LLAMACPP),
    "ollama": _ollama,
    "scripted": _scripted,
}


def _error(
    status: int, content: dict[str, Any], request: Request[Any, Any, Any], cache: Literal["bypass", "miss"] = "bypass"
) -> Response[dict[str, Any]]:
    request.app.state.parts.telemetry.refused(str(content["error"]["code"]))
    headers = {"x-askonce-cache": cache} | _HINTS.get(status, {})
    if request.url.path.startswith("/api/"):  # Ollama's clients expect the bare sentence
        content = {"error": content["error"]["message"]}
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def _named(request: Request[Any, Any, Any], error: RequestError) -> Response[dict[str, Any]]:
    return _error(error.status, envelope(error), request, "miss" if isinstance(error, NotKept) else "bypass")


def _failed(request: Request[Any, Any, Any], error: BackendError) -> Response[dict[str, Any]]:
    """No kept answer helped: a miss, whose backend had none either."""
    return _error(error.status, envelope(error), request, "miss")


def _left(request: Request[Any, Any, Any], error: ClientLeft) -> Response[dict[str, Any]]:
    """Nobody reads this; 499 is what access logs use for it."""
    return _error(499, _envelope("The client left.", "client_left"), request)


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """The framework's own refusals, in the same envelope as ours."""
    limit = request.app.request_max_body_size if hasattr(request.app, "request_max_body_size") else None
    said = {
        404: ("not_found", f"There is nothing at {request.method} {request.url.path}; /schema lists what there is."),
        405: ("method_not_allowed", f"{request.url.path} does not take {request.method}."),
        413: ("request_too_large", f"The body is larger than this server takes ({limit} bytes)."),
    }
    code, message = said.get(error.status_code, ("invalid_request", error.detail))
    return _error(error.status_code, _envelope(message, code), request)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    named = error if isinstance(error, AskonceError) else None
    message = str(named or "askonce made a mistake; its log has the details.")
    return _error(500, _envelope(message, "internal_error", "server_error"), request)


def _envelope(message: str, code: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
