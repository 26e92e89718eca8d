"""Two embeddings -> the same, or how far apart. Pure."""

import math
from collections.abc import Sequence

import msgspec

from gateway.proof.comparison import parted
from storage.vector import unpacked


class Distance(msgspec.Struct, frozen=True, kw_only=True):
    """How far apart two embeddings are."""

    dimension: int
    """The first that differs, from 0."""
    then: float | None
    """The number in it; None when this embedding is shorter."""
    now: float | None
    dimensions: tuple[int, int]
    """Of each, then and now."""
    max_difference: float | None
    """The largest of all dimensions; None when their numbers differ."""
    cosine: float | None


def compare(then: bytes, now: bytes) -> Distance | None:
    """The distance between two embeddings as they are kept, or None when every bit is the same."""
    if then == now:
        return None
    a, b = unpacked(then), unpacked(now)
    dimension = parted(a, b)
    if dimension is None:  # 0.0 and -0.0 are equal numbers and other bits
        dimension = next(i for i in range(len(a)) if then[4 * i : 4 * i + 4] != now[4 * i : 4 * i + 4])
    return Distance(
        dimension=dimension,
        then=a[dimension] if dimension < len(a) else None,
        now=b[dimension] if dimension < len(b) else None,
        dimensions=(len(a), len(b)),
        max_difference=max(abs(x - y) for x, y in zip(a, b, strict=True)) if len(a) == len(b) else None,
        cosine=_cosine(a, b) if len(a) == len(b) else None,
    )


def _cosine(a: Sequence[float], b: Sequence[float]) -> float | None:
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else None
