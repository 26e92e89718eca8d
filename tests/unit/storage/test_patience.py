"""Deadlines that count a server's lateness, and not this process's own."""

import asyncio
import time

import pytest

from storage.patience import done_within


async def test_what_is_done_in_time_is_done() -> None:
    """Also what was done before."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, future.set_result, 1)
    assert await done_within(future, 5)
    assert await done_within(future, 0)


async def test_what_is_late_goes_on() -> None:
    """It is neither cancelled nor waited for."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    assert not await done_within(future, 0.01)
    assert not future.done()


async def test_a_loop_that_was_busy_reads_the_reply_first() -> None:
    """A reply that came in time counts, although it takes several turns to read and the deadline has passed."""

    async def reply() -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    task = asyncio.create_task(reply())
    asyncio.get_running_loop().call_soon(time.sleep, 0.2)
    assert await done_within(task, 0.1)


async def test_a_fault_is_an_answer() -> None:
    """And is left to the caller."""

    async def fail() -> None:
        raise ValueError("broken")

    task = asyncio.create_task(fail())
    assert await done_within(task, 5)
    with pytest.raises(ValueError, match="broken"):
        await task
