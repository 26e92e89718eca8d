"""What was answered arrives in its tier: late, in batches, or counted as lost."""

import asyncio
from collections.abc import Sequence

import pytest

from storage import writer as writing
from storage.entry import Entry
from storage.errors import StorageError
from storage.writer import BATCH, Writer
from tests.suites.entries import made


class Sink:
    """A tier that is up, down or stuck."""

    name = "sink"

    def __init__(self) -> None:
        self.kept: list[Entry] = []
        self.batches: list[int] = []
        self.tries = 0
        self.down = False
        self.open = asyncio.Event()
        self.open.set()

    async def put(self, items: Sequence[Entry]) -> None:
        """Keep, refuse or wait."""
        self.tries += 1
        await self.open.wait()
        if self.down:
            raise StorageError
        self.kept += items
        self.batches.append(len(items))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "RETRY_S", 0.01)


def entries(count: int) -> list[Entry]:
    """`count` different entries."""
    return [made(str(number)) for number in range(count)]


async def test_everything_arrives_in_order_and_in_batches() -> None:
    """Many at once are few round trips."""
    sink, drops = Sink(), list[str]()
    writer, items = Writer(sink, 1000, drops.append), entries(3 * BATCH + 1)
    for item in items:
        writer.put(item)
    assert await writer.flush(5)
    assert sink.kept == items
    assert sink.batches == [BATCH, BATCH, BATCH, 1]
    await writer.aclose(1)
    assert drops == []


async def test_a_tier_that_is_down_gets_everything_later() -> None:
    """In order, each once."""
    sink, drops = Sink(), list[str]()
    sink.down = True
    writer, items = Writer(sink, 1000, drops.append), entries(100)
    for item in items:
        writer.put(item)
    assert not await writer.flush(0.05)
    assert sink.tries > 1
    sink.down = False
    assert await writer.flush(5)
    assert sink.kept == items
    await writer.aclose(1)
    assert drops == []


@pytest.mark.parametrize("stuck", [False, True], ids=["down", "stuck"])
async def test_what_does_not_fit_is_counted(stuck: bool) -> None:
    """The oldest go first, and kept and lost add up to what was given."""
    sink, drops = Sink(), list[str]()
    sink.down = not stuck
    if stuck:
        sink.open.clear()
    writer, items = Writer(sink, 10, drops.append), entries(100)
    for item in items:
        writer.put(item)
        await asyncio.sleep(0)
    await asyncio.sleep(0.03)
    sink.down = False
    sink.open.set()
    assert await writer.flush(5)
    await writer.aclose(1)
    assert sink.kept[-10:] == items[-10:]
    assert len(sink.kept) + len(drops) == 100


async def test_a_batch_that_comes_back_gives_way_to_newer_ones() -> None:
    """When there is no room for all of it, its oldest are lost."""
    sink, drops = Sink(), list[str]()
    sink.open.clear()
    sink.down = True
    writer, items = Writer(sink, 4, drops.append), entries(6)
    for item in items[:4]:
        writer.put(item)
    await asyncio.sleep(0.01)
    for item in items[4:]:
        writer.put(item)
    sink.open.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sink.down = False
    assert await writer.flush(5)
    await writer.aclose(1)
    assert sink.kept == items[2:]
    assert len(drops) == 2


@pytest.mark.parametrize("stuck", [False, True], ids=["down", "stuck"])
async def test_what_is_left_at_the_end_is_counted(stuck: bool) -> None:
    """Also the batch that was on its way."""
    sink, drops = Sink(), list[str]()
    sink.down = not stuck
    if stuck:
        sink.open.clear()
    writer = Writer(sink, 1000, drops.append)
    for item in entries(BATCH + 5):
        writer.put(item)
    await writer.aclose(0.05)
    assert sink.kept == []
    assert drops == ["sink"] * (BATCH + 5)


async def test_closing_keeps_what_is_waiting() -> None:
    """A stop loses nothing while the tier is up."""
    sink = Sink()
    writer, items = Writer(sink, 1000, lambda _: None), entries(200)
    for item in items:
        writer.put(item)
    await writer.aclose(5)
    assert sink.kept == items


async def test_nothing_to_write_is_flushed_at_once() -> None:
    """And closed at once."""
    writer = Writer(Sink(), 10, lambda _: None)
    assert await writer.flush(0.01)
    await writer.aclose(0.01)
