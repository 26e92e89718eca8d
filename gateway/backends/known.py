"""Who answers, remembered: asked of the server at first, then again every so often behind the requests' backs."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.canonical import Identity
from gateway.errors import BackendError

MAX_AGE_S = 30.0


class KnownIdentity:
    """The answer of `ask`, at most `max_age_s` and one request old. A server that is down keeps its last identity."""

    def __init__(
        self, ask: Callable[[], Awaitable[Identity]], *, given: Identity | None = None, max_age_s: float = MAX_AGE_S
    ) -> None:
        self._ask = ask
        self._known = given
        self._fixed = given is not None
        self._max_age_s = max_age_s
        self._asked_at = 0.0
        self._asking: asyncio.Task[Identity] | None = None

    async def get(self) -> Identity:
        """The identity. Raises `BackendError` while it has never been learnt."""
        if self._known is None:
            return await asyncio.shield(self._refreshing())
        if not self._fixed and time.monotonic() - self._asked_at > self._max_age_s:
            self._refreshing()
        return self._known

    async def renew(self) -> Identity:
        """The identity, asked for now; one that was given is not asked for. Raises `BackendError`."""
        if self._known is not None and self._fixed:
            return self._known
        self._known = await self._ask()
        self._asked_at = time.monotonic()
        return self._known

    async def aclose(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def _refreshing(self) -> asyncio.Task[Identity]:
        if self._asking is None or self._asking.done():
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._refresh())
            self._asking.add_done_callback(_seen)
        return self._asking

    async def _refresh(self) -> Identity:
        self._known = await self._ask()
        return self._known


def _seen(task: asyncio.Task[Identity]) -> None:
    """A refresh that fails is no news: the last identity stays."""
    if not task.cancelled() and (fault := task.exception()) and not isinstance(fault, BackendError):
        raise fault
