"""200 requests in flight on three replicas, one of which is killed and comes back: who fails, and how soon all is well.

`python -m tests.fleet.bar` prints the figures.
"""

import asyncio
import time

import msgspec

from tests.fleet.crowd import Crowd, Told
from tests.fleet.site import Replica, Site, running

IN_FLIGHT = 200
SLOTS = 12
STEADY_S = 5.0


class Figures(msgspec.Struct):
    """What came of it."""

    in_flight: int
    """When the replica was killed."""
    streaming: int
    """Of these, to clients who had heard a part of an answer from the replica that was killed."""
    failed: list[Told]
    answered: int
    before_per_s: float
    without_per_s: float
    """While it was away."""
    after_per_s: float
    full_again_s: float
    """From the moment it listened again until it had as much to do as before."""


def site_of() -> tuple[list[Replica], dict[str, object]]:
    """Replicas that take about a second, most of it streaming, and do so many at once; and their settings."""
    replicas = [Replica(name, slots=SLOTS, first_s=0.2, step_s=0.04) for name in "abc"]
    return replicas, {"max_concurrency": SLOTS}


async def measured(site: Site) -> Figures:
    """Do it once."""
    victim = site.replicas[0]
    stop = asyncio.Event()
    async with Crowd(site.served.url, 100_000) as crowd:
        clients = [asyncio.create_task(crowd.until_stopped(stop, first)) for first in range(IN_FLIGHT)]
        await asyncio.sleep(STEADY_S)
        before = await _per_s(crowd)
        streaming: list[Told] = []
        while not streaming:
            streaming = [told for told in _asking(crowd) if told.stream and told.backend == victim.name]
            await asyncio.sleep(0.01)
        asking = _asking(crowd)
        victim.kill()
        killed_at = time.monotonic()
        without = await _per_s(crowd)
        await asyncio.to_thread(victim.start)
        back_at = time.monotonic()
        while await asyncio.to_thread(lambda: victim.calls) < SLOTS:
            pass
        full_again_s = time.monotonic() - back_at
        after = await _per_s(crowd)
        stop.set()
        await asyncio.gather(*clients)
    failed = [told for told in crowd.told if told.outcome != "whole"]
    assert all(told.began <= killed_at for told in failed), failed
    return Figures(
        in_flight=len(asking),
        streaming=len(streaming),
        failed=failed,
        answered=sum(told.outcome == "whole" for told in crowd.told),
        before_per_s=before,
        without_per_s=without,
        after_per_s=after,
        full_again_s=full_again_s,
    )


def _asking(crowd: Crowd) -> list[Told]:
    return [told for told in crowd.told if told.outcome == "asking"]


async def _per_s(crowd: Crowd) -> float:
    """Answers a second, for a while."""
    had, began = sum(told.outcome == "whole" for told in crowd.told), time.monotonic()
    await asyncio.sleep(STEADY_S)
    return (sum(told.outcome == "whole" for told in crowd.told) - had) / (time.monotonic() - began)


def told(figures: Figures) -> str:
    """The figures, for people."""
    others = sum(not (one.stream and one.backend == "a") for one in figures.failed)
    return "\n".join(
        (
            f"in flight when one of three replicas was killed   {figures.in_flight}",
            f"of these, already streaming from it               {figures.streaming}",
            f"failed                                            {len(figures.failed)}, of them others: {others}",
            f"answered whole                                    {figures.answered}",
            f"answers a second: before, without it, after       {figures.before_per_s:.0f}, "
            f"{figures.without_per_s:.0f}, {figures.after_per_s:.0f}",
            f"from listening again to as busy as before         {figures.full_again_s:.2f} s",
        )
    )


def main() -> None:
    """Measure and print."""
    replicas, settings = site_of()
    with running(*replicas, **settings) as site:
        print(told(asyncio.run(measured(site))))


if __name__ == "__main__":
    main()
