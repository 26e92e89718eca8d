"""`/v1/embeddings`: each input is a question of its own."""

from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency

from gateway import steering
from gateway.caller import Caller
from gateway.routes.headers import describing_vectors
from gateway.routes.leaving import unless_left
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded
from gateway.wire import openai_embeddings, reply


@post("/v1/embeddings", summary="Embed texts", status_code=200)
async def embeddings(request: Request[Any, Caller, Any], parts: NamedDependency[Parts]) -> Response[bytes]:
    """OpenAI's embeddings. Inputs embedded before are not embedded again."""
    asked = await decoded(request, openai_embeddings.decode)
    head = reply.head("embd-", asked.model)
    vectors = await unless_left(
        request.receive, parts.embedder.embed(asked.items, request.auth, steering.read(request.headers), head.id)
    )
    headers = describing_vectors(vectors)
    parts.telemetry.replied(request.auth.tenant, "embedding", asked.model, headers["x-askonce-cache"], "")
    content = openai_embeddings.encode(asked, vectors.values, vectors.usage, vectors.provenance)
    return Response(content, media_type="application/json", headers=headers)
