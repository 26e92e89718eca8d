"""A circuit breaker: after a failure, leave the other side alone for a while, longer each time."""

import time
from collections.abc import Callable


class Breaker:
    """Opens at the first failure; when its time is over, lets one trial through."""

    def __init__(
        self, first_s: float = 1.0, longest_s: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._clock = clock
        self._wait_s = first_s
        self._opens_at = 0.0
        self._on_trial = False

    @property
    def left_s(self) -> float:
        """How long it stays open; 0 when the next call would be admitted."""
        return max(0.0, self._opens_at - self._clock())

    @property
    def is_tripped(self) -> bool:
        """Whether it has opened, and no call has succeeded since."""
        return bool(self._opens_at)

    def admits(self) -> bool:
        """Whether to try now. A trial after a failure keeps others out until it is decided."""
        now = self._clock()
        if now < self._opens_at:
            return False
        if self._opens_at:
            self._opens_at = now + self._wait_s
            self._on_trial = True
        return True

    def failed(self) -> bool:
        """A call failed; whether that opened the breaker. Those that were under way together are one failure."""
        now = self._clock()
        if now < self._opens_at and not self._on_trial:
            return False
        self._on_trial = False
        self._opens_at = now + self._wait_s
        self._wait_s = min(2 * self._wait_s, self._longest_s)
        return True

    def succeeded(self) -> None:
        """A call succeeded."""
        self._on_trial = False
        self._opens_at = 0.0
        self._wait_s = self._first_s
