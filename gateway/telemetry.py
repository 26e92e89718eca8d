"""The counters of one process, in Prometheus' terms."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector


def _of_extractions(registry: CollectorRegistry) -> tuple[Counter, Counter]:
    """Of passes over chunks, and of records."""
    return (
        Counter(
            "askonce_extraction_chunks",
            "Passes over chunks by tenant, status of what the model said, and where that came from.",
            ["tenant", "status", "cache"],
            registry=registry,
        ),
        Counter(
            "askonce_extraction_records",
            "Extracted records by tenant and whether their words are in the text: verbatim, aligned or unaligned.",
            ["tenant", "place"],
            registry=registry,
        ),
    )


def _of_vectors(registry: CollectorRegistry) -> tuple[Counter, Counter]:
    """Of those that there are, and of those that there will not be."""
    return (
        Counter(
            "askonce_embedded",
            "Prompts, chunks of documents and records that were given a vector in the background.",
            ["kind"],
            registry=registry,
        ),
        Counter(
            "askonce_unembedded",
            "What is given no vector: the embedding model takes no part of it.",
            registry=registry,
        ),
    )


def _of_meaning(registry: CollectorRegistry) -> Counter:
    return Counter(
        "askonce_semantic",
        "Questions that were looked for by their meaning, by tenant, model and outcome: served; refused, by the guard"
        " or the judge; none, nothing near enough; unfit to be embedded; late; failed; compared, written down beside an"
        " answer; dropped, not even that.",
        ["tenant", "model", "outcome"],
        registry=registry,
    )


def _nothing() -> None:
    pass


class Telemetry:
    """What happened, counted."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._replies = Counter(
            "askonce_replies",
            "Replies by tenant, kind, model and where the answer came from.",
            ["tenant", "kind", "model", "cache", "tier"],
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
        self._verifications = Counter(
            "askonce_verifications",
            "Kept answers that were asked again, by tenant, model and what came of it.",
            ["tenant", "model", "outcome"],
            registry=self._registry,
        )
        self._passes, self._records = _of_extractions(self._registry)
        self._lag = Histogram(
            "askonce_loop_lag_seconds",
            "How late this process's event loop is, looked at forty times a second.",
            buckets=(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0),
            registry=self._registry,
        )
        self._uncounted = Counter(
            "askonce_uncounted",
            "Requests that usage or hits do not have: the database was away for too long, or did not say what it did.",
            ["of"],
            registry=self._registry,
        )
        self._removed = Counter(
            "askonce_record_removed",
            "Rows that were taken from the record: expired by a policy, or evicted to keep it within its bound.",
            ["why"],
            registry=self._registry,
        )
        self._embedded, self._unembedded = _of_vectors(self._registry)
        self._semantic = _of_meaning(self._registry)
        self._record_bytes = Gauge(
            "askonce_record_bytes",
            "What the answers in the record take on disk, as this process last estimated it.",
            registry=self._registry,
        )

        self.settle: Callable[[], None] = _nothing
        """Called before anything is shown: what was counted elsewhere comes here then."""

    def watch(self, figures: Collector) -> None:
        """Show these too."""
        self._registry.register(figures)

    def replied(self, tenant: str, kind: str, model: str, cache: str, tier: str, replies: int = 1) -> None:
        """A reply was begun, or several."""
        self._replies.labels(tenant, kind, model, cache, tier).inc(replies)

    def verified(self, tenant: str, model: str, outcome: str) -> None:
        """A kept answer was asked again."""
        self._verifications.labels(tenant, model, outcome).inc()

    def extracted(self, tenant: str, status: str, cache: str) -> None:
        """A pass over a chunk of a text has ended."""
        self._passes.labels(tenant, status, cache).inc()

    def grounded(self, tenant: str, place: str, records: int) -> None:
        """So many records were found, of which this is known."""
        self._records.labels(tenant, place).inc(records)

    def late(self, seconds: float) -> None:
        """The event loop was so late."""
        self._lag.observe(seconds)

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

    def uncounted(self, of: str, count: int) -> None:
        """So many requests are missing from `usage` or `hits`."""
        self._uncounted.labels(of).inc(count)

    def removed(self, why: str, rows: int) -> None:
        """So many rows of the record are gone."""
        self._removed.labels(why).inc(rows)

    def embedded(self, kind: str, count: int) -> None:
        """So many prompts, chunks or records have a vector now."""
        self._embedded.labels(kind).inc(count)

    def unembedded(self, count: int) -> None:
        """So many will have none."""
        self._unembedded.inc(count)

    def semantic(self, tenant: str, model: str, outcome: str) -> None:
        """A question was looked for by its meaning."""
        self._semantic.labels(tenant, model, outcome).inc()

    def record_bytes(self, size: int) -> None:
        """How large the record is."""
        self._record_bytes.set(size)

    def exposition(self, tenant: str | None = None) -> bytes:
        """Everything, or what is one tenant's, in Prometheus' text format."""
        self.settle()
        if tenant is None:
            return generate_latest(self._registry)
        return generate_latest(_Own(self._registry, tenant))


class _Own:
    """A registry's samples that belong to one tenant."""

    def __init__(self, registry: CollectorRegistry, tenant: str) -> None:
        self._registry = registry
        self._tenant = tenant

    def collect(self) -> Iterator[Metric]:
        """Each metric that has such samples."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.labels.get("tenant") == self._tenant]
            if metric.samples:
                yield metric
