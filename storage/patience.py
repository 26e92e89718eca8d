"""A future and a deadline in; whether it was done in time out, whatever this process was busy with meanwhile."""

import asyncio
from functools import partial
from typing import Any

_TURNS = 10


async def done_within(future: "asyncio.Future[Any]", deadline_s: float) -> bool:
    """Wait for `future`; False after `deadline_s`. The future goes on.

    The deadline is in parts, each of which the event loop has to come round for: while it is busy with other requests a
    reply may lie there unread, and that is not the lateness of the server that sent it.
    """
    loop = future.get_loop()
    for _ in range(_TURNS):
        # What `asyncio.wait` does for one future, which is all there is to do here: every round trip comes by.
        waiter = loop.create_future()
        wake = partial(_wake, waiter)
        future.add_done_callback(wake)
        timer = loop.call_later(deadline_s / _TURNS, wake)
        try:
            await waiter
        finally:
            timer.cancel()
            future.remove_done_callback(wake)
        if future.done():
            return True
    return False


def _wake(waiter: "asyncio.Future[None]", _: object = None) -> None:
    if not waiter.done():
        waiter.set_result(None)
