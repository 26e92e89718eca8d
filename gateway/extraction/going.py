"""All chunks of a text, asked about a few at a time: what came of each as soon as it is there."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, Final

import msgspec

from extractors.chunking import Chunk
from extractors.grounded import Grounded, merged
from extractors.judging import best
from extractors.reading import Said
from gateway.errors import BackendError, ExtractionFailed, RequestError, envelope, may_pass
from gateway.extraction.asking import Asker, Look, Place, Task, Tried
from gateway.extraction.grounding import Grounder, Placed
from storage.extracted import Call, Record

_NOT_LET_IN: Final = frozenset({401, 403})
_GAP: Final = 1000
"""White space between chunks, at most, that is passed over for the words before it."""
_HOPELESS: Final = 8
"""Chunks one after the other that nobody answers, after which no more are asked about: they are told as pending."""


_LATE: Final = "It took too long to find words that are only nearly in the text; their records have no place."


class Done(msgspec.Struct, frozen=True):
    """A chunk that has been gone through."""

    chunk: Chunk
    calls: tuple[Call, ...]
    """Every try of every pass, those of the pass's choice with their records."""
    fault: BackendError | RequestError | None = None
    """Why a pass has no answer."""


class Journey:
    """Goes through the chunks of `text`."""

    def __init__(self, asker: Asker, grounder: Grounder, task: Task, text: str) -> None:
        self._asker = asker
        self._grounder = grounder
        self._options = task.options
        self._text = text
        self._left: deque[Chunk] = deque()
        self._looks: dict[int, Look] = {}
        """What is being looked up of chunks that come next."""
        self._ready: asyncio.Queue[Done | asyncio.Task[None]] = asyncio.Queue()
        self._walkers: Sequence[asyncio.Task[None]] = ()
        self._tasks: set[asyncio.Task[None]] = set()
        """Walkers, and what they leave to be finished."""
        self._failed = 0
        """Chunks one after the other without an answer."""

    async def go(self, chunks: Sequence[Chunk]) -> AsyncGenerator[Done]:
        """Each of `chunks`, in the order in which they are done; not all of them where nobody answers any more.

        Raises `RequestError`. Closing it ends all calls.
        """
        self._left.extend(chunks)
        self._walkers = [self._started(self._walk()) for _ in range(min(self._options.parallel, len(chunks)))]
        try:
            while self._tasks:
                found = await self._ready.get()
                if isinstance(found, Done):
                    yield found
                    continue
                self._tasks.discard(found)
                if not found.cancelled():
                    found.result()
        finally:
            begun = [*self._tasks, *(look.task for look in self._looks.values())]
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    def stop(self) -> None:
        """Ask about nothing more, and end all calls; what is done already is still given."""
        for walker in self._walkers:
            walker.cancel()

    def _started(self, doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._ready.put_nowait)
        return task

    async def _walk(self) -> None:
        """Ask about one chunk after the other. The next is looked up meanwhile, and the last one's places are found."""
        while self._left and self._failed < _HOPELESS:
            chunk = self._left.popleft()
            look = self._looks.pop(chunk.index, None)
            self._look_ahead()
            words, before = chunk.of(self._text), self._before(chunk)
            passes = [
                await self._asker.tries(words, before, Place(chunk.index, number), look)
                for number in range(1, self._options.passes + 1)
            ]
            chosen = [_chosen(tries) for tries in passes]
            is_lost = any(one.fault is not None and _is_nobody(one.fault) for one in chosen)
            self._failed = self._failed + 1 if is_lost else 0
            self._started(self._finish(chunk, words, passes, chosen))

    def _look_ahead(self) -> None:
        if self._left and (chunk := self._left[0]).index not in self._looks:
            self._looks[chunk.index] = self._asker.look(chunk.of(self._text), self._before(chunk))

    async def _finish(self, chunk: Chunk, words: str, passes: Sequence[list[Tried]], chosen: Sequence[Tried]) -> None:
        """Find where the records of the chosen tries stand, and tell of the chunk."""
        tried = [one for tries in passes for one in tries]
        picked = {id(one) for one in chosen}
        try:
            found = await self._grounder.ground(chunk, words, [_said(one) for one in chosen])
        except ExtractionFailed as error:
            in_vain = tuple(_failed(one, error) if id(one) in picked else one.call for one in tried)
            self._ready.put_nowait(Done(chunk, in_vain, error))
            return
        kept = {id(record) for record in merged([placed.records for placed in found])}
        of = {id(one): _call(one, placed, kept, self._text) for one, placed in zip(chosen, found, strict=True)}
        calls = tuple(of.get(id(one), one.call) for one in tried)
        self._ready.put_nowait(Done(chunk, calls, next((one.fault for one in chosen if one.fault), None)))

    def _before(self, chunk: Chunk) -> str:
        """The words before it that are shown with it."""
        if not (most := self._options.context_chars):
            return ""
        return self._text[max(0, chunk.start - most - _GAP) : chunk.start].rstrip()[-most:]


def _is_nobody(fault: BackendError | RequestError) -> bool:
    """Whether others will most likely not be answered either: it is not this chunk that is at fault."""
    return isinstance(fault, BackendError) and (may_pass(fault) or fault.status in _NOT_LET_IN)


def _chosen(tries: Sequence[Tried]) -> Tried:
    """Whose records a pass gives; the last where there was no answer at all."""
    answered = [(one, one.judged) for one in tries if one.judged is not None]
    return answered[best([judged for _, judged in answered])][0] if answered else tries[-1]


def _said(tried: Tried) -> tuple[Said, ...]:
    return tried.judged.said if tried.judged else ()


def _call(tried: Tried, placed: Placed, kept: set[int], text: str) -> Call:
    """The call of a try that is the choice of its pass, with its records."""
    records = _records(tried, placed.records, kept, text)
    problems = tried.call.problems if placed.is_whole else (*tried.call.problems, _LATE)
    return msgspec.structs.replace(tried.call, chosen=True, records=records, problems=problems)


def _failed(tried: Tried, error: ExtractionFailed) -> Call:
    """The call of a try that was answered in vain; what was said is kept, and need not be said again."""
    told = envelope(error)["error"]
    return msgspec.structs.replace(tried.call, status="failed", chosen=True, error=told, problems=(str(error),))


def _records(tried: Tried, found: Sequence[Grounded], kept: set[int], text: str) -> tuple[Record, ...]:
    fits = tried.judged.fits if tried.judged else ()
    return tuple(
        Record(
            name=record.name,
            text=record.text,
            attributes=record.attributes,
            start=record.start,
            end=record.end,
            quote=record.quote(text),
            alignment=record.alignment,
            group=record.group,
            fits=fit,
            kept=id(record) in kept,
        )
        for record, fit in zip(found, fits, strict=True)
    )
