"""One at a time, with a look at everything else between: what takes a millisecond is not done fifty times in a row.

Chunks whose answers are kept, or come together, wait for nothing; without turns the event loop would do them all before
it looked at anybody else's request.
"""

import asyncio


class Turns:
    """Shared by all runs of a process."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for one: whoever else is ready comes first, and one more of these each time."""
        async with self._lock:
            await asyncio.sleep(0)
