"""A prompt -> its prefix blocks: equal beginnings of two prompts are equal blocks, up to where they part.

Each block's number has those before it in it, as in the engines' own prefix caches, so one number stands for all of a
prompt up to its end. It is a CRC: two prompts that share one by chance are taken for alike, which costs a little time
and nothing else, and it is quick enough to be made of every prompt.
"""

import zlib
from collections.abc import Iterator
from typing import Final

_SIZES: Final = ((8_192, 256), (65_536, 1024), (1_048_576, 4096))
"""Up to which byte blocks are how long: fine where conversations part, coarse where documents go on."""

Blocks = tuple[int, ...]


def blocks(prompt: bytes, seed: bytes) -> Blocks:
    """The whole blocks of `prompt`, its first mebibyte; the rest of it counts as one with that.

    `seed` is what must be equal before any of the prompt can be shared: the tenant, and what the model reads before it.
    A last block that is not full is left out: what follows it may be another text.
    """
    found: list[int] = []
    number, view = zlib.crc32(seed), memoryview(prompt)
    for start, end in _spans(len(prompt)):
        number = zlib.crc32(view[start:end], number)
        found.append(number)
    return tuple(found)


def end_of(count: int) -> int:
    """How many bytes the first `count` blocks are."""
    total = 0
    for limit, size in _SIZES:
        here = min(count, (limit - total) // size)
        total, count = total + here * size, count - here
        if not count:
            break
    return total


def within(length: int) -> int:
    """How many whole blocks the first `length` bytes are."""
    count = start = 0
    for limit, size in _SIZES:
        here = max(0, min(length, limit) - start) // size
        count, start = count + here, start + here * size
        if start < limit:
            break
    return count


def _spans(length: int) -> Iterator[tuple[int, int]]:
    start = 0
    for limit, size in _SIZES:
        while start + size <= min(length, limit):
            yield start, start + size
            start += size
        if start < limit:
            return
