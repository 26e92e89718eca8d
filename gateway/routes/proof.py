"""`GET /v1/cache/{key}` and `POST /v1/cache/{key}/verify`: what is kept, shown whole and asked again."""

import asyncio
import re
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.caller import Caller
from gateway.errors import InvalidRequest, StorageUnavailable
from gateway.proof import rebuilding
from gateway.proof.record import iso
from gateway.routes.described import asking
from gateway.routes.leaving import unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import hexadecimal, query, served_name
from storage.listing import Listed

MAX_LISTED: Final = 10_000
_LIST_S: Final = 10.0
_NUMBER: Final = re.compile(r"[0-9]{1,5}")
_WAYS: Final = ("last", "sample")

HttpRequest = Request[Any, Caller, Any]


@get("/v1/cache/{key:str}", summary="Show one answer's record", opt={"scope": "cache"})
async def record(request: HttpRequest, parts: NamedDependency[Parts], key: FromPath[str]) -> Response[bytes]:
    """Everything that is known of the answer: what was asked, what was said step by step, by whom, when, for whom."""
    content = await parts.proof.record(bytes.fromhex(hexadecimal(key, "key")), request.auth)
    return Response(content, media_type="application/json")


@post("/v1/cache/{key:str}/verify", summary="Ask for one answer again", status_code=200, opt={"scope": "cache"})
async def verify(request: HttpRequest, parts: NamedDependency[Parts], key: FromPath[str]) -> dict[str, Any]:
    """The model is asked what was asked then, past the cache; the reply says whether it answers the same, or where the
    two answers part. The outcome is kept with the answer.
    """
    request.auth.expect("ask")  # beside what the route itself wants
    wanted = bytes.fromhex(hexadecimal(key, "key"))
    done = await unless_left(request.receive, parts.proof.verify(wanted, request.auth))
    parts.telemetry.verified(request.auth.tenant, done["model"], done["outcome"])
    return done


@get(
    "/v1/cache",
    summary="List answers",
    opt={"scope": "cache"},
    operation_class=asking(
        last="Either the last so many answers,", sample="or so many drawn by lot;", model="of this model only."
    ),
)
async def listed(request: HttpRequest, parts: NamedDependency[Parts]) -> dict[str, Any]:
    """The keys of the caller's `last` answers, or of a `sample` of so many; with `model` only of that model."""
    params = query(request, (*_WAYS, "model"))
    ways = [name for name in _WAYS if name in params]
    if len(ways) != 1:
        message = "Say which answers to list by ?last=N or by ?sample=N, and &model=… if you like."
        raise InvalidRequest(message, code="invalid_value")
    count, caller = _count(params[ways[0]], ways[0]), request.auth
    model = served_name(parts.router, params["model"]) if "model" in params else None
    search = parts.listing.last if ways[0] == "last" else parts.listing.sample
    try:
        async with asyncio.timeout(_LIST_S):
            found = await search(caller.scope, count, model=model, models=caller.models)
    except Exception as error:
        message = "The database cannot be reached, so nothing can be listed; try again when it is back."
        raise StorageUnavailable(message) from error
    return {"object": "list", "data": [_shown(one) for one in found]}


def _count(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MAX_LISTED:
        message = f"'{name}' must be a number from 1 to {MAX_LISTED}."
        raise InvalidRequest(message, param=name, code="invalid_value")
    return int(text)


def _shown(one: Listed) -> dict[str, Any]:
    return {
        "key": one.key.hex(),
        "kind": one.kind,
        "model": one.model,
        "created_at": iso(one.created_at),
        "reproducible": rebuilding.is_repeatable(one.kind, one.params),
    }
