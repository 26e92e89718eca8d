"""Replicas in; each is looked at every now and then, so that requests need not find out how it is."""

import asyncio
import contextlib
import random
from collections.abc import Collection
from typing import Final

from gateway.routing.replica import Replica

EVERY_S: Final = 2.5
AWAY_S: Final = 0.5
"""One that is away is looked for more often: it is wanted back. So is one that did not say how it is."""


class Watch:
    """Looks at replicas, each by a task of its own, none in step with others."""

    def __init__(self) -> None:
        self._watching: dict[Replica, asyncio.Task[None]] = {}

    def only(self, replicas: Collection[Replica]) -> None:
        """Watch these from now on, and no others."""
        for replica in self._watching.keys() - set(replicas):
            self._watching.pop(replica).cancel()
        for replica in set(replicas) - self._watching.keys():
            self._watching[replica] = asyncio.create_task(_watched(replica), name=f"watching {replica.name}")

    async def aclose(self) -> None:
        """Look away."""
        tasks = list(self._watching.values())
        self._watching.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watched(replica: Replica) -> None:
    while True:
        await replica.watch(EVERY_S)
        every_s = EVERY_S if replica.state == "ready" and not replica.silences else AWAY_S
        replica.lost.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_s * random.uniform(0.75, 1.25)):  # noqa: S311 -- jitter
                await replica.lost.wait()
