"""A recorded question (`Query`) -> the `Request` it was made from, and whether its key is still its own. Pure."""

from typing import Any, Final

import msgspec

from gateway import key, policy
from gateway.canonical import Identity, Request
from gateway.errors import DamagedRecord, RequestError
from storage.entry import Kind, Query

OTHERS: Final = 5
"""How many other tokens are looked at beside each that was said: what every engine gives."""


class _Params(msgspec.Struct):
    known: dict[str, Any]
    extra: dict[str, Any]


def request(query: Query) -> Request:
    """What was asked, to be asked again: cold, since how warm the engine was then cannot be had again.

    Raises `DamagedRecord`.
    """
    known, extra = _params(query.params)
    try:
        prompt = msgspec.json.decode(query.prompt, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise DamagedRecord from error
    return Request(
        kind=query.kind,
        model=query.model,
        prompt=prompt,
        params=known,
        extra=extra,
        size_bytes=len(query.prompt) + len(query.params),
        cold=True,
    )


def identity(query: Query) -> Identity:
    """Who answered."""
    return Identity(query.engine, query.engine_version, query.model_version)


def is_own_key(query: Query) -> bool:
    """Whether the key is that of what the record says was asked: nobody has changed a word of it since."""
    try:
        return key.query(request(query), query.scope, identity(query)).key == query.key
    except RequestError:  # a word that no key can be made of
        return False


def is_repeatable(kind: Kind, params: str) -> bool:
    """Whether asking again with the recorded `params` can give the same answer: not where it was drawn by lot."""
    try:
        return kind == "embedding" or not policy.is_sampled(_params(params)[0])
    except DamagedRecord:
        return False


def with_likelihoods(request: Request) -> Request:
    """The same question, with the likelihoods of the tokens said and of some others asked for too."""
    if request.params.get("logprobs") not in (None, False):
        return request
    wanted = {"logprobs": True, "top_logprobs": OTHERS} if request.kind == "chat" else {"logprobs": OTHERS}
    return msgspec.structs.replace(request, params=request.params | wanted)


def _params(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Known and unknown ones. Raises `DamagedRecord`."""
    try:
        recorded = msgspec.json.decode(text, type=_Params)
        if isinstance(seed := recorded.known.get("seed"), str):  # canonical numbers are doubles
            recorded.known["seed"] = int(seed)
    except ValueError as error:  # msgspec's are such errors too
        raise DamagedRecord from error
    return recorded.known, recorded.extra
