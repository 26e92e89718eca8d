"""The router in, what Prometheus wants to know of its replicas out: as many series as there are replicas."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.routing.pool import Pool
from gateway.routing.replica import Replica

_LABELS = ("model", "backend", "kind")


class Figures(Collector):
    """Read from the pools when they are asked for, so that what is gone from the settings is gone from here too."""

    def __init__(self, pools: Callable[[], Iterable[Pool]]) -> None:
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """Each metric."""
        yield self._gauge("up", "Whether a replica may be asked.", lambda one: one.state == "ready" and not one.unsure)
        yield self._gauge("outstanding", "Calls that a replica is answering.", lambda one: one.outstanding)
        yield self._gauge("breaker_open", "Whether a replica is left alone.", lambda one: one.breaker.is_tripped)
        calls = CounterMetricFamily("askonce_backend_calls", "Calls by how they ended.", labels=[*_LABELS, "outcome"])
        waiting = GaugeMetricFamily("askonce_queue_length", "Requests that wait for a replica.", labels=["model"])
        fallbacks = CounterMetricFamily(
            "askonce_fallbacks", "Answers that another kind or model had to give.", labels=["model"]
        )
        for pool in self._pools():
            waiting.add_metric([pool.name], len(pool.admission))
            fallbacks.add_metric([pool.name], pool.fallbacks)
            for replica in pool.replicas:
                for outcome, count in replica.calls.items():
                    calls.add_metric([pool.name, replica.name, replica.kind, outcome], count)
        yield from (calls, waiting, fallbacks)

    def _gauge(self, name: str, said: str, value: Callable[[Replica], float]) -> Metric:
        family = GaugeMetricFamily(f"askonce_backend_{name}", said, labels=_LABELS)
        for pool in self._pools():
            for replica in pool.replicas:
                family.add_metric([pool.name, replica.name, replica.kind], float(value(replica)))
        return family
