"""`/admin`: the replicas as this worker sees them, and reading the settings again."""

from typing import Any

from litestar import get, post
from litestar.di import NamedDependency

from gateway.config import ConfigError
from gateway.errors import InvalidRequest
from gateway.routes.parts import Parts


@get("/admin/backends", summary="Show every replica", opt={"scope": "admin"})
async def backends(parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Each replica of each model: who it is, how it is, what it has to do, and what went wrong last.

    It is the view of the worker that answers; another one may have met other faults.
    """
    shown = [replica.shown(pool.name) for pool in parts.router.pools() for replica in pool.replicas]
    return {"object": "list", "data": shown}


@post("/admin/reload", summary="Read the settings again", status_code=200, opt={"scope": "admin"})
async def reload(parts: NamedDependency[Parts]) -> dict[str, Any]:
    """Workers use what the file says now. 400, with file and line, for one that is not valid; nothing changes then."""
    try:
        changed = await parts.reload()
    except ConfigError as error:
        raise InvalidRequest(str(error), code="invalid_settings") from error
    return {"object": "reload", "changed": list(changed), "models": parts.router.models()}
