"""Steps in, the same steps out, none of them later than the settings allow."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from typing import TypeVar

from gateway.config import ReplicaConfig
from gateway.errors import BackendTimeout
from storage.entry import Chunk

T = TypeVar("T")

_SAID = {
    "first_token_timeout": "gave no first token within {:g} s",
    "between_tokens_timeout": "said nothing more for {:g} s",
    "total_timeout": "was not done when the {:g} s for the whole answer were over",
}


async def timed(
    steps: AsyncGenerator[Chunk], name: str, settings: ReplicaConfig, started: float
) -> AsyncGenerator[Chunk]:
    """`steps` of the backend `name`, asked for a client that has waited since `started`. Raises `BackendTimeout`."""
    code, limit_s = "first_token_timeout", settings.first_token_timeout_s
    while (step := await within(anext(steps, None), name, settings, started, (code, limit_s))) is not None:
        yield step
        code, limit_s = "between_tokens_timeout", settings.between_tokens_timeout_s


async def whole(doing: Awaitable[T], name: str, settings: ReplicaConfig, started: float) -> T:
    """What `doing` gives, which comes all at once. Raises `BackendTimeout`."""
    limit = "first_token_timeout", settings.first_token_timeout_s
    return await within(doing, name, settings, started, limit)


async def within(
    doing: Awaitable[T], name: str, settings: ReplicaConfig, started: float, limit: tuple[str, float]
) -> T:
    """What `doing` gives, within its own limit and that of the whole. Raises `BackendTimeout`."""
    code, limit_s = limit
    left_s = started + settings.total_timeout_s - time.monotonic()
    timer = asyncio.timeout(min(limit_s, left_s))
    try:
        async with timer:
            return await doing
    except TimeoutError as error:
        if not timer.expired():
            raise
        if left_s < limit_s:
            code, limit_s = "total_timeout", settings.total_timeout_s
        message = f"Backend '{name}' {_SAID[code].format(limit_s)}."
        raise BackendTimeout(message, code=code) from error
