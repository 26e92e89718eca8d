"""Records of chunks and where they stand. What was found once is remembered: places depend on nothing but the words."""

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

import cachetools
import msgspec

from extractors.chunking import Chunk
from extractors.grounded import Alignment, Grounded
from extractors.passages import Passage
from extractors.reading import Said
from extractors.workers import MissingError, SlowError, WorkerError
from gateway.errors import ExtractionFailed, ExtractionUnavailable

_REMEMBERED: Final = 100_000
"""Places, of some hundred bytes each."""


class Workers(Protocol):
    """Who finds places."""

    async def aligned(self, passages: Sequence[Passage], *, exactly: bool = False) -> list[tuple[Grounded, ...]]:
        """Of each passage its records with their places; `exactly`, only of those whose very words are there."""
        ...


class _Found(msgspec.Struct, frozen=True):
    """Where words stand in a chunk."""

    start: int | None
    end: int | None
    alignment: Alignment | None


class Placed(msgspec.Struct, frozen=True):
    """The records of a try with their places in the document, in the order in which they were said."""

    records: tuple[Grounded, ...]
    is_whole: bool = True
    """False where it took too long to look for words that are only nearly there: those have no place."""


class Grounder:
    """Finds where records stand."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._known: cachetools.LRUCache[bytes, tuple[_Found, ...]] = cachetools.LRUCache(
            _REMEMBERED, getsizeof=lambda found: len(found) + 1
        )

    async def ground(self, chunk: Chunk, text: str, found: Sequence[tuple[Said, ...]]) -> list[Placed]:
        """Of each of several tries at a chunk, which reads `text`, its records.

        Raises `ExtractionUnavailable` and `ExtractionFailed`.
        """
        names = [_name(chunk, said) for said in found]
        known = [self._known.get(name) if said else () for said, name in zip(found, names, strict=True)]
        missing = [place for place, records in enumerate(known) if records is None]
        late: set[int] = set()
        if missing:
            aligned, is_whole = await self._aligned([Passage(text, 0, found[place]) for place in missing])
            for place, records in zip(missing, aligned, strict=True):
                known[place] = found_here = tuple(_Found(one.start, one.end, one.alignment) for one in records)
                if is_whole and len(found_here) < _REMEMBERED:
                    self._known[names[place]] = found_here
            late.update(() if is_whole else missing)
        return [
            Placed(
                tuple(_placed(one, record, chunk.start) for one, record in zip(said, records or (), strict=True)),
                place not in late or all(record.start is not None for record in records or ()),
            )
            for place, (said, records) in enumerate(zip(found, known, strict=True))
        ]

    async def _aligned(self, passages: Sequence[Passage]) -> tuple[list[tuple[Grounded, ...]], bool]:
        """The records, and whether all was done to find them: what a model makes up at length can take too long, and
        its very words are looked for all the same.
        """
        try:
            try:
                return await self._workers.aligned(passages), True
            except SlowError:
                return await self._workers.aligned(passages, exactly=True), False
        except MissingError as error:
            raise ExtractionUnavailable(str(error)) from error
        except WorkerError as error:
            raise ExtractionFailed(str(error)) from error


def _name(chunk: Chunk, said: Sequence[Said]) -> bytes:
    words = msgspec.json.encode([one.text for one in said])
    return hashlib.sha256(chunk.sha256 + words).digest()


def _placed(said: Said, found: _Found, start: int) -> Grounded:
    """What was said, where such words were found."""
    return Grounded(
        name=said.name,
        text=said.text,
        attributes=said.attributes,
        start=None if found.start is None else start + found.start,
        end=None if found.end is None else start + found.end,
        alignment=found.alignment,
        group=said.group,
    )
