"""A leader's side: steps in, a stream that other processes read out, and a lease kept for as long as it goes on."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from storage.entry import Chunk
from storage.exchange import Command
from storage.flights.line import Line
from storage.flights.lua import script
from storage.flights.record import Batch, Fault, Lease, Names, Timing, encode, ms
from storage.guard import OnFault
from storage.patience import done_within

NAME = "flights"
"""What faults are counted under."""
_TURNS = 8
"""How many turns of the loop the first step waits for others."""
_RENEWALS = 3
"""How often a lease is renewed before it would run out."""


class Held:
    """A lease of this process.

    Nothing here raises, and steps are written off the reply's way: when Redis fails, others do without.
    """

    ours: Literal[True] = True

    def __init__(self, line: Line, names: Names, lease: Lease, timing: Timing, on_fault: OnFault) -> None:
        self._line = line
        self._names = names
        self._lease = lease
        self._timing = timing
        self._on_fault = on_fault
        self._value = encode(lease)
        self._open = True
        self._steps: list[Chunk] = []
        """Not written yet."""
        self._writing: asyncio.Future[int] | None = None
        """The write that was given to the line last."""
        self._written = 0
        self._due = False
        self._followed = False
        self._loop = asyncio.get_running_loop()
        self._gathering: asyncio.Handle | None = None
        self._renewing = self._loop.call_later(timing.lease_s / _RENEWALS, self._renew)

    def put(self, steps: Sequence[Chunk]) -> None:
        """Have `steps` written: at once when they are the first or somebody follows, else with those that come soon."""
        if not self._open:
            return
        self._steps.extend(steps)
        if self._due:
            return
        self._due = True
        if self._followed:
            self._write()
        elif self._written:
            self._gathering = self._loop.call_later(self._timing.gather_s, self._write)
        else:
            self._write_in(_TURNS)

    def land(self, *, kept: bool) -> None:
        """The answer is complete. If it is kept, it can be read for a while by those who do not find it yet."""
        self._end(Batch(end="landed"), msgspec.structs.replace(self._lease, landed=True) if kept else None)

    def fail(self, fault: Fault) -> None:
        """The backend failed: those who follow hear the same, those who come later ask anew."""
        self._end(Batch(end="failed", fault=fault))

    def release(self) -> None:
        """Lead no longer, unless the flight has ended: one of those who follow takes over at once."""
        self._end(Batch(end="left"))

    async def heard_elsewhere(self) -> bool:
        """Whether other processes listen. When none does, or Redis cannot say, the lease is given up."""
        names = self._names
        reply = self._line.send(script("quit", (names.lease, names.listeners), self._value))
        known = await done_within(reply, self._timing.patience_s) and _fault(reply) is None
        if known and reply.result():
            return True
        if known:
            self._close()
            self._line.send(("DEL", names.steps))
        else:
            self.release()
        return False

    def _write_in(self, turns: int) -> None:
        """Write in so many turns of the loop: who waits here goes first, and what is all there by then is one write."""
        if turns:
            self._gathering = self._loop.call_soon(self._write_in, turns - 1)
        else:
            self._write()

    def _write(self) -> None:
        self._writing = self._line.send_built(self._append)
        self._writing.add_done_callback(self._wrote)

    def _append(self) -> Command:
        self._due = False
        place, data = self._batch(Batch())
        lasts = ms(2 * self._timing.lease_s)
        return script("append", (self._names.steps, self._names.listeners), place, data, lasts)

    def _batch(self, batch: Batch) -> tuple[int, bytes]:
        """The place and the encoding of `batch` with everything that is not written yet."""
        steps, self._steps = tuple(self._steps), []
        place = self._written + 1
        self._written += len(steps)
        return place, encode(msgspec.structs.replace(batch, steps=steps))

    def _wrote(self, reply: "asyncio.Future[int]") -> None:
        if (fault := _fault(reply)) is None:
            self._followed = bool(reply.result())
        elif self._open:
            self._on_fault(NAME, "write", fault)
            self.release()  # the stream has a gap now, or will never be read

    def _renew(self) -> None:
        names, timing = self._names, self._timing
        self._renewing = self._loop.call_later(timing.lease_s / _RENEWALS, self._renew)
        lasts = (ms(timing.lease_s), ms(2 * timing.lease_s))
        self._line.send(script("renew", (names.lease, names.steps), self._value, *lasts))

    def _end(self, batch: Batch, becomes: Lease | None = None) -> None:
        if self._open:
            self._close()
            if self._due and self._writing is not None:
                self._writing.cancel()  # it has not been sent: its steps go with the end
            reply = self._line.send_built(partial(self._last, batch, encode(becomes) if becomes else b""))
            reply.add_done_callback(self._ended)

    def _ended(self, reply: "asyncio.Future[None]") -> None:
        if (fault := _fault(reply)) is not None:
            self._on_fault(NAME, "write", fault)
            self._line.send_built(partial(self._last, Batch(end="left"), b""))

    def _last(self, batch: Batch, becomes: bytes) -> Command:
        place, data = self._batch(batch)
        keys = (self._names.lease, self._names.steps)
        return script("end", keys, self._value, becomes, place, data, ms(self._timing.landed_s))

    def _close(self) -> None:
        self._open = False
        self._renewing.cancel()
        if self._gathering is not None:
            self._gathering.cancel()


def _fault(reply: "asyncio.Future[Any]") -> BaseException | None:
    return ConnectionError("the line was closed") if reply.cancelled() else reply.exception()
