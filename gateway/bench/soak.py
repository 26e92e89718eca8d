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
from gateway.bench.processes import BenchError, LoadGenerator
from gateway.bench.rivals import Rival

DRIFT_MAX: Final = 0.05
_SLICE_S: Final = 5.0
_BROKEN: Final = 100_000
"""More than a slice asks: what one that ended with an error has asked is not known."""
_BROKEN_MOST: Final = 20
_BROKEN_SHARE: Final = 0.05
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
    """Hits and misses, whole and streamed, in turn for so long. Raises `BenchError` when too many slices fail."""
    salt, number, requests, broken = secrets.token_hex(4), 0, 0, 0
    weights: list[tuple[float, float]] = []
    started, slice_s = time.monotonic(), min(_SLICE_S, seconds / 20)
    while (passed := time.monotonic() - started) < seconds:
        for _, new, stream in _KINDS:
            job = Job(
                address=ours.address,
                path=ours.path,
                headers=ours.headers,
                body=_question(salt, new=new, stream=stream),
                seconds=slice_s,
                concurrency=16,
                first_number=number,
            )
            try:
                result = generator.measure(job)
            except BenchError as error:  # an hour is not to be lost for it, and it is told in the end
                progress(f"soak: {error}")
                number += _BROKEN
                if (broken := broken + 1) > _BROKEN_MOST:
                    raise
                continue
            number += result.requests + job.concurrency
            requests += result.requests
        weights.append((passed, processes.resident_bytes(ours.pid) / 1e6))
        progress(f"soak: {passed:.0f} of {seconds:.0f} s, {requests} requests, {weights[-1][1]:.1f} MB")
    if broken > _BROKEN_SHARE * len(weights) * len(_KINDS):
        message = f"{broken} slices of {slice_s:g} s ended with an error: what was left is no mixed load."
        raise BenchError(message)
    begin, end = _ends(weights, seconds)
    kinds = ", ".join(name for name, *_ in _KINDS)
    note = (
        f"the worker's resident set at the end ({end:.1f} MB) against that after a quarter of {seconds:.0f} s"
        f" ({begin:.1f} MB), as a fraction; {requests} requests: {kinds}; 16 at once"
        + (f"; {broken} slices of {slice_s:g} s ended with an error" if broken else "")
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
