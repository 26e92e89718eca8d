"""Servers that neither work nor fail."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable, Iterator
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


@contextlib.asynccontextmanager
async def slowed(process: int) -> AsyncIterator[asyncio.Event]:
    """A process that runs for some milliseconds now and then, so that its readers keep up, until the event stops it."""
    group = [process, *_children(process)]
    stopped = asyncio.Event()
    pulse = asyncio.create_task(_pulse(group, stopped))
    try:
        yield stopped
    finally:
        stopped.set()
        try:
            await pulse
        finally:
            _tell(group, signal.SIGCONT)


async def _pulse(group: Iterable[int], stopped: asyncio.Event) -> None:
    while not stopped.is_set():
        _tell(group, signal.SIGCONT)
        time.sleep(0.004)  # noqa: ASYNC251 -- a loop that is late would let it run for longer
        _tell(group, signal.SIGSTOP)
        await asyncio.sleep(0.03)


def _tell(group: Iterable[int], what: signal.Signals) -> None:
    for pid in group:
        with contextlib.suppress(ProcessLookupError):  # a child that was just ending
            os.kill(pid, what)


def _children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
