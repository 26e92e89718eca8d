"""What LangExtract does, done in other processes: started when first needed, so many at most, with a deadline.

LangExtract takes a second to import and a hundred megabytes, and its search for words that are nearly in a text can
take seconds more: none of that is to hold up those who are asked other things meanwhile.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import anyio
import cachetools
from anyio import to_process

from extractors import chunking, dividing, files
from extractors.chunking import Chunk
from extractors.files import Text
from extractors.grounded import Grounded
from extractors.passages import Frame, Passage
from extractors.recipe import Recipe
from extractors.splitting import Span

T = TypeVar("T")

_FRAMES: Final = 256
_NICE: Final = 10
_READERS: Final = 2
"""Files that are read at a time, each of another tenant: nobody's many files hold up everybody else's."""
_SHORT: Final = 20_000
"""Code points of a text that is divided at once; a longer one takes more than a millisecond or two."""


_MIDDLING: Final = 100_000
"""The same, in another thread, for which the others wait a few milliseconds at a time."""


class MissingError(Exception):
    """LangExtract is not installed: install the extra 'extraction', as in `pip install 'askonce[extraction]'`."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class WorkerError(Exception):
    """A process that was to align records ended, or took too long."""


class SlowError(WorkerError):
    """It took too long."""


@cache
def version() -> str:
    """The version of LangExtract. Raises `MissingError`."""
    try:
        return metadata.version("langextract")
    except metadata.PackageNotFoundError as error:
        raise MissingError from error


class Workers:
    """Up to `most` processes, two for those who begin, and two for files, shared by all who extract. A call that takes
    longer than `deadline_s` ends its own.
    """

    def __init__(self, most: int = 2, deadline_s: float = 30.0) -> None:
        # A text that takes long to be divided is not to hold up other recipes, nor those who align.
        self._places = defaultdict[Callable[..., Any], anyio.CapacityLimiter](lambda: anyio.CapacityLimiter(1))
        self._places[_aligned] = anyio.CapacityLimiter(most)
        self._places[_text] = anyio.CapacityLimiter(_READERS)
        self._reading = WeakValueDictionary[str, asyncio.Lock]()
        self._dividing = anyio.CapacityLimiter(1)  # each thread more that computes holds up the event loop longer
        self._deadline_s = deadline_s
        self._frames: cachetools.LRUCache[str, Frame] = cachetools.LRUCache(_FRAMES)

    async def chunks(self, text: str, most: int) -> list[Chunk]:
        """The chunks of `text`. Raises `MissingError` and `WorkerError`."""
        if len(text) <= _SHORT:
            found = chunking.plain(text, most)
        else:
            async with self._dividing:
                found = await asyncio.to_thread(chunking.plain, text, most)
        return await self._run(chunking.chunks, text, most) if found is None else found

    async def passages(self, text: str) -> list[Span]:
        """The passages that `text` is searched by. Raises `WorkerError`."""
        if len(text) <= _MIDDLING:
            return await asyncio.to_thread(dividing.divided, text)
        return await self._run(_passages, text)

    async def text(self, data: bytes, media_type: str, charset: str, tenant: str) -> Text:
        """What a tenant's file says. Raises `FileError`, and `WorkerError`."""
        if media_type in files.PLAIN:
            return await asyncio.to_thread(files.read, data, media_type, charset)
        async with self._reading.setdefault(tenant, asyncio.Lock()):
            return await self._run(_text, data, media_type, charset)

    async def frame(self, recipe: Recipe) -> Frame:
        """What stands around each chunk in its prompt. Raises `MissingError` and `WorkerError`."""
        if (known := self._frames.get(recipe.digest)) is None:
            known = self._frames[recipe.digest] = await self._run(_frame, recipe)
        return known

    async def aligned(self, passages: Sequence[Passage], *, exactly: bool = False) -> list[tuple[Grounded, ...]]:
        """Of each passage its records, in the order in which they were said, with their places; `exactly`, only of
        those whose very words are there.

        Raises `MissingError` and `WorkerError`.
        """
        return await self._run(_aligned, list(passages), exactly)

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        """Waiting for a process takes as long as it takes; the deadline is for what it does. Nobody who begins waits
        for those who align.
        """
        if function not in _OF_OURS:
            version()
        async with self._places[function]:
            try:
                async with asyncio.timeout(self._deadline_s):
                    own = anyio.CapacityLimiter(1)
                    return await to_process.run_sync(function, *args, cancellable=True, limiter=own)
            except TimeoutError as error:
                message = f"It took longer than {self._deadline_s:g} s."
                raise SlowError(message) from error
            except anyio.BrokenWorkerProcess as error:
                message = "The process that was at it ended."
                raise WorkerError(message) from error


def _frame(recipe: Recipe) -> Frame:
    from extractors import framing  # noqa: PLC0415 -- it imports LangExtract, and so belongs into a process of its own

    return framing.frame(recipe)


def _text(data: bytes, media_type: str, charset: str) -> Text:
    _let_others_first()
    return files.read(data, media_type, charset)


def _passages(text: str) -> list[Span]:
    _let_others_first()
    return dividing.divided(text)


_OF_OURS: Final = (_text, _passages)
"""What takes no LangExtract."""


def _aligned(passages: Sequence[Passage], exactly: bool = False) -> list[tuple[Grounded, ...]]:  # noqa: FBT001, FBT002
    _let_others_first()
    from extractors import aligning  # noqa: PLC0415 -- see above

    return aligning.aligned(passages, exactly=exactly)


def _let_others_first() -> None:
    """Whoever is asked something else. None may take back what it has let go."""
    os.setpriority(os.PRIO_PROCESS, 0, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))
