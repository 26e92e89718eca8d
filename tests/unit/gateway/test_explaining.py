"""How many requests are compared with kept ones at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.backends import scripted
from gateway.backends.scripted import Scripted
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.explaining import Explainer
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.near import Candidates
from storage.tiers import Looked


class Empty:
    """Tiers without answers."""

    async def find(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """Nothing."""
        del key, max_age_s
        return Looked()


class Slow:
    """A record that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def candidates(self, *_: Any) -> Candidates:
        """None, in time."""
        self.asked += 1
        await self.go.wait()
        return Candidates([], all_there_are=True)


@asynccontextmanager
async def explaining(near: Slow, file: Path, count: int) -> AsyncIterator[list["asyncio.Task[dict[str, Any]]"]]:
    """So many requests being explained, as far as they come."""
    backend = Scripted("m", scripted.read(file))
    explainer = Explainer(Empty(), Router.of({"m": backend}), near)
    request = Request("chat", "m", {"messages": []}, {"temperature": 0}, {})
    async with asyncio.TaskGroup() as group:
        yield [
            group.create_task(explainer.explain(request, Caller(tenant="default"), Steering())) for _ in range(count)
        ]


async def settled() -> None:
    """What can go on has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_two_are_compared_at_once_and_the_others_wait(tmp_path: Path) -> None:
    """Who is gone makes place for the next."""
    near, file = Slow(), tmp_path / "script.toml"
    await asyncio.to_thread(file.write_text, "[[line]]\n")
    async with explaining(near, file, 5) as tasks:
        await settled()
        assert near.asked == 2
        tasks[0].cancel()
        await settled()
        assert near.asked == 3
        near.go.set()
    assert near.asked == 5
    assert tasks[4].result()["why"] == "No request like it has a kept answer here."
