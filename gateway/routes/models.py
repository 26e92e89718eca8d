"""`/v1/models`: what can be asked."""

import asyncio
from typing import Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.caller import Caller
from gateway.routes.parts import Parts
from gateway.routes.probing import probed
from gateway.routing.router import Router

HttpRequest = Request[Any, Caller, Any]


@get("/v1/models", summary="List models")
async def models(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Every model by the name clients use."""
    names = parts.router.models(request.auth.models)
    shown = await asyncio.gather(*(_shown(parts.router, name) for name in names))
    return {"object": "list", "data": shown}


@get("/v1/models/{name:path}", summary="Describe a model")
async def model(request: HttpRequest, parts: NamedDependency[Parts], name: FromPath[str]) -> dict[str, Any]:
    """One model. 404 when there is none of this name."""
    found = name.removeprefix("/")
    parts.router.model(found, request.auth.models)
    return await _shown(parts.router, found)


async def _shown(router: Router, name: str) -> dict[str, Any]:
    pool = router.model(name)
    shown: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": "askonce"}
    found = await probed(pool.first())
    if isinstance(found, str):
        return {**shown, "status": found}
    identity = found.identity
    named = {"engine": identity.engine, "engine_version": identity.engine_version}
    fallback = {"fallback": found.fallback} if found.fallback else {}
    return {**shown, **named, "model_version": identity.model_version, **fallback, "status": "ok"}
