"""Replicas in; each is looked at every now and then, so that requests need not find out how it is."""

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import Final

from gateway.routing.replica import Replica
from gateway.routing.sentinel import attended

EVERY_S: Final = 5.0
AWAY_S: Final = 0.5
"""One that is away is looked for more often: it is wanted back."""
RENEW_S: Final = 10.0
"""How often they are asked who they are, though nothing says that they have changed."""


class Watch:
    """Looks at replicas, each by tasks of its own, none in step with others."""

    def __init__(self) -> None:
        self._watching: dict[Replica, list[asyncio.Task[None]]] = {}

    def only(self, replicas: Mapping[Replica, str]) -> None:
        """Watch these from now on, and no others. Each comes with the address of its server, where it may be replaced
        by another one and has connections to spare.
        """
        for replica in self._watching.keys() - replicas.keys():
            for task in self._watching.pop(replica):
                task.cancel()
        for replica in replicas.keys() - self._watching.keys():
            looks = [_watched(replica), *([attended(replica, url)] if (url := replicas[replica]) else [])]
            self._watching[replica] = [asyncio.create_task(look, name=f"watching {replica.name}") for look in looks]

    async def aclose(self) -> None:
        """Look away."""
        tasks = [task for watching in self._watching.values() for task in watching]
        self._watching.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watched(replica: Replica) -> None:
    while True:
        await replica.watch(EVERY_S, RENEW_S)
        every_s = EVERY_S if replica.state == "ready" else AWAY_S
        replica.lost.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_s * random.uniform(0.75, 1.25)):  # noqa: S311 -- jitter
                await replica.lost.wait()
