"""A future and a deadline in; whether it was done in time out, whatever this process was busy with meanwhile."""

import asyncio
from typing import Any

_TURNS = 10


async def done_within(future: "asyncio.Future[Any]", deadline_s: float) -> bool:
    """Wait for `future`; False after `deadline_s`. The future goes on.

    The deadline is in parts, each of which the event loop has to come round for: while it is busy with other requests a
    reply may lie there unread, and that is not the lateness of the server that sent it.
    """
    for _ in range(_TURNS):
        await asyncio.wait({future}, timeout=deadline_s / _TURNS)
        if future.done():
            return True
    return False
