"""What was answered arrives in its tier: late, in batches, or counted as lost."""

import asyncio
from collections.abc import Sequence

import pytest

from storage import writer as writing
from storage.entry import Encoded
from storage.errors import RefusedError, StorageError, TooSlowError
from storage.writer import BATCH, Writer
from tests.suites.entries import made


class Sink:
    """A tier that is up, down or stuck."""

    name = "sink"

    def __init__(self) -> None:
        self.kept: list[Encoded] = []
        self.batches: list[int] = []
        self.tries = 0
        self.down = False
        self.open = asyncio.Event()
        self.open.set()

    async def put(self, items: Sequence[Encoded]) -> None:
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


def entries(count: int) -> list[Encoded]:
    """`count` different entries of one size."""
    return [Encoded.of(made(f"{number:03}")) for number in range(count)]


def room(count: int) -> int:
    """Space for so many of them."""
    return count * entries(1)[0].size


async def test_everything_arrives_in_order_and_in_batches() -> None:
    """Many at once are few round trips."""
    sink, drops = Sink(), list[str]()
    writer, items = Writer(sink, room(1000), drops.append), entries(3 * BATCH + 1)
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
    writer, items = Writer(sink, room(1000), drops.append), entries(100)
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
    writer, items = Writer(sink, room(10), drops.append), entries(100)
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
    writer, items = Writer(sink, room(4), drops.append), entries(6)
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
    writer = Writer(sink, room(1000), drops.append)
    for item in entries(BATCH + 5):
        writer.put(item)
    await writer.aclose(0.05)
    assert sink.kept == []
    assert drops == ["sink"] * (BATCH + 5)


async def test_closing_keeps_what_is_waiting() -> None:
    """A stop loses nothing while the tier is up."""
    sink = Sink()
    writer, items = Writer(sink, room(1000), lambda _: None), entries(200)
    for item in items:
        writer.put(item)
    await writer.aclose(5)
    assert sink.kept == items


async def test_nothing_to_write_is_flushed_at_once() -> None:
    """And closed at once."""
    writer = Writer(Sink(), room(10), lambda _: None)
    assert await writer.flush(0.01)
    await writer.aclose(0.01)


class Picky(Sink):
    """A tier that refuses some entries for ever, and is too slow for more than `most` bytes at once."""

    def __init__(self, *refused: Encoded, most: int = 2**40) -> None:
        super().__init__()
        self.refused = refused
        self.most = most
        self.alone: list[Encoded] = []

    async def put(self, items: Sequence[Encoded]) -> None:
        """Keep, or say why not."""
        self.tries += 1
        if len(items) == 1:
            self.alone += items
        if any(item in self.refused for item in items):
            raise RefusedError("never")
        if sum(item.size for item in items) > self.most:
            raise TooSlowError
        self.kept += items
        self.batches.append(len(items))


@pytest.mark.parametrize("places", [[0], [63], [100, 101], [5, 70, 130]], ids=str)
async def test_a_refused_entry_costs_itself(places: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """It is found by halving, tried a few times more when the others are kept, and dropped and counted."""
    items, drops = entries(140), list[str]()
    sink = Picky(*(items[place] for place in places))
    writer = Writer(sink, room(1000), drops.append)
    for item in items:
        writer.put(item)
    assert await writer.flush(20)
    assert sink.kept == [item for item in items if item not in sink.refused]
    assert drops == ["sink"] * len(places)
    for item in sink.refused:
        assert sink.alone.count(item) == writing.TRIES
        assert f"The sink tier refuses the answer {item.key.hex()}: never" in caplog.text
    await writer.aclose(1)
    assert len(drops) == len(places)


async def test_a_refused_entry_may_be_taken_later(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal that passes costs nothing."""
    items, drops = entries(3), list[str]()
    sink = Picky(items[1])
    writer = Writer(sink, room(10), drops.append)
    for item in items:
        writer.put(item)
    while items[1] not in sink.alone:  # noqa: ASYNC110 -- the sink tells nobody
        await asyncio.sleep(0)
    sink.refused = ()
    assert await writer.flush(5)
    assert sink.kept == [items[0], items[2], items[1]]
    await writer.aclose(1)
    assert (drops, caplog.text) == ([], "")


async def test_large_entries_make_small_batches() -> None:
    """So that each gets through within its deadline; one that is larger than any batch goes alone."""
    large = [Encoded.of(made(str(number), "x" * (writing.BATCH_BYTES // 3))) for number in range(7)]
    huge = Encoded.of(made("huge", "x" * 2 * writing.BATCH_BYTES))
    sink = Sink()
    writer = Writer(sink, 2**30, lambda _: None)
    for item in (*large[:4], huge, *large[4:]):
        writer.put(item)
    assert await writer.flush(20)
    assert sink.batches == [2, 2, 1, 2, 1]
    assert sink.kept == [*large[:4], huge, *large[4:]]
    await writer.aclose(1)


async def test_a_batch_that_is_too_slow_is_halved() -> None:
    """Until it gets through; then it grows again, little by little: each that is too slow costs a long wait."""
    items = entries(130)
    sink, drops = Picky(most=room(20)), list[str]()
    writer = Writer(sink, room(1000), drops.append)
    for item in items:
        writer.put(item)
    assert await writer.flush(20)
    assert (sink.kept, drops) == (items, [])
    assert sink.tries - len(sink.batches) <= 5
    sink.most, sink.batches = room(1000), []
    for item in entries(900):
        writer.put(item)
    assert await writer.flush(20)
    assert max(sink.batches) == BATCH
    await writer.aclose(1)


async def test_an_entry_that_is_always_too_slow_holds_up_no_other() -> None:
    """It is not given up while there is room for it."""
    slow, items, drops = Encoded.of(made("slow", "x" * 1000)), entries(5), list[str]()
    sink = Picky(most=room(2))
    writer = Writer(sink, 2**20, drops.append)
    for item in (slow, *items):
        writer.put(item)
    while len(sink.kept) < 5 or sink.alone.count(slow) <= writing.TRIES:  # noqa: ASYNC110 -- the sink tells nobody
        await asyncio.sleep(0)
    assert (sink.kept, drops) == (items, [])
    sink.most = 2**20
    assert await writer.flush(5)
    assert sink.kept == [*items, slow]
    await writer.aclose(1)


async def test_the_queue_is_bounded_in_bytes() -> None:
    """A few large entries take the place of many small ones; the oldest go, those that were set aside before all."""
    sink, drops = Sink(), list[str]()
    sink.down = True
    writer, items = Writer(sink, room(10), drops.append), entries(10)
    for item in items:
        writer.put(item)
    large = Encoded.of(made("large", "x" * (room(4) - room(1) - 100)))
    assert room(3) < large.size < room(4)
    writer.put(large)
    assert drops == ["sink"] * 4
    writer.put(Encoded.of(made("huge", "x" * room(10))))
    assert drops == ["sink"] * 5
    sink.down = False
    assert await writer.flush(5)
    assert sink.kept == [*items[4:], large]
    await writer.aclose(1)


async def test_what_was_set_aside_gives_way_first() -> None:
    """It is the oldest there is."""
    items, drops = entries(4), list[str]()
    sink = Picky(items[0])
    writer = Writer(sink, room(3), drops.append)
    writer.put(items[0])
    while items[0] not in sink.alone:  # noqa: ASYNC110 -- the sink tells nobody
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    for item in items[1:]:
        writer.put(item)
    assert drops == ["sink"]
    assert await writer.flush(5)
    assert sink.kept == items[1:]
    await writer.aclose(1)
    assert drops == ["sink"]
