"""Runs and documents that are kept: found again, listed, ended and deleted, each for its own tenant alone."""

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from extractors.chunking import Chunk
from extractors.files import Text
from gateway.caller import Caller
from gateway.errors import Forbidden, InvalidRequest, NoAnswer, SearchTimeout, StorageUnavailable
from gateway.extraction.told import Told
from storage.errors import RefusedError, StorageError, TooMuchError
from storage.extracted import Call, Document, Run
from storage.extractions import Extractions

_LONG: Final = 500_000
"""Code points from which on it takes a millisecond to hash them."""
_DOCUMENT: Final = "doc_"
_ID: Final = re.compile(r"(?:ext|doc)_[0-9a-f]{32}", re.ASCII)
_DOWN: Final = (
    "The database cannot be reached, so nothing can be looked up, begun in the background or deleted; try again."
)

_OTHERS: Final = (
    "There are extractions from this document by models that this key may not ask; delete it with a key that may."
)

PLAIN: Final = "text/plain"

T = TypeVar("T")


class Archive:
    """What is in the database. Whoever asks for another tenant's is told that there is no such thing."""

    def __init__(self, store: Extractions) -> None:
        self._store = store

    async def run(self, name: str, caller: Caller) -> Run:
        """A run of this tenant's. Raises `NoAnswer` and `StorageUnavailable`."""
        run = await looked_up(self._store.run(name, caller.tenant)) if _ID.fullmatch(name) else None
        if run is None or not _allowed(run, caller):
            raise NoAnswer(missing("extraction", name), param="extraction_id")
        return run

    async def found(self, name: str, caller: Caller, *, with_text: bool = False) -> Told:
        """The same, with its chunks and its document. Raises `NoAnswer` and `StorageUnavailable`."""
        run = await self.run(name, caller)
        document = await self.document(run.document_id, caller, with_text=with_text)
        spans = await looked_up(self._store.chunks(run.document_id, run.chunker))
        return Told(run, document, [Chunk(one.ordinal, one.start, one.end, one.sha256) for one in spans])

    async def calls(self, told: Told, since: int = 0) -> list[Call]:
        """What came of a run, or only what was kept after the call of a serial. Raises `StorageUnavailable`."""
        return await looked_up(self._store.calls_since(told.run.id, since))

    async def listed(
        self, caller: Caller, limit: int, before: float | str | None = None, document_id: str | None = None
    ) -> list[Run]:
        """The tenant's runs, newest first. Raises `StorageUnavailable`."""
        return await looked_up(self._store.runs(caller.tenant, limit, before, document_id, caller.models))

    async def cancel(self, name: str, caller: Caller) -> Run:
        """Have a run end. One that is over stays as it is. Raises `NoAnswer` and `StorageUnavailable`."""
        await self.run(name, caller)
        run = await looked_up(self._store.cancel(name, caller.tenant))
        if run is None:
            raise NoAnswer(missing("extraction", name), param="extraction_id")
        return run

    async def forget(self, name: str, caller: Caller) -> None:
        """Delete a run with its records; its document stays. Raises `NoAnswer` and `StorageUnavailable`."""
        await self.run(name, caller)
        await looked_up(self._store.delete_run(name, caller.tenant))

    async def keep_document(
        self, said: Text, metadata: Mapping[str, Any], caller: Caller, kind: str = PLAIN
    ) -> Document:
        """A document that requests may name, read from a file of a `kind`. Raises `StorageUnavailable`."""
        document = await document_of(said.text, caller, metadata)
        told = msgspec.structs.replace(document, media_type=kind, title=said.title, pages=said.pages)
        return await looked_up(self._store.put_document(told))

    async def documents(self, caller: Caller, limit: int, before: float | str | None = None) -> list[Document]:
        """The tenant's documents, newest first, without their texts. Raises `StorageUnavailable`."""
        return await looked_up(self._store.documents(caller.tenant, limit, before))

    async def document(self, name: str, caller: Caller, *, with_text: bool = True) -> Document:
        """A document of this tenant's. Raises `NoAnswer` and `StorageUnavailable`."""
        look = self._store.document if with_text else self._store.document_head
        found = await looked_up(look(name, caller.tenant)) if _ID.fullmatch(name) else None
        if found is None:
            raise NoAnswer(missing("document", name), param="document_id")
        return found

    async def forget_document(self, name: str, caller: Caller) -> None:
        """Delete a document with all runs over it. Raises `NoAnswer`, `StorageUnavailable`, and `Forbidden` where there
        are runs of models that the caller may not ask.
        """
        await self.document(name, caller, with_text=False)
        if not await looked_up(self._store.delete_document(name, caller.tenant, caller.models)) and caller.models:
            raise Forbidden(_OTHERS, param="document_id")


async def looked_up(asked: Awaitable[T]) -> T:
    """What the database says. Raises `InvalidRequest` for what it cannot keep, and `StorageUnavailable`."""
    try:
        return await asked
    except TooMuchError as error:
        raise SearchTimeout from error
    except RefusedError as error:
        message = f"That cannot be kept: {error}."
        raise InvalidRequest(message, code="invalid_value") from error
    except StorageError as error:
        raise StorageUnavailable(_DOWN) from error


async def document_of(text: str, caller: Caller, metadata: Mapping[str, Any]) -> Document:
    """A text as a document of the caller's tenant: the same text has the same id."""
    digest = await asyncio.to_thread(_digest, text) if len(text) > _LONG else _digest(text)
    name = hashlib.sha256(digest + caller.tenant.encode()).hexdigest()[:32]
    return Document(
        id=_DOCUMENT + name,
        tenant=caller.tenant,
        sha256=digest,
        text=text,
        characters=len(text),
        created_at=time.time(),
        meta=dict(metadata),
    )


def missing(what: str, name: str) -> str:
    """That there is no such thing, for whoever asks."""
    shown = name[:60].encode("unicode_escape").decode()
    return f"No {what} '{shown}' is kept for you: it was never there, or has been deleted."


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _allowed(run: Run, caller: Caller) -> bool:
    return caller.models is None or run.model in caller.models
