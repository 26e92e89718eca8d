"""What waits to be embedded -> rows with vectors. One gateway at a time does it; when the model becomes another one,
everything is embedded anew, and the old vectors are left alone until they go.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec

from gateway.caller import DEFAULT_TENANT
from gateway.errors import BackendRefused, RequestError
from gateway.indexing.reading import Read, Reader
from gateway.semantic.asked import asked
from storage.errors import AskonceError, brief
from storage.vectors.models import Model
from storage.vectors.queue import Due, Embedded

_LOG = logging.getLogger("askonce")
_EVERY_S: Final = 1.0
_AFTER_FAULT_S: Final = 5.0
_BATCH: Final = 32
_LOOK: Final = 1000
_STANDING_BACK_S: Final = 60.0
_TRIES: Final = 8
_SEEN_EVERY_S: Final = 600.0
_CHANGES_EVERY_S: Final = 60.0
"""So long it stays with a model, while its replicas do not agree on what they are."""
_PROBE: Final = "askonce"
_FLOAT_BYTES: Final = 4


class Queue(Protocol):
    """What waits."""

    async def has_work(self, model_id: int) -> bool:
        """Whether anything is to be done."""
        ...

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """Whether nobody else does it, for the length of the block."""
        ...

    async def due(self, model_id: int, most: int) -> list[Due]:
        """What has waited longest."""
        ...

    async def put(self, model_id: int, embedded: Sequence[Embedded]) -> None:
        """Keep vectors."""
        ...

    async def drop(self, due: Sequence[Due]) -> None:
        """Have these wait no longer."""
        ...

    async def postpone(self, due: Sequence[Due], tries: int) -> int:
        """Have these wait longer, or not at all after so many tries; how many of those there were."""
        ...

    async def look_through(self, model_id: int, most: int) -> bool:
        """Have some of what is older than the model wait; False when there is nothing left."""
        ...


class Models(Protocol):
    """The models that there are vectors of."""

    async def current(self) -> Model | None:
        """The one that is used."""
        ...

    async def use(self, model: str, model_version: str, dimensions: int) -> Model:
        """Use this one."""
        ...

    async def seen(self, model_id: int) -> None:
        """Say that it is used."""
        ...


class Telemetry(Protocol):
    """Who is told what was done."""

    def embedded(self, kind: str, count: int) -> None:
        """So many have a vector now."""
        ...

    def unembedded(self, count: int) -> None:
        """So many will have none: the model takes no part of them."""
        ...


class _Words(msgspec.Struct, frozen=True):
    """What is to be embedded of one thing that waits."""

    due: Due
    text: str
    context: bytes | None


class Indexer:
    """Embeds what waits, until it is closed. Several may be there: while one does, the others leave it to it."""

    def __init__(self, queue: Queue, models: Models, reader: Reader, telemetry: Telemetry) -> None:
        self._queue = queue
        self._models = models
        self._reader = reader
        self._telemetry = telemetry
        self._using: Model | None = None
        self._used: tuple[str, int] | None = None
        """The weights that this process had be used, and their dimensions."""
        self._changed = -_CHANGES_EVERY_S
        self._seen = 0.0
        self._fault = ""
        self._task = asyncio.create_task(self._run(), name="indexer")

    async def aclose(self) -> None:
        """Stop. What is under way is done again by whoever comes next."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            try:
                rest_s = await self._round()
            except AskonceError as error:
                rest_s = _AFTER_FAULT_S
                self._say(f"Nothing is embedded just now: {brief(error)}")
            except Exception:  # noqa: BLE001 -- a fault of ours must not end it for good, and the log says what it is
                rest_s = _STANDING_BACK_S
                _LOG.exception("Nothing was embedded this time, by a fault of askonce")
            await asyncio.sleep(rest_s)

    async def _round(self) -> float:
        """Do some of what is to be done; how long to rest before there is more."""
        if self._using is not None and not await self._queue.has_work(self._using.id):
            await self._show(self._using)
            return _EVERY_S
        async with self._queue.alone() as ours:
            if not ours:
                return _EVERY_S
            current = await self._models.current()
            if self._using is None or current is None or current.id != self._using.id:
                self._using = await self._begun(current)
            if self._using is None:
                return _STANDING_BACK_S
            await self._show(self._using)
            return 0.0 if await self._some(self._using) else _EVERY_S

    async def _begun(self, current: Model | None) -> Model | None:
        """The model as it is now, which is used from now on, unless somebody else has had another one be used since
        this one was: whoever changed something last is right.
        """
        told = await self._reader.read([_PROBE], DEFAULT_TENANT)
        [read] = told.reads
        if read is None:
            raise BackendRefused(f"'{self._reader.model}' embeds nothing.", status=400)
        dimensions = len(read.vector) // _FLOAT_BYTES
        found = (told.model_version, dimensions)
        is_new = self._used != found and time.monotonic() - self._changed > _CHANGES_EVERY_S
        if current is not None and current.is_of(self._reader.model, *found):
            self._used = found
            return current
        if current is not None and not is_new:
            self._say(f"Another askonce embeds what is kept, with its '{current.model}': this one leaves it to it")
            return None
        _LOG.info("What is kept is embedded with '%s' from now on, and what was kept before, too", self._reader.model)
        self._used, self._changed = found, time.monotonic()
        return await self._models.use(self._reader.model, *found)

    async def _show(self, model: Model) -> None:
        if time.monotonic() - self._seen > _SEEN_EVERY_S or not self._seen:
            await self._models.seen(model.id)
            self._seen = time.monotonic()

    async def _some(self, model: Model) -> bool:
        due = await self._queue.due(model.id, _BATCH)
        if not due:
            return await self._queue.look_through(model.id, _LOOK)
        words = [found for one in due if one.scope and (found := _words(one)).text]
        places: defaultdict[str, list[_Words]] = defaultdict(list)
        for one in words:
            places[one.due.scope].append(one)
        for scope, some in places.items():
            if not await self._embedded(model, scope, some):
                self._using = None  # other weights have the name now
                return True
        wanted = {one.due.id for one in words}
        if rest := [one for one in due if one.id not in wanted]:
            await self._queue.drop(rest)
        return True

    async def _embedded(self, model: Model, scope: str, words: Sequence[_Words]) -> bool:
        """Embed and keep; False when it was another model that answered."""
        try:
            told = await self._reader.read([one.text for one in words], scope)
        except (BackendRefused, RequestError) as error:
            self._say(f"Some of what is kept cannot be embedded: {brief(error)}")
            self._telemetry.unembedded(await self._queue.postpone([one.due for one in words], _TRIES))
            return True
        reads = [(one, read) for one, read in zip(words, told.reads, strict=True) if read is not None]
        if told.model_version != model.model_version or any(
            len(read.vector) != _FLOAT_BYTES * model.dimensions for _, read in reads
        ):
            return False
        self._fault = ""
        await self._queue.put(model.id, [_kept(one, read) for one, read in reads])
        for one, _ in reads:
            self._telemetry.embedded(one.due.kind, 1)
        if refused := [one.due for one, read in zip(words, told.reads, strict=True) if read is None]:
            await self._queue.drop(refused)
            self._telemetry.unembedded(len(refused))
        return True

    def _say(self, fault: str) -> None:
        if fault != self._fault:
            _LOG.warning("%s", fault)
        self._fault = fault


def _words(due: Due) -> _Words:
    if due.prompt is None:
        return _Words(due, due.text.strip(), None)
    found = asked(due.prompt)
    return _Words(due, found.text, found.context)


def _kept(words: _Words, read: Read) -> Embedded:
    """A beginning says nothing about what follows, so that it is never compared with another prompt."""
    return Embedded(due=words.due, vector=read.vector, context=words.context if read.whole else None, whole=read.whole)
