"""Who answers is remembered, doubted, and asked for again before it counts."""

import asyncio
import math
import time

import pytest

from gateway.backends import known
from gateway.backends.known import Ages, KnownIdentity
from gateway.backends.tether import Tether
from gateway.canonical import Identity
from gateway.errors import BackendError
from tests.engines.child import free_port

FOR_EVER = Ages(math.inf, math.inf)


class Server:
    """Says who it is: `now`, or nothing while it is away, and only when it may."""

    def __init__(self) -> None:
        self.now: str | None = "1"
        self.asked = 0
        self.signs = 0
        self.may_say = asyncio.Event()
        self.may_say.set()

    async def ask(self) -> Identity:
        """Its identity as it was when it was asked. Raises `BackendError`."""
        self.asked += 1
        now = self.now
        await self.may_say.wait()
        if now is None:
            raise BackendError("away")
        return Identity("e", "", now)

    def known(self, ages: Ages = FOR_EVER) -> KnownIdentity:
        """What is known of it."""
        return KnownIdentity(self.ask, signs=lambda: self.signs, ages=ages)


@pytest.fixture
def server() -> Server:
    """One."""
    return Server()


async def test_it_is_asked_once_for_all_who_want_to_know(server: Server) -> None:
    """At the same time, and later."""
    one = server.known()
    assert {identity.model_version for identity in await asyncio.gather(*(one.get() for _ in range(9)))} == {"1"}
    await one.get()
    assert server.asked == 1


async def test_what_is_said_in_the_settings_is_never_asked() -> None:
    """Whatever happens."""
    server = Server()
    one = KnownIdentity(server.ask, given=Identity("e", "", "w"), signs=lambda: server.signs)
    server.signs += 1
    one.check()
    one.forget()
    assert await one.get() == await one.renew() == Identity("e", "", "w")
    assert await one.confirms(Identity("e", "", "w"))
    assert server.asked == 0


@pytest.mark.parametrize("way", ["a sign", "a doubt"])
async def test_a_doubt_is_settled_before_it_is_relied_on(server: Server, way: str) -> None:
    """The very next one who wants to know is told the new identity."""
    one = server.known()
    first = await one.get()
    server.now = "2"
    if way == "a sign":
        server.signs += 1
    else:
        one.doubt()
    assert (await one.get()).model_version == "2"
    assert not await one.confirms(first)
    assert await one.confirms(Identity("e", "", "2"))
    assert server.asked == 2


async def test_an_answer_from_before_the_doubt_settles_nothing(server: Server) -> None:
    """A question that was on its way when the doubt came may have been answered by the one before."""
    one = server.known()
    first = await one.get()
    server.may_say.clear()
    one.check()
    await asyncio.sleep(0)
    assert server.asked == 2
    server.now = "2"
    one.doubt()
    confirming = asyncio.create_task(one.confirms(first))
    await asyncio.sleep(0)
    server.may_say.set()
    assert not await confirming
    assert server.asked == 3


async def test_a_server_that_is_away_keeps_its_name_and_confirms_nothing(server: Server) -> None:
    """Kept answers are given meanwhile; `renew` says that it is away; back, it is asked at once."""
    one = server.known()
    first = await one.get()
    server.now = None
    server.signs += 1
    assert await one.get() == first
    assert not await one.confirms(first)
    with pytest.raises(BackendError):
        await one.renew()
    server.now = "2"
    assert (await one.get()).model_version == "2"


async def test_a_silent_server_costs_one_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody waits for it any more, until it has said something."""
    monkeypatch.setattr(known, "PATIENCE_S", 0.2)
    one = server.known()
    first = await one.get()
    server.may_say.clear()
    one.doubt()
    started = time.monotonic()
    assert await one.get() == first
    assert time.monotonic() - started >= 0.2
    for _ in range(1000):
        assert await one.get() == first
    assert server.asked == 2
    assert not await one.confirms(first)
    server.may_say.set()
    await asyncio.sleep(0)
    assert await one.confirms(first)
    await one.aclose()


async def test_what_is_known_to_be_wrong_is_told_to_nobody(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its successor takes to be made out."""
    monkeypatch.setattr(known, "PATIENCE_S", 0.05)
    one = server.known()
    await one.get()
    server.now = "2"
    server.may_say.clear()
    one.doubt()
    waiting = asyncio.create_task(one.get())
    await asyncio.sleep(0)
    one.forget()
    await asyncio.sleep(0.1)
    assert not waiting.done()
    server.may_say.set()
    assert (await waiting).model_version == "2"


async def test_it_grows_old(server: Server) -> None:
    """First it is asked behind the requests' backs, then they wait for it."""
    one = server.known(Ages(0.0, math.inf))
    await one.get()
    server.now = "2"
    assert (await one.get()).model_version == "1"
    async with asyncio.timeout(30):
        while (await one.get()).model_version == "1":  # noqa: ASYNC110 -- only asking makes it go on
            await asyncio.sleep(0)
    too_old = server.known(Ages(0.0, 0.0))
    await too_old.get()
    server.now = "3"
    assert (await too_old.get()).model_version == "3"
    await one.aclose()
    await too_old.aclose()


async def test_a_tether_holds_until_the_other_end_lets_go() -> None:
    """Which shows at once."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    tether = Tether(server.sockets[0].getsockname())
    assert not tether.holds()
    await tether.tie(5)
    assert tether.holds()
    await tether.tie(5)
    while not writers:  # noqa: ASYNC110 -- the loop has to turn
        await asyncio.sleep(0)
    assert len(writers) == 1
    writers[0].transport.abort()
    while not writers[0].is_closing() or tether.holds():  # noqa: ASYNC110 -- the loop has to turn
        await asyncio.sleep(0)
    assert not tether.holds()
    await tether.tie(5)
    assert tether.holds()
    tether.close()
    assert not tether.holds()
    server.close()
    for writer in writers:
        writer.close()


async def test_a_tether_to_nobody_does_not_hold() -> None:
    """Which is no error."""
    for place in (("127.0.0.1", free_port()), "/nowhere.sock", ("host.invalid", 80)):
        tether = Tether(place)
        await tether.tie(5)
        assert not tether.holds()
