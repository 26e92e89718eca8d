"""A tier that fails or hangs costs its deadline once, and then nothing for a while."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from storage.breaker import Breaker
from storage.entry import Encoded, Entry, Held
from storage.errors import RefusedError, StorageError, TooSlowError
from storage.guard import GuardedTier
from tests.suites.entries import made

ITEM = made("a", "x")
KEY = ITEM.query.key
ENCODED = [Encoded.of(ITEM)]
HELD = Held(ITEM, ENCODED[0])


class Tier:
    """A tier that does what `doing` does."""

    name = "tier"

    def __init__(self, doing: Any) -> None:
        self.doing = doing
        self.calls = 0

    async def get(self, keys: Sequence[bytes]) -> list[Held | None]:
        """One call."""
        self.calls += 1
        return [Held(await self.doing(), ENCODED[0]) for _ in keys]

    async def put(self, items: Sequence[Encoded]) -> None:
        """One call."""
        del items
        self.calls += 1
        await self.doing()

    async def ping(self) -> None:
        """One call."""
        self.calls += 1
        await self.doing()

    async def aclose(self) -> None:
        """Nothing."""


async def fine() -> Entry:
    """Answer."""
    return ITEM


async def broken() -> Entry:
    """Fail."""
    raise OSError("no")


async def hanging() -> Entry:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def stubborn() -> Entry:
    """Hang, and hang again while being cancelled."""
    try:
        await asyncio.sleep(30)
    finally:
        await asyncio.sleep(0.5)
    raise AssertionError


@pytest.mark.parametrize("doing", [broken, hanging, stubborn])
async def test_a_fault_costs_one_deadline_once(doing: Any) -> None:
    """It is counted once for reads and once for writes; a read gives nothing, a write raises."""
    faults: list[tuple[str, str]] = []
    tier = Tier(doing)
    guarded = GuardedTier(tier, 0.1, lambda name, call, _: faults.append((name, call)), lambda: Breaker(60, 60))
    started = time.monotonic()
    for _ in range(100):
        assert await guarded.get(KEY) is None
        with pytest.raises(StorageError):
            await guarded.put(ENCODED)
        with pytest.raises(StorageError):
            await guarded.ping()
    assert time.monotonic() - started < 5
    assert tier.calls == 2
    assert faults == [("tier", "get"), ("tier", "put")]
    await guarded.aclose()
    await asyncio.sleep(0.6 if doing is stubborn else 0)


class ReadOnly(Tier):
    """A tier that is read, and does with writes what `doing` does."""

    async def get(self, keys: Sequence[bytes]) -> list[Held | None]:
        """The entry."""
        return [HELD for _ in keys]

    async def ping(self) -> None:
        """All is well, as far as a ping can tell."""


@pytest.mark.parametrize("doing", [broken, hanging])
async def test_a_tier_that_takes_no_writes_is_still_read(doing: Any) -> None:
    """A full disk, a standby, a Redis without room: what they have is given. How they are is told."""
    tier = ReadOnly(doing)
    guarded = GuardedTier(tier, 0.05, lambda *_: None, lambda: Breaker(60, 60))
    for _ in range(20):
        with pytest.raises(StorageError):
            await guarded.put(ENCODED)
        assert await guarded.get(KEY) == HELD
    assert tier.calls == 1
    with pytest.raises(StorageError, match=r"is read, but takes no writes \((OSError: no|TimeoutError: no answer)"):
        await guarded.ping()


async def test_writes_are_tried_again_while_reads_go_on() -> None:
    """After growing pauses; the first that succeeds makes the tier whole."""
    now = [100.0]
    tier = ReadOnly(broken)
    guarded = GuardedTier(tier, 0.1, lambda *_: None, lambda: Breaker(1, 30, lambda: now[0]))
    for pause in (1, 2, 4):
        with pytest.raises(StorageError):
            await guarded.put(ENCODED)
        now[0] += pause - 0.1
        with pytest.raises(StorageError, match="left alone"):
            await guarded.put(ENCODED)
        now[0] += 0.1
    tier.doing = fine
    await guarded.put(ENCODED)
    await guarded.ping()
    assert tier.calls == 4


async def test_a_read_that_fails_does_not_stop_writes() -> None:
    """Each way is judged by its own calls."""
    tier = Tier(broken)
    guarded = GuardedTier(tier, 0.1, lambda *_: None)
    assert await guarded.get(KEY) is None
    tier.doing = fine
    await guarded.put(ENCODED)


async def test_refused_entries_are_no_fault_of_the_tier() -> None:
    """They are counted, and the next ones are written at once."""
    faults: list[str] = []

    async def refusing() -> None:
        raise RefusedError("not this one")

    tier = Tier(refusing)
    guarded = GuardedTier(tier, 0.1, lambda _, call, __: faults.append(call))
    for _ in range(3):
        with pytest.raises(RefusedError, match="not this one"):
            await guarded.put(ENCODED)
    assert faults == ["put"] * 3
    tier.doing = fine
    await guarded.put(ENCODED)
    await guarded.ping()


async def test_what_took_too_long_is_named() -> None:
    """For the writer, which then tries with fewer."""
    with pytest.raises(TooSlowError, match="no answer in"):
        await GuardedTier(Tier(hanging), 0.01, lambda *_: None).put(ENCODED)


async def test_many_at_once_cost_one_deadline_each_and_one_wait() -> None:
    """Those that were under way when it stopped wait no longer than the deadline, all at the same time."""
    now = [100.0]
    tier = Tier(hanging)
    guarded = GuardedTier(tier, 0.1, lambda *_: None, lambda: Breaker(1, 30, lambda: now[0]))
    started = time.monotonic()
    assert await asyncio.gather(*(guarded.get(KEY) for _ in range(50))) == [None] * 50
    assert time.monotonic() - started < 3
    tier.doing = fine
    now[0] += 1
    assert await guarded.get(KEY) == HELD
    await guarded.aclose()


async def test_a_pause_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """However many requests meet it, and one more when the next trial fails too."""
    now = [100.0]
    guarded = GuardedTier(Tier(broken), 0.1, lambda *_: None, lambda: Breaker(1, 30, lambda: now[0]))
    for lines in (1, 2, 3):
        await asyncio.gather(*(guarded.get(KEY) for _ in range(50)))
        assert [await guarded.get(KEY) for _ in range(50)] == [None] * 50
        assert len(caplog.records) == lines
        now[0] += 30


async def test_it_is_tried_again() -> None:
    """And used again once it works."""
    now = [100.0]
    tier = Tier(broken)
    guarded = GuardedTier(tier, 0.1, lambda *_: None, lambda: Breaker(1, 30, lambda: now[0]))
    assert await guarded.get(KEY) is None
    tier.doing = fine
    assert await guarded.get(KEY) is None
    now[0] += 1
    assert await guarded.get(KEY) == HELD
    assert await guarded.get(KEY) == HELD


async def test_a_request_that_is_cancelled_is_cancelled_at_once() -> None:
    """That is no fault of the tier's."""
    faults: list[str] = []
    guarded = GuardedTier(Tier(hanging), 30, lambda name, *_: faults.append(name))
    task = asyncio.create_task(guarded.get(KEY))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert faults == []
    await guarded.aclose()


async def test_closing_ends_calls_that_hang() -> None:
    """As a failure of the tier, not as a cancelled request."""
    guarded = GuardedTier(Tier(hanging), 30, lambda *_: None)
    task = asyncio.create_task(guarded.get(KEY))
    await asyncio.sleep(0.01)
    await guarded.aclose()
    assert await task is None
