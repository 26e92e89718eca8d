"""Requests for extractions -> runs: begun, gone on with, found again, ended and forgotten."""

import asyncio
import hashlib
import re
import time
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import cachetools
import msgspec

from extractors import chunking
from extractors.book import UnknownRecipe
from extractors.chunking import Chunk
from extractors.passages import Frame
from extractors.recipe import Recipe, from_data
from extractors.shapes import RecipeError
from extractors.workers import MissingError, SlowError, WorkerError, version
from gateway.caller import Caller
from gateway.errors import (
    ExtractionFailed,
    ExtractionUnavailable,
    InvalidRequest,
    NoAnswer,
    StorageUnavailable,
)
from gateway.extraction import counting
from gateway.extraction.asking import Asker, Pipeline, Task
from gateway.extraction.going import Done, Journey
from gateway.extraction.grounding import Grounder
from gateway.extraction.session import Session
from gateway.extraction.told import Told
from gateway.extraction.turns import Turns
from gateway.extraction.views import Views
from gateway.routing.router import Router
from gateway.steering import Steering
from gateway.wire.extractions import Asked, Options, Wanted
from storage.errors import RefusedError, StorageError
from storage.extractions import Call, ChunkSpan, Document, Extractions, Run

_LONG: Final = 500_000
"""Code points from which on it takes a millisecond to hash them."""
_PLAIN: Final = 256
_PLAIN_S: Final = 3600.0
"""For so long an engine that refused a schema is not asked again whether it knows it."""
_RUN: Final = "ext_"
_DOCUMENT: Final = "doc_"
_ID: Final = re.compile(r"(?:ext|doc)_[0-9a-f]{32}", re.ASCII)
_DOWN: Final = (
    "The database cannot be reached, so nothing can be looked up, begun in the background or deleted; try again."
)

T = TypeVar("T")


class Book(Protocol):
    """Where saved recipes are."""

    def get(self, name: str) -> Recipe:
        """The recipe of this name."""
        ...


class Telemetry(Protocol):
    """Where it is counted what came of chunks."""

    def extracted(self, tenant: str, status: str, cache: str) -> None:
        """A pass over a chunk of a text has ended."""
        ...

    def grounded(self, tenant: str, place: str, records: int) -> None:
        """So many records were found, of which this is known."""
        ...


class Kept(msgspec.Struct, frozen=True):
    """Where runs, views and counts of them are."""

    store: Extractions
    views: Views
    telemetry: Telemetry


class Workers(Protocol):
    """Who knows LangExtract."""

    async def chunks(self, text: str, most: int) -> list[Chunk]:
        """The chunks of a text."""
        ...

    async def frame(self, recipe: Recipe) -> Frame:
        """What stands around each chunk in its prompt."""
        ...


class Extractor:
    """Begins runs and finds them again."""

    def __init__(
        self,
        pipeline: Pipeline,
        router: Router,
        book: Book,
        workers: Workers,
        grounder: Grounder,
        kept: Kept,
    ) -> None:
        self._pipeline = pipeline
        self._router = router
        self._book = book
        self._workers = workers
        self._grounder = grounder
        self._kept = kept
        self._store = kept.store
        self._turns = Turns()
        self._plain: cachetools.TTLCache[tuple[str, bytes], None] = cachetools.TTLCache(_PLAIN, _PLAIN_S)

    async def begin(self, asked: Asked, caller: Caller, steering: Steering) -> Session:
        """A run over the text that is `asked` about. Where the database is away it is not kept, and says so; but for
        what is to go on without its client, and a document that is only named.

        Raises `UnknownModel`, `InvalidRequest`, `NoAnswer`, `StorageUnavailable`, `ExtractionUnavailable`.
        """
        if asked.background and steering.no_store:
            message = "What goes on in the background has to be kept; leave out 'background' or 'no-store'."
            raise InvalidRequest(message, param="background", code="invalid_value")
        recipe = self._recipe(asked.wanted.recipe, "recipe")
        model = self._router.model(asked.model, caller.models).name
        document = await self._document(asked, caller)
        frame, chunks = await self._planned(recipe, document.text, asked.wanted.options.chunk_chars)
        run = _run(recipe, asked.wanted, model, document, caller)
        wishes = {"wishes": msgspec.to_builtins(steering)}
        run = msgspec.structs.replace(run, chunks=len(chunks), options=run.options | wishes)
        task = Task(
            recipe=recipe,
            frame=frame,
            options=asked.wanted.options,
            model=model,
            caller=caller,
            steering=steering,
            turns=self._turns,
            plain=self._plain,
        )
        session = self._session(run, document, chunks, task, is_kept=not steering.no_store)
        keep = partial(self._begun, run, document, recipe, chunks)
        if asked.background:
            await self._looked_up(keep())
        else:
            session.begin = keep
        return session

    def expect(self, wanted: Wanted, where: str) -> None:
        """Raise `InvalidRequest`, which names the recipe's place, and `ExtractionUnavailable`, as `begin` would."""
        self._recipe(wanted.recipe, where)
        try:
            version()
        except MissingError as error:
            raise ExtractionUnavailable(str(error)) from error

    async def resume(self, name: str, caller: Caller) -> Session:
        """The rest of a run that ended before it was complete, or whose worker is gone.

        Raises `NoAnswer`, `StorageUnavailable`, `InvalidRequest` for one that is complete or goes on already, and what
        `begin` raises.
        """
        found = await self.found(name, caller, with_text=True)
        said = await self._looked_up(self._store.recipe(caller.tenant, found.run.recipe, found.run.edition))
        if said is None:
            raise NoAnswer(_missing("recipe of the extraction", name))
        recipe, options = _again(said, found.run.edition), msgspec.convert(found.run.options["given"], Options)
        steering = msgspec.convert(found.run.options.get("wishes", {}), Steering)
        self._router.model(found.run.model, caller.models)
        frame = await self._framed(recipe)
        run = await self._looked_up(self._store.reopen(name, caller.tenant, uuid.uuid4().hex))
        if run is None:
            message = f"The extraction '{name}' is complete, or goes on already; there is nothing to resume."
            raise InvalidRequest(message, param="extraction_id", code="not_resumable")
        task = Task(
            recipe=recipe,
            frame=frame,
            options=options,
            model=run.model,
            caller=caller,
            steering=steering,
            turns=self._turns,
            plain=self._plain,
        )
        session = self._session(run, found.document, found.chunks, task, is_kept=True)
        session.had(_answered(await self.calls(found)))
        return session

    async def run(self, name: str, caller: Caller) -> Run:
        """A run of this tenant's. Raises `NoAnswer` and `StorageUnavailable`."""
        run = await self._looked_up(self._store.run(name, caller.tenant)) if _ID.fullmatch(name) else None
        if run is None or not _allowed(run, caller):
            raise NoAnswer(_missing("extraction", name), param="extraction_id")
        return run

    async def found(self, name: str, caller: Caller, *, with_text: bool = False) -> Told:
        """The same, with its chunks and its document. Raises `NoAnswer` and `StorageUnavailable`."""
        run = await self.run(name, caller)
        document = await self.document(run.document_id, caller, with_text=with_text)
        spans = await self._looked_up(self._store.chunks(run.document_id, run.chunker))
        return Told(run, document, [Chunk(one.ordinal, one.start, one.end, one.sha256) for one in spans])

    async def calls(self, told: Told, since: int = 0) -> list[Call]:
        """What came of a run, or only what was kept after the call of a serial. Raises `StorageUnavailable`."""
        return await self._looked_up(self._store.calls_since(told.run.id, since))

    async def listed(
        self, caller: Caller, limit: int, before: float | None = None, document_id: str | None = None
    ) -> list[Run]:
        """The tenant's runs, newest first. Raises `StorageUnavailable`."""
        return await self._looked_up(self._store.runs(caller.tenant, limit, before, document_id, caller.models))

    async def cancel(self, name: str, caller: Caller) -> Run:
        """Have a run end. One that is over stays as it is. Raises `NoAnswer` and `StorageUnavailable`."""
        await self.run(name, caller)
        run = await self._looked_up(self._store.cancel(name, caller.tenant))
        if run is None:
            raise NoAnswer(_missing("extraction", name), param="extraction_id")
        return run

    async def forget(self, name: str, caller: Caller) -> None:
        """Delete a run with its records; its document stays. Raises `NoAnswer` and `StorageUnavailable`."""
        await self.run(name, caller)
        await self._looked_up(self._store.delete_run(name, caller.tenant))

    async def keep_document(self, text: str, metadata: Mapping[str, Any], caller: Caller) -> Document:
        """A document that requests may name. Raises `StorageUnavailable`."""
        return await self._looked_up(self._store.put_document(await _document(text, caller, metadata)))

    async def document(self, name: str, caller: Caller, *, with_text: bool = True) -> Document:
        """A document of this tenant's. Raises `NoAnswer` and `StorageUnavailable`."""
        look = self._store.document if with_text else self._store.document_head
        found = await self._looked_up(look(name, caller.tenant)) if _ID.fullmatch(name) else None
        if found is None:
            raise NoAnswer(_missing("document", name), param="document_id")
        return found

    async def forget_document(self, name: str, caller: Caller) -> None:
        """Delete a document with all runs over it. Raises `NoAnswer` and `StorageUnavailable`."""
        await self.document(name, caller, with_text=False)
        await self._looked_up(self._store.delete_document(name, caller.tenant))

    def recipe(self, name: str) -> Recipe:
        """A saved recipe. Raises `NoAnswer`, and `InvalidRequest` where its file is not valid."""
        try:
            return self._book.get(name)
        except UnknownRecipe as error:
            raise NoAnswer(str(error), param="recipe") from error
        except RecipeError as error:
            raise InvalidRequest(str(error), param="recipe", code="invalid_recipe") from error

    def _recipe(self, said: str | Recipe, where: str) -> Recipe:
        try:
            return self.recipe(said) if isinstance(said, str) else said
        except NoAnswer as error:
            raise InvalidRequest(str(error), param=where, code="unknown_recipe") from error

    async def _document(self, asked: Asked, caller: Caller) -> Document:
        if asked.document_id:
            return await self.document(asked.document_id, caller)
        return await _document(asked.text, caller, {})

    async def _planned(self, recipe: Recipe, text: str, most: int) -> tuple[Frame, list[Chunk]]:
        frame = await self._framed(recipe)
        try:
            return frame, await self._workers.chunks(text, most)
        except SlowError as error:
            message = "The text has lines that are too long to be divided in time; break them into shorter ones."
            raise InvalidRequest(message, param="text", code="lines_too_long") from error
        except WorkerError as error:
            raise ExtractionFailed(str(error)) from error

    async def _framed(self, recipe: Recipe) -> Frame:
        try:
            return await self._workers.frame(recipe)
        except MissingError as error:
            raise ExtractionUnavailable(str(error)) from error
        except WorkerError as error:
            raise ExtractionFailed(str(error)) from error

    async def _begun(self, run: Run, document: Document, recipe: Recipe, chunks: Sequence[Chunk]) -> None:
        """Keep a run, before anything comes of it. Raises `StorageError`."""
        if run.options["saved"]:
            await self._kept.views.ensure(recipe)
        spans = [ChunkSpan(chunk.index, chunk.start, chunk.end, chunk.sha256) for chunk in chunks]
        await self._store.put_document(document)
        await self._store.begin(run, msgspec.to_builtins(recipe), spans)

    def _session(self, run: Run, document: Document, chunks: Sequence[Chunk], task: Task, *, is_kept: bool) -> Session:
        journey = Journey(Asker(self._pipeline, task), self._grounder, task, document.text)
        session = Session(run, document, chunks, journey, self._store if is_kept else None)
        session.heed = partial(self._counted, run.tenant)
        return session

    def _counted(self, tenant: str, done: Done) -> None:
        telemetry = self._kept.telemetry
        for call in done.calls:
            if call.chosen:
                telemetry.extracted(tenant, call.status, call.cache or "none")
        found = counting.of_records([record for call in done.calls for record in call.records if record.kept])
        aligned = found["records"] - found["verbatim"] - found["unaligned"]
        for place, records in (
            ("verbatim", found["verbatim"]),
            ("aligned", aligned),
            ("unaligned", found["unaligned"]),
        ):
            telemetry.grounded(tenant, place, records)

    async def _looked_up(self, asked: Awaitable[T]) -> T:
        try:
            return await asked
        except RefusedError as error:
            message = f"That cannot be kept: {error}."
            raise InvalidRequest(message, code="invalid_value") from error
        except StorageError as error:
            raise StorageUnavailable(_DOWN) from error


async def _document(text: str, caller: Caller, metadata: Mapping[str, Any]) -> Document:
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


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _run(recipe: Recipe, wanted: Wanted, model: str, document: Document, caller: Caller) -> Run:
    schema = hashlib.sha256(msgspec.json.encode(recipe.schema)).hexdigest()
    return Run(
        id=_RUN + uuid.uuid4().hex,
        tenant=caller.tenant,
        scope=caller.scope,
        document_id=document.id,
        recipe=recipe.name,
        edition=recipe.edition,
        model=model,
        options={"given": msgspec.to_builtins(wanted.options), "schema_hash": schema, "saved": _is_saved(wanted)},
        langextract=version(),
        chunker=f"{chunking.CHUNKER} {wanted.options.chunk_chars} langextract/{version()}",
        passes=wanted.options.passes,
        created_at=time.time(),
        metadata=dict(wanted.metadata),
        made_by=caller.key_id,
        worker=uuid.uuid4().hex,
    )


def _is_saved(wanted: Wanted) -> bool:
    """Whether the recipe is one that the server has."""
    return isinstance(wanted.recipe, str)


def _again(said: Any, edition: str) -> Recipe:
    """A recipe as it was kept. Raises `InvalidRequest` where this version would take it for another one."""
    try:
        recipe = from_data(said)
        if recipe.edition != edition:
            raise RecipeError("it is read in another way than it was.", "")
    except RecipeError as error:
        message = f"The recipe of this extraction is not valid any more: {error}"
        raise InvalidRequest(message, param="recipe", code="invalid_recipe") from error
    return recipe


def _answered(calls: Sequence[Call]) -> list[Call]:
    """The calls of chunks that need not be asked about again."""
    failed = {call.chunk for call in calls if call.chosen and call.status == "failed"}
    return [call for call in calls if call.chunk not in failed]


def _allowed(run: Run, caller: Caller) -> bool:
    return caller.models is None or run.model in caller.models


def _missing(what: str, name: str) -> str:
    shown = name[:60].encode("unicode_escape").decode()
    return f"No {what} '{shown}' is kept for you: it was never there, or has been deleted."
