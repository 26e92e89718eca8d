"""A prompt -> its prefix blocks: equal beginnings of two prompts are equal blocks, up to where they part.

Each block's number has those before it in it, as in the engines' own prefix caches, so one number stands for all of a
prompt up to its end. It is a CRC: two prompts that share one by chance are taken for alike, which costs a little time
and nothing else, and it is quick enough to be made of every prompt.
"""

import zlib
from bisect import bisect_right
from itertools import accumulate
from typing import Final

_SIZES: Final = (512,) * 16 + (2_048,) * 28 + (8_192,) * 120
"""How long blocks are: fine where conversations part, coarse where documents go on; a mebibyte in all."""
_ENDS: Final = tuple(accumulate(_SIZES))

Blocks = tuple[int, ...]


def blocks(prompt: bytes, seed: bytes) -> Blocks:
    """The whole blocks of `prompt`, its first mebibyte; the rest of it counts as one with that.

    `seed` is what must be equal before any of the prompt can be shared: the tenant, and what the model reads before it.
    A last block that is not full is left out: what follows it may be another text.
    """
    found: list[int] = []
    number, start = zlib.crc32(seed), 0
    for end in _ENDS[: within(len(prompt))]:
        number = zlib.crc32(prompt[start:end], number)
        found.append(number)
        start = end
    return tuple(found)


def end_of(count: int) -> int:
    """How many bytes the first `count` blocks are."""
    return _ENDS[min(count, len(_ENDS)) - 1] if count else 0


def within(length: int) -> int:
    """How many whole blocks the first `length` bytes are."""
    return bisect_right(_ENDS, length)
