"""A request's body -> what a dialect makes of it, without holding up everybody else."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from litestar import Request

LARGE_BYTES = 2**18
"""From here on decoding takes more than a few milliseconds, and is done in a thread."""

T = TypeVar("T")


async def decoded(request: Request[Any, Any, Any], decode: Callable[[bytes], T]) -> T:
    """The body of `request`, decoded. Raises what `decode` raises."""
    data = await request.body()
    return await asyncio.to_thread(decode, data) if len(data) > LARGE_BYTES else decode(data)
