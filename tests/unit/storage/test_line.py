"""Commands go out in order, in as few round trips as possible, and a line that hangs is given up."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from storage.exchange import Command
from storage.flights.line import Line

DEADLINE_S = 0.2


class Server:
    """A Redis that writes down what it is told, and answers as `answering` says."""

    def __init__(self) -> None:
        self.batches: list[list[Command]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.fault: Exception | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Each command is answered with its name; `FAIL` is an error."""
        self.batches.append(list(commands))
        await self.answering.wait()
        if self.fault:
            raise self.fault
        return [ValueError("wrong") if command[0] == "FAIL" else command[0] for command in commands]


@pytest.fixture
def server() -> Server:
    """One that answers."""
    return Server()


@pytest.fixture
def line(server: Server) -> Line:
    """A line to it."""
    return Line(server.exchange, DEADLINE_S)


async def test_what_waits_together_goes_together(line: Line, server: Server) -> None:
    """And what comes meanwhile goes next, in one batch."""
    server.answering.clear()
    early = [line.send((f"a{number}",)) for number in range(3)]
    await asyncio.sleep(0.01)
    late = [line.send((f"b{number}",)) for number in range(3)]
    server.answering.set()
    assert await asyncio.gather(*early, *late) == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert server.batches == [[("a0",), ("a1",), ("a2",)], [("b0",), ("b1",), ("b2",)]]


async def test_a_command_is_made_when_it_is_its_turn(line: Line, server: Server) -> None:
    """Of what is there by then."""
    server.answering.clear()
    line.send(("first",))
    await asyncio.sleep(0.01)
    said: list[str] = []
    reply = line.send_built(lambda: ("late", *said))
    said += ["x", "y"]
    server.answering.set()
    await reply
    assert server.batches[1] == [("late", "x", "y")]


async def test_an_error_is_that_of_its_command(line: Line, server: Server) -> None:
    """Whether the server refuses it or it cannot be said at all; nobody has to ask."""

    def unsayable() -> Command:
        return ("\ud800".encode(),)

    replies = [line.send(("a",)), line.send(("FAIL",)), line.send_built(unsayable), line.send(("b",))]
    outcomes = await asyncio.gather(*replies, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes[::3]] == ["a", "b"]
    assert [type(outcome) for outcome in outcomes[1:3]] == [ValueError, UnicodeEncodeError]
    line.send(("FAIL",))
    await line.aclose(1)


async def test_what_nobody_wants_any_more_is_not_sent(line: Line, server: Server) -> None:
    """Once it was sent, its answer is dropped."""
    server.answering.clear()
    sent = line.send(("sent",))
    await asyncio.sleep(0.01)
    waiting, other = line.send(("waiting",)), line.send(("other",))
    sent.cancel()
    waiting.cancel()
    server.answering.set()
    assert await other == "other"
    assert server.batches == [[("sent",)], [("other",)]]


async def test_a_fault_is_that_of_its_batch(line: Line, server: Server) -> None:
    """The next one is tried."""
    server.fault = ConnectionError("gone")
    outcomes = await asyncio.gather(line.send(("a",)), line.send(("b",)), return_exceptions=True)
    assert outcomes == [server.fault] * 2
    server.fault = None
    assert await line.send(("c",)) == "c"


async def test_a_hanging_server_costs_a_deadline(line: Line, server: Server) -> None:
    """The next batch goes on a connection of its own."""
    server.answering.clear()
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer"):
        await line.send(("a",))
    assert time.monotonic() - started >= DEADLINE_S
    server.answering.set()
    assert await line.send(("b",)) == "b"
    assert len(asyncio.all_tasks()) == 1


async def test_closing_sends_what_waits(line: Line, server: Server) -> None:
    """And nothing after it."""
    last = line.send(("last",))
    await line.aclose(1)
    assert last.result() == "last"
    with pytest.raises(ConnectionError, match="closed"):
        await line.send(("late",))
    await line.aclose(1)


async def test_closing_waits_only_so_long(line: Line, server: Server) -> None:
    """What could not be sent has failed."""
    server.answering.clear()
    sent = line.send(("sent",))
    await asyncio.sleep(0.01)
    waiting = line.send(("waiting",))
    await line.aclose(0.05)
    for reply in (sent, waiting):
        with pytest.raises(ConnectionError, match="closed"):
            await reply
    assert len(asyncio.all_tasks()) == 1
    assert server.batches == [[("sent",)]]
