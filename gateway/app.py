"""The composition root: settings in, a running application out. Only here are concrete classes named."""

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from math import ceil
from typing import Any, Literal

import asyncpg
from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from gateway import policy
from gateway.access import Access, GuardedKeys
from gateway.building import BUILD
from gateway.config import LOOPBACK, Config, ConfigError
from gateway.conversations import Conversations
from gateway.embedding.embedder import Embedder
from gateway.errors import BackendError, NotKept, RequestError, envelope
from gateway.explaining import Explainer
from gateway.flights.shared import SharedFlights
from gateway.models.digest import Digests
from gateway.pipeline import Pipeline
from gateway.proof.proving import Proof
from gateway.routes import admin, cache, described, embeddings, health, models, proof, responses, text
from gateway.routes import ollama as ollama_routes
from gateway.routes.authenticating import Authenticated
from gateway.routes.leaving import ClientLeft
from gateway.routes.local_only import LocalOnly
from gateway.routes.parts import Parts, Reload
from gateway.routing.figures import Figures
from gateway.routing.router import Router
from gateway.sweeping import Sweeper
from gateway.telemetry import Telemetry
from storage import gossip, postgres, redis
from storage.changes import EVERYTHING, Changes
from storage.embedded.marker import KeysRequired
from storage.errors import AskonceError
from storage.flights import board as flights_in_redis
from storage.flights.record import Timing
from storage.gossip import Gossip
from storage.guard import Guard, GuardedTier
from storage.invalidations import Invalidations
from storage.keys import KeyStore
from storage.ledger import Ledger
from storage.listing import Listing
from storage.memory import MemoryTier
from storage.near import Near
from storage.responses import Responses
from storage.tiers import Tiers
from storage.verifications import Verifications

_LOG = logging.getLogger("askonce")

_SLACK_S = 24 * 3600
"""How much longer than entries live in Redis the marks of invalidations are kept."""

_HINTS = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}, 503: {"retry-after": "1"}}
"""Headers that go with a status."""


async def _no_parent() -> tuple[str, ...]:
    raise ConfigError("Only 'askonce serve' can read its settings again.")


@contextlib.asynccontextmanager
async def running(config: Config, reload: Reload = _no_parent) -> AsyncGenerator[Parts]:
    """Everything `config` asks for, opened, and closed again: usable without HTTP."""
    policies = list(config.policies)  # one list that all share, for it can be changed
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
        await invalidations.begin()
        sweeper = Sweeper(
            database,
            invalidations,
            policies,
            marks_needed_s=config.redis_ttl_s + _SLACK_S,
            responses_ttl_s=config.responses_ttl_s,
        )
        stack.push_async_callback(sweeper.aclose)
        router, others = _routing(config)
        stack.push_async_callback(others.aclose)
        stack.push_async_callback(router.aclose)

        def use(config: Config) -> None:
            router.configure(config.backends, config.models)
            policies[:] = config.policies

        use(config)
        telemetry.watch(Figures(router.pools))
        board = flights_in_redis.connect(config.redis_url, telemetry.fault, Timing(deadline_s=config.redis_deadline_s))
        stack.push_async_callback(board.aclose)
        flights = SharedFlights(board)
        stack.push_async_callback(flights.aclose)
        kept = _verifications(config, database, telemetry)
        stack.push_async_callback(kept.aclose)
        stack.push_async_callback((given := _responses(config, database, invalidations, telemetry)).aclose)
        stack.push_async_callback((ledger := _ledger(config, database, telemetry)).aclose)
        yield Parts(
            pipeline=Pipeline(tiers, router, flights, policies, ledger),
            embedder=Embedder(tiers, router, flights, policies, ledger),
            router=router,
            tiers=tiers,
            telemetry=telemetry,
            access=access,
            invalidations=invalidations,
            proof=Proof(tiers, router, kept, policies),
            listing=Listing(database, lambda scope, model: policy.of(policies, scope, model).ttl_s),
            use=use,
            reload=reload,
            explainer=Explainer(tiers, router, Near(database), policies),
            conversations=Conversations(given, policies),
        )


def create_app(config: Config, reload: Reload = _no_parent) -> Litestar:
    """The ASGI application. `reload` has the settings read again."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        async with running(config, reload) as opened:
            app.state.parts = opened
            yield

    def parts() -> Any:
        return app.state.parts

    app = Litestar(
        route_handlers=[
            text.chat,
            text.completions,
            *RESPONSES,
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
            admin.backends,
            admin.reload,
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


def _routing(config: Config) -> tuple[Router, Gossip]:
    """The router, and what it tells those of other gateways and workers, and hears of them."""
    files = Digests(config.folder() / "models")
    router = Router(
        lambda backend: BUILD[backend.kind](backend, files),
        workers=config.workers,
        say=lambda model, message: others.say(model, message),
    )
    others = gossip.connect(config.redis_url, router.heard)
    return router, others


def _verifications(config: Config, database: asyncpg.Pool, telemetry: Telemetry) -> Verifications:
    reads, writes = (
        Guard("postgres", telemetry.fault, sort=f"{sort} of verifications") for sort in ("reads", "writes")
    )
    return Verifications(database, reads, writes, config.database_deadline_s)


def _ledger(config: Config, database: asyncpg.Pool, telemetry: Telemetry) -> Ledger:
    return Ledger(database, Guard("postgres", telemetry.fault, sort="writes of usage"), config.database_deadline_s)


def _responses(config: Config, database: asyncpg.Pool, marks: Invalidations, telemetry: Telemetry) -> Responses:
    reads, writes = (Guard("postgres", telemetry.fault, sort=f"{sort} of responses") for sort in ("reads", "writes"))
    return Responses(database, marks, (reads, writes), config.database_deadline_s, telemetry.dropped)


OLLAMA = (
    ollama_routes.chat,
    ollama_routes.generate,
    ollama_routes.embed,
    ollama_routes.embeddings,
    ollama_routes.tags,
    ollama_routes.ps,
    ollama_routes.show,
    ollama_routes.version,
    ollama_routes.there,
    ollama_routes.running,
    ollama_routes.tags_there,
)

RESPONSES = (responses.create, responses.retrieve, responses.input_items, responses.forget)


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
    response = _error(error.status, envelope(error), request, "miss")
    if error.retry_after_s:
        response.headers["retry-after"] = str(ceil(error.retry_after_s))
    return response


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
