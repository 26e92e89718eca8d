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
