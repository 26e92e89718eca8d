"""Numbers <-> little-endian float32 bytes, the form embeddings are kept in."""

import array
import sys
from collections.abc import Sequence


def packed(values: Sequence[float]) -> bytes:
    """Numbers as little-endian float32s."""
    vector = array.array("f", values)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tobytes()


def unpacked(vector: bytes) -> list[float]:
    """Little-endian float32s as numbers."""
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
