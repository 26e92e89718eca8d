"""What a request brings -> what a handler works with: its body, without holding up everybody else, its query, and keys
and names in it.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from litestar import Request

from gateway.errors import InvalidRequest, UnknownModel
from gateway.routing.router import Router
from storage.collections import Page

LARGE_BYTES = 2**18
"""From here on decoding takes more than a few milliseconds, and is done in a thread."""

MAX_LISTED: Final = 100
_TOLD: Final = 80
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


async def decoded(request: Request[Any, Any, Any], decode: Callable[[bytes], T]) -> T:
    """The body of `request`, decoded. Raises what `decode` raises."""
    data = await request.body()
    return await asyncio.to_thread(decode, data) if len(data) > LARGE_BYTES else decode(data)


def hexadecimal(text: str, param: str) -> str:
    """A sha256 in lower case. Raises `InvalidRequest`, which names `param`."""
    if _SHA256.fullmatch(text.lower()) is None:
        message = f"'{param}' must be 64 hexadecimal digits, as in the header x-askonce-key."
        raise InvalidRequest(message, param=param, code="invalid_value")
    return text.lower()


def query(request: Request[Any, Any, Any], known: Collection[str], many: Collection[str] = ()) -> dict[str, str]:
    """What stands behind the question mark. Raises `InvalidRequest` for a name that is not `known` or occurs twice, but
    is not one of `many`, and for a value that is empty or holds NUL, which no name here can.
    """
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        said = name.encode("unicode_escape").decode()[:_TOLD]
        if name not in known:
            message = f"'{said}' is not known here; these are: {', '.join(f'?{one}=…' for one in known)}."
            raise InvalidRequest(message, param=said, code="invalid_value")
        twice = name in found and name not in many
        if twice or not value or "\x00" in value:
            what = "is there twice" if twice else "holds NUL" if value else "is empty"
            message = f"'{name}' {what}."
            raise InvalidRequest(message, param=name, code="invalid_value")
        found[name] = value
    return found


def served_name(router: Router, name: str) -> str:
    """The name that answers of this model are kept under; one that is no longer served is taken as it is."""
    try:
        return router.model(name).name
    except UnknownModel:
        return name


def most(params: Mapping[str, str]) -> int:
    """How many are to be listed. Raises `InvalidRequest`."""
    text = params.get("limit", "20")
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= MAX_LISTED):
        message = f"'limit' must be a whole number from 1 to {MAX_LISTED}."
        raise InvalidRequest(message, param="limit", code="invalid_value")
    return int(text)


def listing(found: Sequence[T], limit: int, told: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """A page of a list, of which one more than `limit` was looked for."""
    data = [told(one) for one in found[:limit]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, **ends, "has_more": len(found) > limit}


def paged(params: Mapping[str, str]) -> Page:
    """Which part of a list is wanted, as OpenAI's clients say it. Raises `InvalidRequest`."""
    if (order := params.get("order", "desc")) not in ("asc", "desc"):
        message = "'order' must be 'asc' or 'desc'."
        raise InvalidRequest(message, param="order", code="invalid_value")
    return Page(most(params), params.get("after"), order == "asc")


def ordinal(params: Mapping[str, str]) -> int:
    """The number after which those begin that are to be listed; -1 for all. Raises `InvalidRequest`."""
    if (text := params.get("after")) is None:
        return -1
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        message = "'after' must be a whole number, as in 'last_id'."
        raise InvalidRequest(message, param="after", code="invalid_value")
    return int(text)


def before(params: Mapping[str, str]) -> float | str | None:
    """The moment before which those were begun that are to be listed, or the id of the one that they come after. Raises
    `InvalidRequest`.
    """
    if (text := params.get("before")) is None:
        return params.get("after")
    if "after" in params:
        message = "Give 'after' or 'before', not both."
        raise InvalidRequest(message, param="after", code="invalid_value")
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        message = "'before' must be a moment, as in 2026-11-30T12:00:00Z."
        raise InvalidRequest(message, param="before", code="invalid_value") from error
