"""All chunks of a text, asked about a few at a time: what came of each as soon as it is there."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Final

import msgspec

from extractors.chunking import Chunk
from extractors.grounded import Grounded, merged
from extractors.judging import best
from extractors.reading import Said
from gateway.errors import BackendError, ExtractionFailed, RequestError, envelope
from gateway.extraction.asking import Asker, Task, Tried
from gateway.extraction.grounding import Grounder
from storage.extractions import Call, Record

_GAP: Final = 1000
"""White space between chunks, at most, that is passed over for the words before it."""
_HOPELESS: Final = 8
"""Chunks one after the other that nobody answers, after which no more are asked about."""


class Done(msgspec.Struct, frozen=True):
    """A chunk that has been gone through."""

    chunk: Chunk
    calls: tuple[Call, ...]
    """Every try of every pass, those of the pass's choice with their records."""
    fault: BackendError | RequestError | None = None
    """Why a pass has no answer."""

    @property
    def is_answered(self) -> bool:
        """Whether every pass has an answer of some kind."""
        return all(call.status != "failed" for call in self.calls if call.chosen)


class Journey:
    """Goes through the chunks of `text`."""

    def __init__(self, asker: Asker, grounder: Grounder, task: Task, text: str) -> None:
        self._asker = asker
        self._grounder = grounder
        self._options = task.options
        self._text = text
        self._walkers: Sequence[asyncio.Task[None]] = ()
        self._failed = 0
        """Chunks one after the other without an answer."""

    async def go(self, chunks: Sequence[Chunk]) -> AsyncGenerator[Done]:
        """Each of `chunks`, in the order in which they are done; not all of them where nobody answers any more.

        Raises `RequestError`. Closing it ends all calls.
        """
        ready: asyncio.Queue[Done | asyncio.Task[None]] = asyncio.Queue()
        waiting = iter(chunks)
        count = min(self._options.parallel, len(chunks))
        self._walkers = walkers = [asyncio.create_task(self._walk(waiting, ready.put_nowait)) for _ in range(count)]
        for walker in walkers:
            walker.add_done_callback(ready.put_nowait)
        try:
            while count:
                found = await ready.get()
                if isinstance(found, Done):
                    yield found
                    continue
                count -= 1
                if not found.cancelled():
                    found.result()
        finally:
            for walker in walkers:
                walker.cancel()
            await asyncio.gather(*walkers, return_exceptions=True)

    def stop(self) -> None:
        """Ask about nothing more, and end all calls; what is done already is still given."""
        for walker in self._walkers:
            walker.cancel()

    async def _walk(self, waiting: Iterator[Chunk], ready: Callable[[Done], None]) -> None:
        for chunk in waiting:
            if self._failed >= _HOPELESS:
                break
            done = await self._done(chunk)
            self._failed = 0 if done.is_answered else self._failed + 1
            ready(done)

    async def _done(self, chunk: Chunk) -> Done:
        words = chunk.of(self._text)
        before = self._before(chunk)
        passes = [
            await self._asker.tries(chunk, words, before, number) for number in range(1, self._options.passes + 1)
        ]
        chosen = [_chosen(tries) for tries in passes]
        try:
            found = await self._grounder.ground(chunk, words, [_said(one) for one in chosen])
        except ExtractionFailed as error:
            return Done(chunk, tuple(_failed(one, error) for one in chosen), error)
        kept = {id(record) for record in merged(found)}
        records = {
            id(one): _records(one, grounded, kept, self._text) for one, grounded in zip(chosen, found, strict=True)
        }
        calls = tuple(_call(tried, records.get(id(tried))) for tries in passes for tried in tries)
        return Done(chunk, calls, next((one.fault for one in chosen if one.fault), None))

    def _before(self, chunk: Chunk) -> str:
        """The words before it that are shown with it."""
        if not (most := self._options.context_chars):
            return ""
        return self._text[max(0, chunk.start - most - _GAP) : chunk.start].rstrip()[-most:]


def _chosen(tries: Sequence[Tried]) -> Tried:
    """Whose records a pass gives; the last where there was no answer at all."""
    answered = [(one, one.judged) for one in tries if one.judged is not None]
    return answered[best([judged for _, judged in answered])][0] if answered else tries[-1]


def _said(tried: Tried) -> tuple[Said, ...]:
    return tried.judged.said if tried.judged else ()


def _call(tried: Tried, records: tuple[Record, ...] | None) -> Call:
    """The call of a try, with its records if it is the choice of its pass."""
    if records is None:
        return tried.call
    return msgspec.structs.replace(tried.call, chosen=True, records=records)


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
