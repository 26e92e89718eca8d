"""A recorded question (`Query`) -> the `Request` it was made from, and whether its key is still its own. Pure."""

import json
from typing import Any, Final

import msgspec

from gateway import key, policy
from gateway.canonical import Identity, Request, Try
from gateway.errors import DamagedRecord, RequestError
from storage.entry import Kind, Query

OTHERS: Final = 5
"""How many other tokens are looked at beside each that was said: what every engine gives."""


_LARGEST: Final = 2**53 - 1
"""The largest integer that a canonical number can have been made of."""


def request(query: Query) -> Request:
    """What was asked, to be asked again. Raises `DamagedRecord`."""
    known, extra, rest = _params(query.params)
    own = known.pop("defaults", None) == key.DEFAULTS_OF_MODEL
    prompt = _object(query.prompt)
    return Request(
        kind=query.kind,
        model=query.model,
        prompt=prompt,
        params=known,
        extra=extra,
        size_bytes=len(query.prompt) + len(query.params),
        unsaid=frozenset({"max_tokens"} - known.keys()) if own else None,
        context=_context(rest.get("context")),
        extraction=_try(rest.get("extraction")),
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


def _params(text: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Known and unknown ones, and what else is in the key. Raises `DamagedRecord`."""
    match _object(text):
        case {"known": dict(known), "extra": dict(extra), **rest}:
            if isinstance(seed := known.get("seed"), str):
                known["seed"] = _seed(seed)
            return known, extra, rest
        case _:
            raise DamagedRecord


def _try(said: Any) -> Try | None:
    try:
        return msgspec.convert(said, Try | None)
    except msgspec.ValidationError as error:
        raise DamagedRecord from error


def _context(said: Any) -> tuple[bytes, ...]:
    """The keys of what was retrieved."""
    try:
        return tuple(bytes.fromhex(key) for key in msgspec.convert(said or [], list[str]))
    except ValueError as error:
        raise DamagedRecord from error


def _seed(digits: str) -> int:
    """A seed is a string in the key, for canonical numbers are doubles."""
    try:
        return int(digits)
    except ValueError as error:
        raise DamagedRecord from error


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord from error
    if not isinstance(value, dict):
        raise DamagedRecord
    return value


def _number(digits: str) -> int | float:
    """A whole number. One larger than any integer can be here was a float: 1e20 is written with all its digits."""
    return float(digits) if abs(number := int(digits)) > _LARGEST else number
