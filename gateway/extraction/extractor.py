"""Requests for extractions -> runs that are under way, from their beginning or from where they ended."""

import contextlib
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import cachetools
import msgspec

from extractors import chunking
from extractors.book import UnknownRecipe
from extractors.chunking import Chunk
from extractors.errors import RecipeError
from extractors.files import FileError, ReaderMissing, Text
from extractors.passages import Frame
from extractors.recipe import Recipe, from_data
from extractors.workers import MissingError, SlowError, WorkerError, version
from gateway.caller import Caller
from gateway.errors import ExtractionFailed, ExtractionUnavailable, InvalidRequest, NoAnswer
from gateway.extraction import counting
from gateway.extraction.archive import Archive, document_of, looked_up, missing
from gateway.extraction.asking import Asker, Pipeline, Task
from gateway.extraction.going import Done, Journey
from gateway.extraction.grounding import Grounder
from gateway.extraction.keeping import Endings, Keeping
from gateway.extraction.session import Session
from gateway.extraction.told import Told, is_over
from gateway.extraction.turns import Turns
from gateway.extraction.views import Views
from gateway.routing.router import Router
from gateway.steering import Steering
from gateway.wire.extractions import Asked, Options, Wanted
from storage.errors import StorageError
from storage.extracted import SILENT_S, Call, ChunkSpan, Document, Run
from storage.extractions import Extractions

_PLAIN: Final = 256
_PLAIN_S: Final = 3600.0
"""For so long an engine that refused a schema is not asked again whether it knows it."""
_RUN: Final = "ext_"


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
    archive: Archive
    endings: Endings
    views: Views
    telemetry: Telemetry


class Workers(Protocol):
    """Who knows LangExtract."""

    async def chunks(self, text: str, most: int) -> list[Chunk]:
        """The chunks of a text."""
        ...

    async def text(self, data: bytes, media_type: str, charset: str, tenant: str) -> Text:
        """What a tenant's file says."""
        ...

    async def frame(self, recipe: Recipe) -> Frame:
        """What stands around each chunk in its prompt."""
        ...


class Extractor:
    """Begins runs, and goes on with them."""

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
        begun = Told(run, document, chunks)
        keep = partial(self._begun, begun, recipe)
        keeping = None if steering.no_store else self._keeping(keep)
        if asked.background:
            await looked_up(keep())
            keeping = self._keeping()
        elif asked.stream and keeping:  # it is told of at once, and may be cancelled at once
            with contextlib.suppress(StorageError):
                await keep()
                keeping = self._keeping()
        return Session(begun, self._journey(begun, recipe, frame, caller), self._heed(run), keeping)

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
        archive = self._kept.archive
        found = await archive.found(name, caller, with_text=True)
        said = await looked_up(self._store.recipe(caller.tenant, found.run.recipe, found.run.edition))
        if said is None:
            raise NoAnswer(missing("recipe of the extraction", name))
        recipe = _again(said, found.run.edition)
        self._router.model(found.run.model, caller.models)
        frame = await self._framed(recipe)
        run = await looked_up(self._store.reopen(name, caller.tenant, uuid.uuid4().hex))
        if run is None:
            message = f"The extraction '{name}' is complete, or goes on already; there is nothing to resume."
            if not is_over(found.run):
                message = (
                    f"The extraction '{name}' goes on: its process was heard of a moment ago. One that was not heard of"
                    f" for {SILENT_S:g} s is interrupted, and can be resumed then."
                )
            raise InvalidRequest(message, param="extraction_id", code="not_resumable")
        again = msgspec.structs.replace(found, run=run)
        done = _answered(await archive.calls(found))
        return Session(again, self._journey(again, recipe, frame, caller), self._heed(run), self._keeping(), done)

    async def read(self, data: bytes, media_type: str, charset: str, caller: Caller) -> Text:
        """What a caller's file says. Raises `InvalidRequest` and `ExtractionUnavailable`."""
        try:
            return await self._workers.text(data, media_type, charset, caller.tenant)
        except ReaderMissing as error:
            raise ExtractionUnavailable(str(error)) from error
        except SlowError as error:
            message = "The file takes too long to be read; send it in parts, or as text."
            raise InvalidRequest(message, param="file", code="unreadable_file") from error
        except (FileError, WorkerError) as error:
            raise InvalidRequest(str(error), param="file", code="unreadable_file") from error

    def recipe(self, name: str) -> Recipe:
        """A saved recipe. Raises `NoAnswer`, and `InvalidRequest` where its file is not valid."""
        try:
            return self._book.get(name)
        except UnknownRecipe as error:
            raise NoAnswer(str(error), param="recipe") from error
        except RecipeError as error:
            raise InvalidRequest(error.sentence, param="recipe", code="invalid_recipe") from error

    def _recipe(self, said: str | Recipe, where: str) -> Recipe:
        try:
            return self.recipe(said) if isinstance(said, str) else said
        except NoAnswer as error:
            raise InvalidRequest(str(error), param=where, code="unknown_recipe") from error

    async def _document(self, asked: Asked, caller: Caller) -> Document:
        if asked.document_id:
            return await self._kept.archive.document(asked.document_id, caller)
        return await document_of(asked.text, caller, {})

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

    async def _begun(self, begun: Told, recipe: Recipe) -> None:
        """Keep a run, before anything comes of it. Raises `StorageError`."""
        if begun.run.options["saved"]:
            await self._kept.views.ensure(recipe)
        spans = [ChunkSpan(chunk.index, chunk.start, chunk.end, chunk.sha256) for chunk in begun.chunks]
        await self._store.put_document(begun.document)
        await self._store.begin(begun.run, msgspec.to_builtins(recipe), spans)

    def _journey(self, told: Told, recipe: Recipe, frame: Frame, caller: Caller) -> Journey:
        """The way through a text, as the run says: at first and when it is gone on with."""
        run = told.run
        task = Task(
            recipe=recipe,
            frame=frame,
            options=msgspec.convert(run.options["given"], Options),
            model=run.model,
            caller=caller,
            steering=msgspec.convert(run.options.get("wishes", {}), Steering),
            turns=self._turns,
            plain=self._plain,
        )
        return Journey(Asker(self._pipeline, task), self._grounder, task, told.document.text)

    def _keeping(self, begin: Callable[[], Awaitable[None]] | None = None) -> Keeping:
        return Keeping(self._store, self._kept.endings, begin)

    def _heed(self, run: Run) -> Callable[[Done], None]:
        """Who counts what comes of a run's chunks."""
        return partial(_counted, self._kept.telemetry, run.tenant)


def _counted(telemetry: Telemetry, tenant: str, done: Done) -> None:
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
