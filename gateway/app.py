"""What is composed, behind HTTP: its routes, and how faults are told."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from gateway.composition import Standby, no_parent, no_standby, running
from gateway.config import LOOPBACK, Config
from gateway.fastpath import FastPath
from gateway.routes import (
    admin,
    cache,
    described,
    documents,
    embeddings,
    extractions,
    files,
    health,
    models,
    proof,
    responses,
    search,
    sql,
    text,
    vector_stores,
    vectors,
)
from gateway.routes import ollama as ollama_routes
from gateway.routes.authenticating import Authenticated
from gateway.routes.failing import Refusal, in_envelope, refusal, refused
from gateway.routes.local_only import LocalOnly
from gateway.routes.parts import Parts, Reload

_SEARCH = (*documents.HANDLERS, search.search, *vector_stores.HANDLERS, *files.HANDLERS)


class Application:
    """The ASGI application: what is ready is given at once, and the framework has the rest."""

    def __init__(self, config: Config, reload: Reload = no_parent, standby: Standby = no_standby) -> None:
        """`reload` has the settings read again; `standby` tells where statements of tenants run."""
        self.framework = create_app(config, reload, standby)
        self.max_body_bytes = config.max_body_bytes
        local = config.host in LOOPBACK
        app: Any = LocalOnly(self.framework) if local else self.framework
        self._app = FastPath(app, self.framework.state, only_local=local)

    @property
    def parts(self) -> Parts:
        """What it is made of, once it runs."""
        return self.framework.state.parts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection's request, or the application's life."""
        await self._app(scope, receive, send)


def create_app(config: Config, reload: Reload = no_parent, standby: Standby = no_standby) -> Litestar:
    """The framework's part of it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        async with running(config, reload, standby) as opened:
            app.state.parts = opened
            yield

    def parts() -> Any:
        return app.state.parts

    app = Litestar(
        route_handlers=[
            text.chat,
            text.completions,
            *responses.HANDLERS,
            embeddings.embeddings,
            models.models,
            models.model,
            *ollama_routes.HANDLERS,
            *extractions.HANDLERS,
            *_SEARCH,
            sql.ask,
            sql.schema,
            vectors.progress,
            sql.queries,
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
            HTTPException: _http,
            Exception: _failed,
        },
        request_max_body_size=config.max_body_bytes,
        # Its own would start a thread that every request of httpx wakes.
        logging_config=None,
        middleware=[Authenticated],
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


def _told(said: Refusal, request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    request.app.state.parts.telemetry.refused(said.code)
    content = said.content
    if request.url.path.startswith("/api/"):  # Ollama's clients expect the bare sentence
        content = {"error": content["error"]["message"]}
    return Response(content, status_code=said.status, media_type="application/json", headers=said.headers)


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    return _told(refusal(error, f"{request.method} {request.url.path}"), request)


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """The framework's own refusals, in the same envelope as ours."""
    limit = request.app.request_max_body_size if hasattr(request.app, "request_max_body_size") else None
    said = {
        404: ("not_found", f"There is nothing at {request.method} {request.url.path}; /schema lists what there is."),
        405: ("method_not_allowed", f"{request.url.path} does not take {request.method}."),
        413: ("request_too_large", f"The body is larger than this server takes ({limit} bytes)."),
    }
    code, message = said.get(error.status_code, ("invalid_request", error.detail))
    return _told(refused(error.status_code, in_envelope(message, code)), request)
