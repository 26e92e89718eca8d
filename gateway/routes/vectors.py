"""`/v1/vectors`: what of a tenant's is found by its meaning, and what is not yet."""

from typing import Any

from litestar import Request, get
from litestar.di import NamedDependency

from gateway.caller import Caller
from gateway.errors import StorageUnavailable
from gateway.routes.parts import Parts
from storage.errors import StorageError


@get("/v1/vectors", summary="How far embedding in the background is", opt={"scope": "cache"})
async def progress(request: Request[Any, Caller, Any], parts: NamedDependency[Parts]) -> dict[str, Any]:
    """The model that embeds what is kept, and how much of this tenant's prompts, chunks and records it has embedded."""
    try:
        model = await parts.vectors.current()
        kinds = await parts.vectors.progress(model, request.auth.scope) if model else {}
    except StorageError as error:
        raise StorageUnavailable("The database cannot be asked just now; try again soon.") from error
    said: dict[str, Any] = {"object": "vectors", "model": model and model.model}
    if model:
        said |= {"model_version": model.model_version, "dimensions": model.dimensions}
    counts = {kind: {"embedded": one.embedded, "of": one.of} for kind, one in kinds.items()}
    return said | {"looked_through": bool(model and model.looked_through), **counts}
