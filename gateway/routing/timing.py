"""What a backend gives in, the same out, never later than the settings allow."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from gateway.config import ReplicaConfig
from gateway.errors import BackendTimeout

T = TypeVar("T")

_SAID = {
    "first_token_timeout": "gave no first token within {:g} s",
    "between_tokens_timeout": "said nothing more for {:g} s",
    "total_timeout": "was not done when the {:g} s for the whole answer were over",
}


class Patience:
    """How long one call may take. Like `asyncio.timeout`, with one timer for all waits: most calls have many."""

    def __init__(self, name: str, settings: ReplicaConfig, started: float) -> None:
        self._name = name
        self._settings = settings
        self._ends_at = started + settings.total_timeout_s
        self._code, self._limit_s = "first_token_timeout", settings.first_token_timeout_s
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._task: asyncio.Task[object] | None = None
        self._expired = False
        self._cancelling = 0
        """How often the task was to be cancelled already when its time was over."""

    def waits(self) -> None:
        """From now on the task that calls this waits for what comes next."""
        self._task = asyncio.current_task()
        now = time.monotonic()
        due = self._due = min(now + self._limit_s, self._ends_at)
        if self._timer is None:
            # Not later than the next wait may need it: setting it once more costs more than one that rings in vain.
            self._ring_at(min(due, now + self._settings.between_tokens_timeout_s), now)
        elif self._rings_at > due:
            self._ring_at(due, now)

    def heard(self) -> None:
        """It has come. What comes after the first has another limit."""
        self._task = None
        if self._code == "first_token_timeout":
            self._code, self._limit_s = "between_tokens_timeout", self._settings.between_tokens_timeout_s

    def judged(self) -> BackendTimeout | None:
        """The error, if the wait was cancelled because it took too long, and not by anybody else."""
        task, self._task = self._task, None
        return self._error() if self._expired and task and task.uncancel() <= self._cancelling else None

    async def done(self, doing: Awaitable[T]) -> T:
        """What `doing` gives. Raises `BackendTimeout`."""
        self.waits()
        try:
            given = await doing
        except asyncio.CancelledError as error:
            if (fault := self.judged()) is not None:
                raise fault from error
            raise
        self.heard()
        return given

    def close(self) -> None:
        """There is nothing more to wait for."""
        self._task = None
        if self._timer is not None:
            self._timer.cancel()

    def _ring_at(self, due: float, now: float) -> None:
        """A timer that rings too early is set again then; only one that would ring too late is before."""
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = due
        self._timer = self._loop.call_later(max(0.0, due - now), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:
            return
        now = time.monotonic()
        if self._due > now:
            self._ring_at(self._due, now)
        else:
            self._expired = True
            self._cancelling = self._task.cancelling()
            self._task.cancel()

    def _error(self) -> BackendTimeout:
        code, limit_s = self._code, self._limit_s
        if self._due >= self._ends_at:
            code, limit_s = "total_timeout", self._settings.total_timeout_s
        return BackendTimeout(f"Backend '{self._name}' {_SAID[code].format(limit_s)}.", code=code)
