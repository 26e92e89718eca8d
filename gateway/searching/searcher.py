"""A question -> what says it: full text and vectors, joined, within what the caller may see."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from gateway.caller import Caller
from gateway.canonical import Request
from gateway.embedding.embedder import Vectors
from gateway.errors import BackendError, InvalidRequest, NoAnswer, RequestError
from gateway.extraction.archive import looked_up, missing
from gateway.searching.fusing import Fused, fused
from gateway.steering import Steering
from gateway.wire.search import Asked
from storage.search import MANY_VECTORS, Candidate, Found, Kind, Model, Place, Wanted

T = TypeVar("T")

_CANDIDATES: Final = 4
"""How many times as many as are wanted are taken from each ranking, for what one has low another may have high."""
_LEAST: Final = 40
_KINDS: Final[Mapping[str, Kind]] = {"documents": "chunk", "records": "record", "completions": "prompt"}
_OPERATORS: Final = re.compile(r'"|\sor\s', re.IGNORECASE)
"""What says exactly what is looked for: nothing else is, then."""
_QUOTES: Final = re.compile("[“”„«»]")
_HYPHENS: Final = re.compile(r"(?<!\w)-+")
"""Those within words are part of them; to Postgres all others say what is not to be found."""
_MARKS: Final = re.compile(rf'["“”„«»]|{_HYPHENS.pattern}|(?<=\s)or(?=\s)', re.IGNORECASE)
"""What would say how to search, in words that say what is meant."""
_WITHOUT: Final = re.compile(r'(?:^|(?<=\s))-(?:"([^"]*\w[^"]*)"|([^\s"-][^\s"]*))')
"""What is not to be found, as search engines take it: a word, or a phrase in quotes, after a hyphen."""
_REFUSAL: Final = "Vectors cannot be compared: {}. With 'mode': 'text' words of documents and records are looked for."
_NO_WISHES: Final = Steering()
_NO_MODEL: Final = "no model that embeds is configured here"
_NO_VECTORS: Final = "nothing of what is searched has been embedded yet"
_OTHER_VECTORS: Final = "what is kept is just being embedded anew, by another version of the model"


class Store(Protocol):
    """Who asks the database."""

    async def model(self) -> Model | None:
        """The model that vectors are of."""
        ...

    async def vectors(self, model: Model, wanted: Wanted, kind: Kind) -> int:
        """How many vectors there are to compare with."""
        ...

    async def by_words(self, wanted: Wanted, kind: Kind, *, any_word: bool) -> list[Candidate]:
        """What has all words, or any."""
        ...

    async def by_vector(
        self, wanted: Wanted, kind: Kind, model: Model, vector: bytes, *, exact: bool
    ) -> list[Candidate]:
        """What is nearest to a vector."""
        ...

    async def shown(self, wanted: Wanted, places: Sequence[Place]) -> dict[Place, Found]:
        """The rows of what was found."""
        ...

    async def has_collection(self, name: str, tenant: str) -> bool:
        """Whether a tenant has this collection."""
        ...


class Embedder(Protocol):
    """Who gives vectors."""

    async def embed(self, requests: Sequence[Request], caller: Caller, steering: Steering, reply_id: str) -> Vectors:
        """The vector of each request."""
        ...


class Hit(msgspec.Struct, frozen=True):
    """Something that was found, with its row."""

    fused: Fused
    found: Found


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found, the best first, and how."""

    hits: Sequence[Hit]
    searched: Sequence[str]
    """`text`, `vector`, or both."""
    skipped: Mapping[str, str]
    """Why one of them was not searched that should have been."""


class _NotSearched(Exception):
    """Vectors were not compared, for this reason."""


class Searcher:
    """Searches what is kept for a caller's tenant."""

    def __init__(self, store: Store, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder

    async def search(self, asked: Asked, caller: Caller) -> Results:
        """What was found, in the places that the caller may see.

        Raises `InvalidRequest` where only vectors were to be compared, and there are none; `NoAnswer` where there is no
        such collection; `Forbidden`; `StorageUnavailable`; and what the embedding of the question raises.
        """
        if "completions" in asked.kinds:
            caller.expect("cache")
        if asked.kinds == ("completions",) and asked.mode == "text":
            message = "Answers are found by vectors alone; leave out 'mode', or ask for their words in SQL (/v1/sql)."
            raise InvalidRequest(message, param="mode", code="invalid_value")
        await self._expect(asked.collection, caller)
        wanted = _wanted(asked, caller)
        kinds: list[Kind] = [_KINDS[one] for one in asked.kinds]
        skipped: dict[str, str] = {}
        async with _beside(self._by_words(wanted, kinds) if _has_words(asked) else None) as words:
            near: list[Candidate] | None = None
            if asked.mode != "text":
                try:
                    near = await self._by_vector(wanted, kinds, caller, asked)
                except _NotSearched as reason:
                    skipped["vector"] = str(reason)
            found_by = {"text": await words if words else None, "vector": near}
        rankings = {way: ranking for way, ranking in found_by.items() if ranking is not None}
        if not rankings:
            raise InvalidRequest(_REFUSAL.format(skipped["vector"].rstrip(".")), param="mode", code="no_vectors")
        best = fused(rankings)[: asked.limit]
        found = await looked_up(self._store.shown(wanted, [one.place for one in best]))
        hits = [Hit(one, found[one.place]) for one in best if one.place in found]
        return Results(hits=hits, searched=list(rankings), skipped=skipped)

    async def _expect(self, collection: str | None, caller: Caller) -> None:
        if collection is not None and not await looked_up(self._store.has_collection(collection, caller.tenant)):
            raise NoAnswer(missing("vector store", collection), param="collection")

    async def _by_words(self, wanted: Wanted, kinds: Sequence[Kind]) -> list[Candidate]:
        """What has all words, and after it, where that is not enough, what has some of them."""
        found = await self._words(wanted, kinds, any_word=False)
        if len(found) >= wanted.limit or _OPERATORS.search(wanted.text):
            return found
        known = {one.place for one in found}
        more = await self._words(wanted, kinds, any_word=True)
        return [*found, *(one for one in more if one.place not in known)][: wanted.limit]

    async def _words(self, wanted: Wanted, kinds: Sequence[Kind], *, any_word: bool) -> list[Candidate]:
        found = [await looked_up(self._store.by_words(wanted, kind, any_word=any_word)) for kind in kinds]
        return _ranked(found, wanted.limit)

    async def _by_vector(self, wanted: Wanted, kinds: Sequence[Kind], caller: Caller, asked: Asked) -> list[Candidate]:
        """What is nearest. Raises `_NotSearched`, and what embedding raises where nothing else is searched."""
        if (model := await looked_up(self._store.model())) is None:
            raise _NotSearched(_NO_MODEL)
        counts: dict[Kind, int] = {kind: await looked_up(self._store.vectors(model, wanted, kind)) for kind in kinds}
        if not any(counts.values()):
            raise _NotSearched(_NO_VECTORS)
        try:
            vector = await self._vector(wanted.text if asked.operators else asked.query, model, caller)
        except (BackendError, RequestError) as error:
            if asked.mode == "vector":
                raise
            raise _NotSearched(str(error)) from error
        found = [
            await looked_up(self._store.by_vector(wanted, kind, model, vector, exact=count <= MANY_VECTORS))
            for kind, count in counts.items()
            if count
        ]
        return _ranked(found, wanted.limit)

    async def _vector(self, text: str, model: Model, caller: Caller) -> bytes:
        """The question's, of the model that the others are of. Raises as `Embedder.embed`, and `_NotSearched`."""
        asked = Request(
            kind="embedding", model=model.model, prompt={"input": text}, params={}, extra={}, size_bytes=len(text)
        )
        vectors = await self._embedder.embed([asked], caller, _NO_WISHES, f"embd-{uuid.uuid4().hex}")
        (values,) = vectors.values
        if vectors.model_version != model.model_version or len(values) != 4 * model.dimensions:
            raise _NotSearched(_OTHER_VECTORS)
        return values


@contextlib.asynccontextmanager
async def _beside(doing: Coroutine[Any, Any, T] | None) -> AsyncGenerator[asyncio.Task[T] | None]:
    """A task that is ended where nobody waits for it any more."""
    if doing is None:
        yield None
        return
    task = asyncio.create_task(doing)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _has_words(asked: Asked) -> bool:
    return asked.mode != "vector" and asked.kinds != ("completions",)


def _wanted(asked: Asked, caller: Caller) -> Wanted:
    text, without = _said(asked.query) if asked.operators else (_MARKS.sub(" ", asked.query), ())
    return Wanted(
        text=text,
        without=without,
        tenant=caller.tenant,
        scope=caller.scope,
        limit=max(_LEAST, _CANDIDATES * asked.limit),
        models=None if caller.models is None else sorted(caller.models),
        collection=asked.collection,
        document_ids=asked.document_ids,
        filters=asked.filters,
    )


def _said(query: str) -> tuple[str, Sequence[str]]:
    """What is to be found, and what is not, of a query as search engines take it. Raises `InvalidRequest`."""
    query = _QUOTES.sub('"', query)
    if query.count('"') % 2:  # one that is never closed quotes nothing
        query = "".join(query.rsplit('"', 1))
    without = [phrase or word for phrase, word in _WITHOUT.findall(query)]
    text = _HYPHENS.sub(" ", _WITHOUT.sub(" ", query))
    text = " ".join(text.split()) if without else text
    if without and not text:
        message = "'query' says only what is not to be found; say also what is."
        raise InvalidRequest(message, param="query", code="invalid_value")
    return text, without


def _ranked(found: Sequence[Sequence[Candidate]], limit: int) -> list[Candidate]:
    """What was found in the same way, the best first; what is as good, in the same order each time."""
    every = (one for some in found for one in some)
    return sorted(every, key=lambda one: (-one.score, one.place.kind, one.place.ids))[:limit]
