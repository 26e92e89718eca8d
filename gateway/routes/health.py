"""`/healthz`, `/readyz` and `/metrics`: for those who watch."""

import asyncio
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency

from gateway.caller import Caller
from gateway.routes.parts import Parts
from gateway.routes.probing import probed
from gateway.routing.route import Route


@get("/healthz", summary="Alive?", exclude_from_auth=True)
async def healthz() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@get("/readyz", summary="Ready?", exclude_from_auth=True)
async def readyz(parts: NamedDependency[Parts]) -> Response[dict[str, Any]]:
    """200 when some model can be asked. Tiers are reported; one that is down costs speed, not answers."""
    names = parts.router.models()
    states = await asyncio.gather(*(probed(parts.router.model(name).first()) for name in names))
    models = {name: _said(state) for name, state in zip(names, states, strict=True)}
    ready = any(not isinstance(state, str) for state in states)
    content = {"status": "ok" if ready else "unavailable", "models": models, "tiers": await parts.tiers.health()}
    return Response(content, status_code=200 if ready else 503)


def _said(state: Route | str) -> str:
    """`ok`, who has to help out, or why nobody can be asked."""
    if isinstance(state, str):
        return state
    return f"ok, by {state.kind} instead of {state.fallback}" if state.fallback else "ok"


@get("/metrics", summary="Prometheus metrics", media_type="text/plain; version=0.0.4")
async def metrics(request: Request[Any, Caller, Any], parts: NamedDependency[Parts]) -> bytes:
    """The counters of this worker: with the scope `admin` all of them, else those of the caller's tenant."""
    caller = request.auth
    return parts.telemetry.exposition(None if "admin" in caller.scopes else caller.tenant)
