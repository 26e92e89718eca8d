"""Keys of inputs -> vectors, each asked for by one call of this process: who wants it too waits for that one."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any

import msgspec

from gateway.canonical import Vector
from gateway.embedding.told import Told
from gateway.errors import BackendError, BackendUnavailable, RequestError

Ask = Callable[[Sequence[bytes]], Coroutine[Any, Any, Told]]
"""Asks for the vectors of these keys in one call."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """One vector."""

    vector: Vector
    coalesced: bool
    """Whether somebody else had it asked for."""
    origin_id: str
    kept: bool
    backend: str = ""


class Batches:
    """The calls of this process that are under way, by the keys they are to bring."""

    def __init__(self) -> None:
        self._asking: dict[bytes, _Batch] = {}

    async def given(self, keys: Sequence[bytes], epoch: int, ask: Ask) -> dict[bytes, Given]:
        """A vector for each of `keys`; `ask` is called at once with those that nobody asks for.

        A call made for an epoch before `epoch` is not waited for. One that fails, and had inputs that are not wanted
        here, says nothing about those that are: they are asked for again, once, without what others want.

        Raises what `ask` raises. Who is cancelled leaves; a call ends when nobody waits for it any more.
        """
        wanted = frozenset(keys)
        given, lost = await self._round(keys, epoch, ask, wanted, strangers=True)
        if lost:
            again, _ = await self._round(lost, epoch, ask, wanted, strangers=False)
            given |= again
        return given

    async def _round(
        self, keys: Sequence[bytes], epoch: int, ask: Ask, wanted: frozenset[bytes], *, strangers: bool
    ) -> tuple[dict[bytes, Given], list[bytes]]:
        """What was given, and the keys whose call failed for inputs that may not be ours.

        `strangers`: calls with inputs that are not `wanted` are waited for too.
        """
        joined = self._joined(keys, epoch, ask, lambda batch: strangers or batch.keys <= wanted)
        given: dict[bytes, Given] = {}
        lost: list[bytes] = []
        try:
            for batch, part in joined.items():
                try:
                    given |= parts(await batch.told(), part, own=batch.ask is ask)
                except (BackendError, RequestError):
                    if batch.keys <= wanted:
                        raise
                    lost += part
        finally:
            if ending := {call for batch in joined if (call := batch.left())}:
                await asyncio.wait(ending)
        return given, lost

    def _joined(
        self, keys: Sequence[bytes], epoch: int, ask: Ask, fits: "Callable[[_Batch], bool]"
    ) -> "dict[_Batch, list[bytes]]":
        """The calls that bring `keys`, and which each brings; listened to, without a wait since they were looked up."""
        awaited: dict[_Batch, list[bytes]] = {}
        rest: list[bytes] = []
        for key in keys:
            batch = self._asking.get(key)
            if batch and batch.is_open and batch.epoch >= epoch and fits(batch):
                awaited.setdefault(batch, []).append(key)
            else:
                rest.append(key)
        # Its own first: when that one fails there is nothing to wait for.
        joined = ({self._started(rest, epoch, ask): rest} if rest else {}) | awaited
        for batch in joined:
            batch.join()
        return joined

    def _started(self, keys: Sequence[bytes], epoch: int, ask: Ask) -> "_Batch":
        batch = _Batch(keys, epoch, ask, self._forget)
        self._asking |= dict.fromkeys(keys, batch)
        return batch

    def _forget(self, batch: "_Batch") -> None:
        for key in batch.keys:
            if self._asking.get(key) is batch:
                del self._asking[key]


class _Batch:
    """One call, for as long as somebody waits for it."""

    def __init__(self, keys: Sequence[bytes], epoch: int, ask: Ask, forget: "Callable[[_Batch], None]") -> None:
        self.keys = frozenset(keys)
        self.epoch = epoch
        self.ask = ask
        self._forget = forget
        self._listeners = 0
        self._traceback: TracebackType | None = None
        self._task = asyncio.create_task(ask(keys), name="embedding")
        self._task.add_done_callback(self._end)

    @property
    def is_open(self) -> bool:
        """Whether it can still be waited for: one that has just ended says nothing to those who come now."""
        return not self._task.done()

    def join(self) -> None:
        """One listener more."""
        self._listeners += 1

    def left(self) -> "asyncio.Task[Told] | None":
        """One listener less. When it was the last one, the call is cancelled, and here to be waited for."""
        self._listeners -= 1
        if self._listeners or self._task.done():
            return None
        self._forget(self)
        self._task.cancel()
        return self._task

    async def told(self) -> Told:
        """What the call gave. Raises what it raised; the traceback would otherwise grow with every listener."""
        await asyncio.wait({self._task})
        if self._task.cancelled():
            raise BackendUnavailable("This gateway is closing. Ask again.")
        if (fault := self._task.exception()) is not None:
            raise fault.with_traceback(self._traceback)
        return self._task.result()

    def _end(self, task: "asyncio.Task[Told]") -> None:
        self._forget(self)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._traceback = fault.__traceback__


def parts(told: Told, keys: Iterable[bytes], *, own: bool) -> dict[bytes, Given]:
    """What a call gave for `keys`; `own`: it was made for whoever wants them."""
    coalesced = not (own and told.ours)
    return {
        key: Given(
            vector=told.vectors[key],
            coalesced=coalesced,
            origin_id=told.origin_id,
            kept=told.kept,
            backend=told.backend,
        )
        for key in keys
    }
