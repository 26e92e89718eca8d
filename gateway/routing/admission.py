"""Requests that find all replicas full: a line with a bound and a deadline, first come, first served."""

import asyncio
from collections.abc import Callable, Hashable

import msgspec

from gateway.errors import BackendError, Overloaded
from gateway.routing.replica import Replica

Pick = Callable[[], Replica | None]
"""Takes a place at a replica, if there is one. Raises `BackendError` when nobody is left who could have one."""


class _Turn(msgspec.Struct, eq=False):
    place: asyncio.Future[Replica]
    pick: Pick
    of: Hashable
    """Those of one kind can all be let in, or none of them."""


class Admission:
    """The line before one model's replicas, in one worker."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.most = 1000
        self.deadline_s = 30.0
        self._waiting: dict[_Turn, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def admitted(self, pick: Pick, of: Hashable) -> Replica:
        """A place at a replica, now or when it is this request's turn. Raises `Overloaded`, and what `pick` raises.

        `of`: whose `pick` is alike. Nobody is overtaken: a place that falls free is given away at once.
        """
        if (replica := pick()) is not None:
            return replica
        if len(self._waiting) >= self.most:
            message = f"'{self.model}' has more requests than its backends take, and {self.most} wait already."
            raise Overloaded(message)
        turn = _Turn(asyncio.get_running_loop().create_future(), pick, of)
        self._waiting[turn] = None
        try:
            async with asyncio.timeout(self.deadline_s):
                return await turn.place
        except TimeoutError as error:
            if (replica := _given(turn.place)) is not None:
                return replica
            message = f"No backend of '{self.model}' had room for this request within {self.deadline_s:g} s."
            raise Overloaded(message, status=503) from error
        except asyncio.CancelledError:
            if (replica := _given(turn.place)) is not None:
                replica.end()
            raise
        finally:
            self._waiting.pop(turn, None)

    def changed(self) -> None:
        """There may be room: let in whoever is first and finds some."""
        if not self._waiting:
            return
        full: set[Hashable] = set()
        for turn in tuple(self._waiting):
            if turn.of in full or turn.place.done():
                continue
            try:
                replica = turn.pick()
            except BackendError as error:
                turn.place.set_exception(error)
                continue
            if replica is None:
                full.add(turn.of)
            else:
                turn.place.set_result(replica)


def _given(turn: asyncio.Future[Replica]) -> Replica | None:
    """The place that was given in the moment when waiting ended."""
    return turn.result() if turn.done() and not turn.cancelled() and turn.exception() is None else None
