"""Where in a document something stands, as people say it. Pure."""

from bisect import bisect_right
from collections.abc import Sequence


def page(pages: Sequence[int], at: int) -> int | None:
    """The page, from 1 on, that has this code point; None where there are no pages."""
    return max(1, bisect_right(pages, at)) if pages else None
