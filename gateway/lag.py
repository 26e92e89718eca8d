"""How late the event loop is: what somebody does on it for long, everybody waits for."""

import asyncio
from collections.abc import Callable
from typing import Final

_EVERY_S: Final = 0.025


class Lag:
    """Looks at the loop again and again, and tells how many seconds late it was each time."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_later(_EVERY_S, self._look, self._loop.time() + _EVERY_S)

    def close(self) -> None:
        """Look no more."""
        self._next.cancel()

    def _look(self, due: float) -> None:
        now = self._loop.time()
        self._tell(max(0.0, now - due))
        self._next = self._loop.call_later(_EVERY_S, self._look, now + _EVERY_S)
