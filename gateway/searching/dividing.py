"""Documents -> passages: at once where somebody keeps one, and in the background for all others."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from extractors.dividing import DIVIDER, by_length
from extractors.splitting import Span
from extractors.workers import WorkerError
from storage.errors import StorageError
from storage.extracted import Document
from storage.passages import Divide, Passage, Undivided
from storage.rounds import Rounds

_EVERY_S: Final = 2.0
"""How often it is looked whether a document waits."""
_LARGE: Final = 300_000
"""Code points from which on a document is divided in the background: it may take seconds."""
_KEY: Final = b"askonce passage/1"
_LOG = logging.getLogger("askonce")


Divided = Callable[[str], Awaitable[Sequence[Span]]]


class Store(Protocol):
    """Where passages are kept."""

    async def put(self, document_id: str, way: str, passages: Sequence[Passage]) -> bool:
        """Keep those of a document; False where it has some already, or is gone."""
        ...

    async def divide_next(self, way: str, divide: Divide) -> bool:
        """Divide the document that has waited longest; False when there is none."""
        ...


class Divider:
    """Has every document divided, until closed. Several gateways may: one is about it at a time."""

    def __init__(self, store: Store, divided: Divided, every_s: float = _EVERY_S) -> None:
        """`divided` gives the passages of a text. Raises `WorkerError`."""
        self._store = store
        self._divided = divided
        self._rounds = Rounds(self._round, every_s, "divider")
        self._closing = False

    async def divide(self, document: Document) -> bool:
        """Divide a document now, with its text there; whether it is by then. What fails now is done later."""
        if document.passages:
            return True
        if document.characters > _LARGE:
            return False
        try:
            await self._store.put(document.id, DIVIDER, await self._passages(document))
        except StorageError:
            return False
        return True

    async def aclose(self) -> None:
        """Wait for the document that is being divided."""
        self._closing = True
        await self._rounds.aclose()

    async def _round(self) -> None:
        try:
            while not self._closing and await self._store.divide_next(DIVIDER, self._passages):
                pass
        except StorageError:
            pass  # its guard has told of it
        except Exception:  # noqa: BLE001 -- the next round will do, and the log says why
            _LOG.exception("A document was not divided into passages, by a fault of askonce")

    async def _passages(self, document: Document | Undivided) -> list[Passage]:
        try:
            spans = await self._divided(document.text)
        except WorkerError as error:  # it is searched all the same
            _LOG.warning("%s is divided by length alone: %s", document.id, error)
            spans = by_length(document.text)
        return await asyncio.to_thread(_made, document.text, document.sha256, spans)


def key_of(sha256: bytes, start: int, end: int) -> bytes:
    """The name of a place in a text: another text has none of them."""
    return hashlib.sha256(b"%b %b %d %d" % (_KEY, sha256, start, end)).digest()


def _made(text: str, sha256: bytes, spans: Sequence[Span]) -> list[Passage]:
    return [
        Passage(number, span.start, span.end, key_of(sha256, span.start, span.end), span.of(text))
        for number, span in enumerate(spans)
    ]
