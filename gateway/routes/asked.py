"""The body of a request to any endpoint -> the one question it asks."""

from collections.abc import Callable
from typing import Any, Final

from gateway.canonical import Request
from gateway.errors import InvalidRequest
from gateway.wire import body, ollama, openai_chat, openai_completions, openai_embeddings
from gateway.wire.openai_responses import asked as responses

DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "/v1/chat/completions": openai_chat.decode,
    "/v1/completions": openai_completions.decode,
    "/v1/responses": responses.decode,
    "/v1/embeddings": lambda data: openai_embeddings.decode(data).items,
    "/api/chat": ollama.decode_chat,
    "/api/generate": ollama.decode_generate,
    "/api/embed": ollama.decode_embed,
    "/api/embeddings": ollama.decode_embeddings,
}
"""What is asked at which path."""

_FIELDS: Final = {"messages": "/v1/chat/completions", "prompt": "/v1/completions", "input": "/v1/embeddings"}


def decoder(path: str | None) -> Callable[[bytes], Request | responses.Asked]:
    """What makes a question of a body sent to `path`; without one, to that of OpenAI's which the body fits. What a
    response follows has still to be looked up.

    Raises `InvalidRequest`, and so does what is returned.
    """
    if path is not None and path not in DECODERS:
        message = f"'path' must be one of: {', '.join(DECODERS)}."
        raise InvalidRequest(message, param="path", code="invalid_value")
    return lambda data: _one(DECODERS[path or _guessed(data)](data))


def _guessed(data: bytes) -> str:
    raw = body.decode(data)
    if path := next((path for field, path in _FIELDS.items() if field in raw), None):
        return path
    message = "A request has 'messages', 'prompt' or 'input'; this has none of them."
    raise InvalidRequest(message, code="missing_field")


def _one(asked: Any) -> Request | responses.Asked:
    if isinstance(asked, ollama.Load):
        message = "This asks the model nothing: it is Ollama's way to load or unload it."
        raise InvalidRequest(message, code="missing_field")
    if isinstance(asked, Request | responses.Asked):
        return asked
    if len(asked) == 1:
        return asked[0]
    message = "Each input has a key of its own; explain one at a time."
    raise InvalidRequest(message, param="input", code="invalid_value")
