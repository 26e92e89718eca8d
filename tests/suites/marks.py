"""Invalidations for tests of something else."""

from typing import Any

from storage.invalidations import Invalidations


def nothing_invalidated() -> Invalidations:
    """A list that was read, and was empty."""
    unused: Any = None
    marks = Invalidations(unused)
    marks.known = True
    return marks
