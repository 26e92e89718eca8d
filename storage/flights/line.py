"""Commands in, replies out, in order: whatever waits for Redis at the same time is one round trip on one connection."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from storage.exchange import Command
from storage.patience import done_within

Build = Callable[[], Command]
Exchange = Callable[[Sequence[Command]], Coroutine[Any, Any, Sequence[Any]]]
"""Gives the reply to each command, in one round trip."""

_UNSAYABLE = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)
"""What the encoder raises for values that have no encoding."""


class Line:
    """Sends commands one batch after the other: a command is never overtaken by one that was given later.

    A batch that takes longer than `deadline_s` has failed, and its connection is given up.
    """

    def __init__(self, exchange: Exchange, deadline_s: float) -> None:
        self._exchange = exchange
        self._deadline_s = deadline_s
        self._waiting: list[tuple[Build, asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def send(self, command: Command) -> "asyncio.Future[Any]":
        """The reply to `command`, to come. One that is cancelled before it was sent is not sent."""
        return self.send_built(lambda: command)

    def send_built(self, build: Build) -> "asyncio.Future[Any]":
        """The same for a command that is made when it is its turn, of everything that is there by then."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._closed:
            _tell(reply, ConnectionError("the line is closed"))
            return reply
        self._waiting.append((build, reply))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all(), name="redis-line")
        return reply

    async def aclose(self, deadline_s: float) -> None:
        """Send what is waiting, as far as that is possible in time; the rest fails."""
        self._closed = True
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=deadline_s)
            self._sending.cancel()
        for task in self._running:
            task.cancel()
        if ending := self._running | ({self._sending} if self._sending else set[asyncio.Task[Any]]()):
            await asyncio.wait(ending, timeout=deadline_s)
        for _, reply in self._waiting:
            _tell(reply, ConnectionError("the line was closed"))

    async def _send_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # whatever is ready to run may add to the batch
            batch, self._waiting = self._waiting, []
            await self._sent(batch)

    async def _sent(self, batch: "Sequence[tuple[Build, asyncio.Future[Any]]]") -> None:
        commands: list[Command] = []
        sent: list[asyncio.Future[Any]] = []
        for build, reply in batch:
            if reply.cancelled():
                continue
            try:
                commands.append(build())
            except _UNSAYABLE as error:
                _tell(reply, error)
            else:
                sent.append(reply)
        if not commands:
            return
        replies: Sequence[Any] = [ConnectionError("the line was closed")] * len(sent)
        try:
            replies = await self._replies(asyncio.create_task(self._exchange(commands)), len(sent))
        finally:
            for reply, said in zip(sent, replies, strict=True):
                _tell(reply, said)

    async def _replies(self, task: "asyncio.Task[Sequence[Any]]", count: int) -> Sequence[Any]:
        """What came back for each command, or what went wrong with all of them."""
        self._running.add(task)
        task.add_done_callback(self._done)
        if not await done_within(task, self._deadline_s):
            task.cancel()
            return [TimeoutError(f"no answer in {self._deadline_s} s")] * count
        fault = asyncio.CancelledError() if task.cancelled() else task.exception()
        return task.result() if fault is None else [fault] * count

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # a fault that comes late is nobody's news


def _tell(reply: "asyncio.Future[Any]", said: Any) -> None:
    """Give a reply to whoever waits for it. A fault that nobody asks about is not reported as forgotten."""
    if reply.done():
        return
    if isinstance(said, Exception):
        reply.set_exception(said)
        reply.exception()
    elif isinstance(said, BaseException):
        reply.cancel()
    else:
        reply.set_result(said)
