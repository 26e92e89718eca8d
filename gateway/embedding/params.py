"""Parameters of a statement, some of which are texts to embed -> the same, with vectors in their places."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from gateway.caller import Caller
from gateway.canonical import Request
from gateway.embedding.embedder import Vectors
from gateway.errors import BackendError, InvalidRequest
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.vector import unpacked

MARK: Final = "$embed"
_MOST: Final = 64


class Embed(Protocol):
    """Gives the vectors of requests for one model, kept ones where there are some."""

    async def __call__(self, requests: Sequence[Request], caller: Caller, steering: Steering, /) -> Vectors:
        """In their order."""
        ...


class _Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"text": MARK}):
    """What a client sends in the place of a vector."""

    text: str
    model: str = ""
    """Empty is the usual one."""


def are_embedded(params: Sequence[Any]) -> bool:
    """Whether any of them is a text to embed."""
    return any(_is_marked(value) for value in params)


async def embedded(
    params: Sequence[Any], embed: Embed, router: Router, caller: Caller, steering: Steering, usual: str = ""
) -> list[Any]:
    """`params`, in which each `{"$embed": text}` has become a list of numbers. A text that was embedded before is not
    embedded again. `usual` is the model for texts that name none; empty is the only one that embeds.

    Raises `InvalidRequest`, `Forbidden` for a key that may not ask models, and what `embed` raises.
    """
    texts = {place: _text(place, value) for place, value in enumerate(params) if _is_marked(value)}
    if not texts:
        return list(params)
    caller.expect("ask")
    if len(texts) > _MOST:
        message = f"A statement can have {_MOST} texts embedded at most, and this has {len(texts)}."
        raise InvalidRequest(message, param="params", code="invalid_value")
    if not usual and any(not text.model for text in texts.values()):
        usual = await _usual(router, caller)
    filled = list(params)
    for model in dict.fromkeys(text.model or usual for text in texts.values()):
        places = [place for place, text in texts.items() if (text.model or usual) == model]
        questions = [_question(model, texts[place].text) for place in places]
        vectors = await embed(questions, caller, steering)
        for place, vector in zip(places, vectors.values, strict=True):
            filled[place] = unpacked(vector)
    return filled


def _is_marked(value: Any) -> bool:
    return isinstance(value, dict) and MARK in value


def _text(place: int, value: Any) -> _Text:
    try:
        found = msgspec.convert(value, _Text)
    except msgspec.ValidationError as error:
        message = (
            f'Parameter ${place + 1} must be {{"{MARK}": "a text", "model": "a name"}}, where the model may be missing'
        )
        raise InvalidRequest(f"{message}: {error}.", param="params", code="invalid_value") from error
    if not found.text:
        message = f"Parameter ${place + 1} is an empty text, which has no embedding."
        raise InvalidRequest(message, param="params", code="invalid_value")
    return found


def _question(model: str, text: str) -> Request:
    """The same as when `/v1/embeddings` is asked for it."""
    return Request(
        kind="embedding", model=model, prompt={"input": text}, params={}, extra={}, size_bytes=len(text.encode())
    )


async def _usual(router: Router, caller: Caller) -> str:
    """The model that embeds; where there are more, the only one that does nothing else. Raises `InvalidRequest`."""
    able: dict[str, bool] = {}
    for name in router.models(caller.models):
        try:
            described = await (await router.model(name, caller.models).first()).described()
        except BackendError:  # it is away, and cannot be the one that is meant
            continue
        if "embedding" in described.capabilities:
            able[name] = "completion" not in described.capabilities
    found = [name for name, is_all in able.items() if is_all] or list(able)
    if len(found) == 1:
        return found[0]
    if found:
        message = f'Several models embed texts ({", ".join(found)}): say which, as "model" beside "{MARK}".'
    else:
        message = (
            f'No model here embeds texts, so there is no vector for "{MARK}": configure one as a backend, or send the'
            " vector itself."
        )
    raise InvalidRequest(message, param="params", code="no_embedding_model")
