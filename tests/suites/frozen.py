"""Servers that neither work nor fail."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def frozen(process: int) -> Iterator[None]:
    """A process, and its children, that do not run: their sockets still take bytes, and nobody answers."""
    group = [process, *_children(process)]
    _tell(group, signal.SIGSTOP)
    try:
        yield
    finally:
        _tell(group, signal.SIGCONT)


def _tell(group: Iterable[int], what: signal.Signals) -> None:
    for pid in group:
        with contextlib.suppress(ProcessLookupError):  # a child that was just ending
            os.kill(pid, what)


def _children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
