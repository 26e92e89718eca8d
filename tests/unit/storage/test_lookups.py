"""Keys that wait at the same time are looked up together."""

import asyncio
from collections.abc import Sequence

import pytest

from storage.entry import Encoded, Held
from storage.errors import StorageError
from storage.lookups import MOST, Lookups
from tests.suites.entries import made

HELD = Held(made("a", "x"), Encoded.of(made("a", "x")))


class Server:
    """Answers when it may; has every key that begins with an `a`."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, ...]] = []
        self.may = asyncio.Event()
        self.may.set()
        self.fault: Exception | None = None

    async def look(self, keys: Sequence[bytes]) -> Sequence[Held | None]:
        """One round trip."""
        self.asked.append(tuple(keys))
        await self.may.wait()
        if self.fault:
            raise self.fault
        return [HELD if key.startswith(b"a") else None for key in keys]


async def test_what_waits_together_is_one_round_trip() -> None:
    """Each is told its own, and a key that many want is asked for once."""
    server = Server()
    lookups = Lookups(server.look, 2)
    keys = [b"a1", b"b1", b"a1", b"a2"] * 3
    found = await asyncio.gather(*map(lookups.get, keys))
    assert found == [HELD if key.startswith(b"a") else None for key in keys]
    assert server.asked == [(b"a1", b"b1", b"a2")]


async def test_no_round_trip_is_without_bound_and_no_more_are_under_way_than_may_be() -> None:
    """What comes meanwhile is gathered, and asked when one is back."""
    server = Server()
    server.may.clear()
    lookups = Lookups(server.look, 2)
    waiting = [asyncio.ensure_future(lookups.get(b"a%d" % number)) for number in range(3 * MOST)]
    await asyncio.sleep(0.01)
    assert [len(keys) for keys in server.asked] == [MOST, MOST]
    server.may.set()
    assert all(await asyncio.gather(*waiting))
    assert len(server.asked) == 3


@pytest.mark.parametrize("fault", [StorageError("down"), RuntimeError("a mistake")])
async def test_a_fault_is_told_to_all_who_wait(fault: Exception) -> None:
    """Nobody hangs, whatever it was; and the next one is asked for again."""
    server = Server()
    lookups = Lookups(server.look, 2)
    server.fault = fault
    found = await asyncio.gather(*(lookups.get(b"a%d" % number) for number in range(3)), return_exceptions=True)
    assert found == [fault] * 3
    server.fault = None
    assert await lookups.get(b"a1") == HELD


async def test_who_cannot_take_what_was_found_takes_nobody_along(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waits for the same, or for another key of the same round trip; nor do those who come later wait."""

    def broken(found: Held | None, error: Exception | None) -> None:
        raise RuntimeError(found, error)

    server = Server()
    lookups = Lookups(server.look, 2)
    for fault in (None, StorageError("down")):
        server.fault = fault
        lookups.ask(b"a1", broken)
        found = await asyncio.gather(*map(lookups.get, (b"a1", b"a2")), return_exceptions=True)
        assert found == [fault or HELD] * 2
    assert len(caplog.records) == 2


async def test_who_leaves_takes_nobody_along() -> None:
    """The others hear what they asked for."""
    server = Server()
    server.may.clear()
    lookups = Lookups(server.look, 2)
    leaving, staying = (asyncio.ensure_future(lookups.get(b"a1")) for _ in range(2))
    await asyncio.sleep(0.01)
    leaving.cancel()
    server.may.set()
    assert await staying == HELD
    assert leaving.cancelled() or leaving.cancelling()


async def test_closing_ends_what_is_under_way() -> None:
    """Who waits is not left waiting."""
    server = Server()
    server.may.clear()
    lookups = Lookups(server.look, 2)
    waiting = asyncio.ensure_future(lookups.get(b"a1"))
    await asyncio.sleep(0.01)
    lookups.close()
    with pytest.raises(StorageError):
        await waiting
