"""An hour of everything at once in; whether the worker's memory stays what it was, out."""

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from gateway.bench import load, peers, processes
from gateway.bench.figures import Figure, Maker
from gateway.bench.load import Job
from gateway.bench.processes import LoadGenerator
from gateway.bench.rivals import Rival

DRIFT_MAX: Final = 0.05
_SLICE_S: Final = 5.0
_WARM: Final = 0.25
"""Of the time: until then caches fill up to their bounds."""
_KINDS: Final = (
    ("hits", False, False),
    ("misses", True, False),
    ("streamed hits", False, True),
    ("streams", True, True),
)


def measured(
    ours: Rival, generator: LoadGenerator, made: Maker, seconds: float, progress: Callable[[str], None]
) -> Iterator[Figure]:
    """Hits and misses, whole and streamed, in turn for so long. Raises `BenchError`."""
    salt, number, requests = secrets.token_hex(4), 0, 0
    weights: list[tuple[float, float]] = []
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        for _, new, stream in _KINDS:
            job = Job(
                address=ours.address,
                path=ours.path,
                headers=ours.headers,
                body=_question(salt, new=new, stream=stream),
                seconds=min(_SLICE_S, seconds / 20),
                concurrency=16,
                first_number=number,
            )
            result = generator.measure(job)
            number += result.requests + job.concurrency
            requests += result.requests
        weights.append((passed, processes.resident_bytes(ours.pid) / 1e6))
        progress(f"soak: {passed:.0f} of {seconds:.0f} s, {requests} requests, {weights[-1][1]:.1f} MB")
    begin, end = _ends(weights, seconds)
    kinds = ", ".join(name for name, *_ in _KINDS)
    note = (
        f"the worker's resident set at the end ({end:.1f} MB) against that after a quarter of {seconds:.0f} s"
        f" ({begin:.1f} MB), as a fraction; {requests} requests: {kinds}; 16 at once"
    )
    yield made.figure("soak_rss_drift", end / begin - 1, "", note=note, bar=DRIFT_MAX)


def _ends(weights: list[tuple[float, float]], seconds: float) -> tuple[float, float]:
    """The medians of a tenth of the time: after the warm-up, and at the end."""
    span = seconds / 10
    begin = [mb for at, mb in weights if _WARM * seconds <= at <= _WARM * seconds + span]
    end = [mb for at, mb in weights if at >= seconds - span]
    return statistics.median(begin or [weights[0][1]]), statistics.median(end or [weights[-1][1]])


def _question(salt: str, *, new: bool, stream: bool) -> str:
    number = load.NUMBER if new else "once"
    words: list[dict[str, Any]] = [{"role": "user", "content": f"Soak {salt}-{number}: what stays the same?"}]
    asked: dict[str, Any] = {"model": peers.MODEL, "messages": words, "temperature": 0, "stream": stream}
    return msgspec.json.encode(asked).decode()
