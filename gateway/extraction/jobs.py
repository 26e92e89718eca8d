"""Runs that go on without their clients, in this process."""

import asyncio
import logging
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from gateway.errors import Overloaded
from gateway.extraction.session import Session

_LOG = logging.getLogger("askonce")

_MOST_EACH: Final = 32
"""Of one tenant's."""
_MOST: Final = 64
"""At the same time: each has several questions under way, and backends have lines of their own."""


class Jobs:
    """Goes on with runs, and ends them when the process does: what is done by then is kept, and can be resumed."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], Session] = {}
        self._coming = Counter[str]()

    @contextmanager
    def room(self, tenant: str) -> Generator[None]:
        """A place for one that is about to be started. Raises `Overloaded` when there are too many already, of this
        tenant's or of all.
        """
        own = self._coming[tenant] + sum(session.run.tenant == tenant for session in self._tasks.values())
        for count, most in ((own, _MOST_EACH), (self._coming.total() + len(self._tasks), _MOST)):
            if count >= most:
                message = f"There are {count} extractions in the background already; ask again when some have ended."
                raise Overloaded(message, retry_after_s=5.0)
        self._coming[tenant] += 1
        try:
            yield
        finally:
            self._coming[tenant] -= 1

    def start(self, session: Session) -> None:
        """Go on with `session` until it ends."""
        task = asyncio.create_task(_through(session))
        self._tasks[task] = session
        task.add_done_callback(lambda task: self._tasks.pop(task, None))

    async def aclose(self) -> None:
        """End them all, for now."""
        tasks = list(self._tasks)
        for task in tasks:
            self._tasks[task].interrupt()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _through(session: Session) -> None:
    try:
        async for _ in session.go():
            pass
    except Exception:  # noqa: BLE001 -- nobody waits for it: its rows say that it did not end, and the log why
        _LOG.exception("The extraction %s ended by a fault of askonce", session.run.id)
