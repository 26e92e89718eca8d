"""Numbers <-> little-endian float32 bytes, the form embeddings are kept in."""

import array
import math
import sys
from collections.abc import Sequence


def packed(values: Sequence[float]) -> bytes:
    """Numbers as little-endian float32s. Raises `ValueError` for a number that has no such form: NaN, 1e300."""
    vector = array.array("f", values)
    # Float32s cannot overflow a sum of doubles, so it is finite exactly when all of them are.
    if not math.isfinite(sum(vector)):
        raise ValueError("a value is no finite number of 32 bits")
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tobytes()


def unpacked(vector: bytes) -> list[float]:
    """Little-endian float32s as numbers."""
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def direction(vector: bytes) -> str:
    """As pgvector reads it, and of length 1: what is compared is the direction, and no number is too large then."""
    values = unpacked(vector)
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return f"[{','.join(format(value / length, '.6g') for value in values)}]"


def cosine(one: bytes, other: bytes) -> float | None:
    """How near two vectors are; None where they are of different models, or have no direction."""
    left, right = unpacked(one), unpacked(other)
    lengths = math.sqrt(sum(value * value for value in left) * sum(value * value for value in right))
    if len(left) != len(right) or not lengths:
        return None
    return sum(a * b for a, b in zip(left, right, strict=True)) / lengths
