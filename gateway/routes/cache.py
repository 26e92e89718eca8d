"""`/v1/cache/explain`: why a request hits or misses."""

from typing import Any

from litestar import Request, post
from litestar.di import NamedDependency

from gateway.caller import Caller
from gateway.canonical import Request as Question
from gateway.errors import InvalidRequest
from gateway.routes.parts import Parts
from gateway.routes.reading import decoded
from gateway.wire import body, openai_chat, openai_completions, openai_embeddings


@post("/v1/cache/explain", summary="Explain a request's key", status_code=200, opt={"scope": "cache"})
async def explain(request: Request[Any, Caller, Any], parts: NamedDependency[Parts]) -> dict[str, Any]:
    """The body is any request; the reply is its canonical form, every part of its key, and which tier would answer."""
    return await parts.pipeline.explain(await decoded(request, _question), request.auth)


def _question(data: bytes) -> Question:
    raw = body.decode(data)
    if "messages" in raw:
        return openai_chat.decode(data)
    if "prompt" in raw:
        return openai_completions.decode(data)
    if "input" in raw:
        items = openai_embeddings.decode(data).items
        if len(items) == 1:
            return items[0]
        message = "Each input has a key of its own; explain one at a time."
        raise InvalidRequest(message, param="input", code="invalid_value")
    message = "A request has 'messages', 'prompt' or 'input'; this has none of them."
    raise InvalidRequest(message, code="missing_field")
