"""The counters of one process, in Prometheus' terms."""

from prometheus_client import CollectorRegistry, Counter, generate_latest


class Telemetry:
    """What happened, counted."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._replies = Counter(
            "askonce_replies",
            "Replies by kind, model and where the answer came from.",
            ["kind", "model", "cache", "tier"],
            registry=self._registry,
        )
        self._errors = Counter("askonce_errors", "Error replies by code.", ["code"], registry=self._registry)
        self._faults = Counter(
            "askonce_tier_faults",
            "Tier calls that failed or took too long.",
            ["tier", "call"],
            registry=self._registry,
        )
        self._drops = Counter(
            "askonce_tier_drops",
            "Answers a tier was not given: it was down for too long, or refused them.",
            ["tier"],
            registry=self._registry,
        )

    def replied(self, kind: str, model: str, cache: str, tier: str) -> None:
        """A reply was begun."""
        self._replies.labels(kind, model, cache, tier).inc()

    def refused(self, code: str) -> None:
        """An error was sent."""
        self._errors.labels(code).inc()

    def fault(self, tier: str, call: str, fault: BaseException) -> None:
        """A tier failed."""
        del fault
        self._faults.labels(tier, call).inc()

    def dropped(self, tier: str) -> None:
        """An answer was not kept in a tier."""
        self._drops.labels(tier).inc()

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)
