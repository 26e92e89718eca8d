"""Servers that neither work nor fail."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def frozen(process: int) -> Iterator[None]:
    """A process, and its children, that do not run: their sockets still take bytes, and nobody answers."""
    group = [process, *_children(process)]
    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in group:
            os.kill(pid, signal.SIGCONT)


def _children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
