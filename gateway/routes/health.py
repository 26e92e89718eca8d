"""`/healthz`, `/readyz` and `/metrics`: for those who watch."""

import asyncio
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency

from gateway.caller import Caller
from gateway.routes.authenticating import names_for
from gateway.routes.described import FOR_ALL, WITH_KEY
from gateway.routes.parts import Parts
from gateway.routes.probing import probed
from gateway.routing.route import Route


@get("/healthz", summary="Alive?", exclude_from_auth=True, security=FOR_ALL)
async def healthz() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@get("/readyz", summary="Ready?", exclude_from_auth=True, security=[*FOR_ALL, *WITH_KEY])
async def readyz(request: Request[Any, Any, Any], parts: NamedDependency[Parts]) -> Response[dict[str, Any]]:
    """200 when some model can be asked, and how many can. Tiers are reported; one that is down costs speed, not
    answers. Each model is named to who may ask it: where keys are needed, to those with one.
    """
    names = parts.router.models()
    firsts = asyncio.gather(*(probed(parts.router.model(name).first()) for name in names))
    states, shown, tiers = await asyncio.gather(firsts, names_for(request, names), parts.tiers.health())
    models = {name: _said(state) for name, state in zip(names, states, strict=True)}
    can = sum(not isinstance(state, str) for state in states)
    content: dict[str, Any] = {"status": "ok" if can else "unavailable"}
    content["why"] = f"{can} of {len(names)} models can be asked."
    if shown is not None:
        content["models"] = {name: models[name] for name in shown}
    return Response(content | {"tiers": tiers}, status_code=200 if can else 503)


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
