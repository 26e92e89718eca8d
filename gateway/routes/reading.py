"""What a request brings -> what a handler works with: its body, without holding up everybody else, and its keys."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from litestar import Request

from gateway.errors import InvalidRequest

LARGE_BYTES = 2**18
"""From here on decoding takes more than a few milliseconds, and is done in a thread."""

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
