"""`/v1/cache/explain`: why a request hits or misses."""

from typing import Any

from litestar import Request, post
from litestar.di import NamedDependency

from gateway.errors import InvalidRequest
from gateway.pipeline import Pipeline
from gateway.routes.headers import DEFAULT_SCOPE
from gateway.wire import body, openai_chat, openai_completions, openai_embeddings


@post("/v1/cache/explain", summary="Explain a request's key", status_code=200)
async def explain(request: Request[Any, Any, Any], pipeline: NamedDependency[Pipeline]) -> dict[str, Any]:
    """The body is any request; the reply is its canonical form, every part of its key, and which tier would answer."""
    data = await request.body()
    raw = body.decode(data)
    if "messages" in raw:
        question = openai_chat.decode(data)
    elif "prompt" in raw:
        question = openai_completions.decode(data)
    elif "input" in raw:
        question = openai_embeddings.decode(data).items[0]
    else:
        message = "A request has 'messages', 'prompt' or 'input'; this has none of them."
        raise InvalidRequest(message, code="missing_field")
    return await pipeline.explain(question, DEFAULT_SCOPE)
