"""Who answers, remembered; and asked for again before it is relied on, once there is reason to doubt it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from gateway.canonical import Identity
from gateway.errors import BackendError, BackendTimeout

PATIENCE_S: Final = 1.0
"""How long requests wait for a server that does not say who it is."""
_LONGEST_S: Final = 300.0
"""After that it is asked again: large weights may have had to be read to name them, or the question was lost."""


class Ages(msgspec.Struct, frozen=True):
    """How old an identity may be, in seconds, where nothing tells that it may have changed."""

    refreshed_s: float = 0.5
    """From then on it is asked for again behind the requests' backs."""
    max_s: float = 1.0
    """From then on requests wait for it."""


class KnownIdentity:
    """The answer of `ask`, believed until it is too old or there is a sign that the server may be another one.

    `signs` counts such signs: connections that were refused or broke. A server that cannot be asked keeps its last
    identity, so that kept answers are given while it is down; but nothing new is kept under it.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Identity]],
        *,
        given: Identity | None = None,
        signs: Callable[[], int] = lambda: 0,
        ages: Ages | None = None,
    ) -> None:
        self._ask = ask
        self._given = given
        self._known = given
        self._signs = signs
        self._ages = ages or Ages()
        self._doubts = 0
        self._settled = -1
        """How many doubts and signs there had been when the last answer was asked for."""
        self._learnt_at = 0.0
        self._asked_at = 0.0
        self._asking: asyncio.Task[Identity] | None = None

    @property
    def known(self) -> Identity | None:
        """What was learnt last; None before that, and while it is made out who has come instead."""
        return self._known

    def doubted(self) -> bool:
        """Whether there was a sign, since the last answer was asked for, that the server may be another one."""
        return self._given is None and self._settled != self._number()

    def certain(self) -> bool:
        """Whether what is known can be relied on now. What is about to be too old is asked for again meanwhile."""
        if self._given is not None:
            return True
        age_s = time.monotonic() - self._learnt_at
        if self._known is None or age_s > self._ages.max_s or self.doubted():
            return False
        if age_s > self._ages.refreshed_s:
            self._refreshing()
        return True

    async def get(self) -> Identity:
        """The identity. Raises `BackendError` while it has never been learnt."""
        if self._known is not None and self.certain():
            return self._known
        if self._known is not None:
            await self._asked_since(self._number(), time.monotonic() - self._ages.max_s)
        # Either never known, or forgotten a moment ago.
        return self._known or await asyncio.shield(self._refreshing())

    async def renew(self) -> Identity:
        """The identity, asked for now. Raises `BackendError`."""
        if self._given is not None:
            return self._given
        self.doubt()
        number, found = self._number(), self._known
        while self._settled < number or found is None:
            found = await asyncio.shield(self._refreshing())
        return found

    async def confirms(self, identity: Identity) -> bool:
        """Whether who answered until now was `identity`: asked again if there was any doubt since it was learnt."""
        if self._given is not None:
            return True
        return await self._asked_since(self._number(), 0.0) and self._known == identity

    def doubt(self) -> None:
        """The server may have become another one: ask before what is known is relied on again."""
        self._doubts += 1

    def check(self) -> None:
        """The same, and ask at once, while the answer is still on its way."""
        self.doubt()
        if self._given is None:
            self._refreshing()

    def forget(self) -> None:
        """What is known is known to be wrong: nobody is told it while its successor is made out."""
        self._known = self._given

    async def aclose(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def _number(self) -> int:
        return self._doubts + self._signs()

    async def _asked_since(self, number: int, learnt_at: float) -> bool:
        """Ask until an answer is as young as that; whether it worked. Who comes late to a silent server waits less."""
        while self._settled < number or self._learnt_at < learnt_at:
            task = self._refreshing()
            left_s = self._asked_at + PATIENCE_S - time.monotonic()
            await asyncio.wait({task}, timeout=max(0.0, left_s))
            if not task.done() or task.cancelled() or task.exception():
                return False
        return True

    def _refreshing(self) -> asyncio.Task[Identity]:
        if self._asking is None or self._asking.done():
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._refresh())
            self._asking.add_done_callback(_seen)
        return self._asking

    async def _refresh(self) -> Identity:
        number, asked_at = self._number(), time.monotonic()
        try:
            async with asyncio.timeout(_LONGEST_S):
                known = self._known = await self._ask()
        except TimeoutError as error:
            raise BackendTimeout(f"The backend did not say within {_LONGEST_S:g} s who it is.") from error
        self._settled, self._learnt_at = number, asked_at
        return known


def _seen(task: asyncio.Task[Identity]) -> None:
    """A refresh that fails is no news: the last identity stays."""
    if not task.cancelled() and (fault := task.exception()) and not isinstance(fault, BackendError):
        raise fault
