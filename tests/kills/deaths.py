"""Who was killed when, and what that explains."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

_LATE_S = 10.0
"""How long after its return a model's death may still be news to a gateway on a busy machine."""


class Death(msgspec.Struct):
    """One SIGKILL. `over` is when its victim, or a successor, worked again."""

    kind: str
    whom: str
    at: float
    streams: int
    """How many answers were on their way."""
    over: float = float("inf")


class Deaths:
    """Every kill of a run."""

    def __init__(self) -> None:
        self.all: list[Death] = []

    @contextmanager
    def of(self, kind: str, whom: str, streams: int) -> Iterator[None]:
        """Killed in this block, and alive again at its end."""
        death = Death(kind, whom, time.monotonic(), streams)
        self.all.append(death)
        yield
        death.over = time.monotonic()

    def gateway_died(self, name: str, began: float, ended: float) -> bool:
        """Whether the gateway `name` was dead at some time from `began` to `ended`."""
        return any(
            death.whom == name and death.kind in {"gateway", "worker"} and death.at <= ended and death.over >= began
            for death in self.all
        )

    def model_died(self, name: str, began: float, ended: float) -> bool:
        """Whether the model `name` was dead from `began` to `ended`, or shortly before."""
        return any(
            death.kind == "model" and death.whom == name and death.at <= ended and death.over + _LATE_S >= began
            for death in self.all
        )
