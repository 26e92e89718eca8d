"""What is looked for -> passages, records and answers that say it: by their words, or by their vectors."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import asyncpg
import msgspec

from storage import sql
from storage.errors import TooMuchError
from storage.extraction_rows import refusals
from storage.guard import Guard
from storage.rows import storable
from storage.vector import unpacked

T = TypeVar("T")

Kind = Literal["chunk", "record", "prompt"]
"""As in `askonce.embeddings`: a passage of a document, an extracted record, a kept answer's question."""
MANY_VECTORS: Final = 50_000
"""Up to so many are all compared, which misses nothing. Beyond, the model's index is asked."""
_DEADLINES: Final = 10
"""How much longer than a look-up a search may take."""
_PATIENCE: Final = 0.8
"""Of a deadline: how long the database may compute. Who waits longer has not been heard."""
_LONGEST_WORDS: Final = 64
"""Of a question, that are looked for: each is a list of all passages that have it."""
_BRACES: Final = re.compile(r"\{(?:model|distance|fence)\}")
_BY_WORDS: Final[Mapping[Kind, str]] = {"chunk": "search_text_passages", "record": "search_text_records"}
_BY_VECTOR: Final[Mapping[Kind, str]] = {
    "chunk": "search_vector_passages",
    "record": "search_vector_records",
    "prompt": "search_vector_completions",
}
_SHOWN: Final[Mapping[Kind, str]] = {
    "chunk": "search_passages",
    "record": "search_records",
    "prompt": "search_completions",
}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for, and whose it must be."""

    text: str
    tenant: str
    scope: str
    """Where answers are looked for."""
    limit: int
    without: Sequence[str] = ()
    """Words and phrases that nothing of what is found may have."""
    models: Sequence[str] | None = None
    """Whose answers and records may be given; None for all."""
    collection: str | None = None
    document_ids: Sequence[str] | None = None
    filters: str | None = None
    """A predicate of SQL/JSON about the attributes of a document."""

    @property
    def reach(self) -> tuple[bool, str | None, Sequence[str] | None, str | None]:
        """Whether all documents are searched, and if not, which."""
        narrowed = (self.collection, self.document_ids, self.filters)
        return (all(one is None for one in narrowed), *narrowed)


class Model(msgspec.Struct, frozen=True):
    """The model that vectors are of."""

    id: int
    model: str
    model_version: str
    dimensions: int


class Place(msgspec.Struct, frozen=True):
    """What was found: the id of a passage, the key of an answer, or the five names of a record."""

    kind: Kind
    ids: tuple[Any, ...]


class Candidate(msgspec.Struct, frozen=True):
    """Something that was found, and how well it fits: only what was found in the same way can be compared."""

    place: Place
    score: float


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A row of what was found, as it is told."""

    place: Place
    fields: Mapping[str, Any]
    marked: str
    """Its text with what was found between U+0001 and U+0002."""


class Search:
    """Asks the database.

    Every call raises `RefusedError` for what no question can be made of, and `StorageError` when the database cannot be
    asked in time.
    """

    def __init__(self, pool: asyncpg.Pool, guard: Guard, deadline_s: float) -> None:
        self._pool = pool
        self._guard = guard
        self._deadline_s = deadline_s * _DEADLINES

    async def model(self) -> Model | None:
        """The model that vectors are of; None where there is none."""

        async def asked() -> Model | None:
            with contextlib.suppress(asyncpg.UndefinedTableError):  # a Postgres without pgvector
                row = await self._pool.fetchrow(sql.query("search_model"))
                return Model(*row) if row else None
            return None

        return await self._guard.call("search_model", asked, self._deadline_s)

    async def vectors(self, model: Model, wanted: Wanted, kind: Kind) -> int:
        """How many vectors there are to compare with, counted up to one more than `MANY_VECTORS`."""
        scope = _scope(wanted, kind)
        rows = await self._fetch("search_vectors", model.id, scope, [kind], MANY_VECTORS + 1)
        return rows[0][0]

    async def by_words(self, wanted: Wanted, kind: Kind, *, any_word: bool) -> list[Candidate]:
        """What has all words, or any that means something, the best first. Answers are not found so."""
        if kind == "prompt":
            return []
        models = [wanted.models] if kind == "record" else []
        words = " ".join(storable(wanted.text).split()[:_LONGEST_WORDS])
        asked = (wanted.tenant, words, *wanted.reach, any_word, wanted.limit, *models, wanted.without)
        return _candidates(await self._fetch(_BY_WORDS[kind], *asked))

    async def by_vector(
        self, wanted: Wanted, kind: Kind, model: Model, vector: bytes, *, exact: bool
    ) -> list[Candidate]:
        """What is nearest to a vector, the nearest first: of all there is, or as its index finds them."""
        text = _distances(model, sql.query(_BY_VECTOR[kind]), exact=exact)
        said = "[" + ",".join(map(repr, unpacked(vector))) + "]"
        if kind == "prompt":
            asked: tuple[Any, ...] = (wanted.scope, said, wanted.limit, wanted.models, wanted.without)
        else:
            models = [wanted.models] if kind == "record" else []
            asked = (wanted.tenant, said, *wanted.reach, wanted.limit, *models, wanted.without)

        async def fetched(connection: Any) -> list[Any]:
            if not exact:
                await connection.execute(sql.query("search_iterative"))
            return await connection.fetch(text, *asked)

        return _candidates(await self._transaction("search_vector", fetched))

    async def shown(self, wanted: Wanted, places: Sequence[Place]) -> dict[Place, Found]:
        """The rows of what was found. What is gone meanwhile is left out."""
        said = storable(wanted.text)
        found: dict[Place, Found] = {}
        for kind, query in _SHOWN.items():
            if ids := [place.ids for place in places if place.kind == kind]:
                columns = [list(column) for column in zip(*ids, strict=True)]
                within = [wanted.collection] if kind == "chunk" else []
                rows = await self._fetch(query, _scope(wanted, kind), *columns, said, *within)
                found |= {one.place: one for one in map(_FOUND[kind], rows)}
        return found

    async def has_collection(self, name: str, tenant: str) -> bool:
        """Whether a tenant has this collection."""
        return bool(await self._fetch("collection_has", name, tenant))

    async def aclose(self) -> None:
        """End calls that never came back."""
        self._guard.close()

    async def _fetch(self, query: str, *asked: Any) -> list[Any]:
        async def fetched(connection: Any) -> list[Any]:
            return await connection.fetch(sql.query(query), *asked)

        return await self._bounded(query, fetched)

    async def _transaction(self, doing: str, work: Callable[[Any], Awaitable[T]]) -> T:
        async def done(connection: Any) -> T:
            async with connection.transaction(readonly=True):
                return await work(connection)

        return await self._bounded(doing, done)

    async def _bounded(self, doing: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """What a server that is well takes too long for is the question's fault, and others go on asking it."""

        async def done() -> T:
            with refusals():
                async with self._pool.acquire() as connection:
                    try:
                        async with asyncio.timeout(_PATIENCE * self._deadline_s):
                            return await work(connection)
                    except (TimeoutError, asyncpg.QueryCanceledError) as error:
                        raise TooMuchError from error

        return await self._guard.call(doing, done, self._deadline_s)


def _distances(model: Model, text: str, *, exact: bool) -> str:
    """A question about one model's vectors. Its index is of vectors of so many numbers."""
    size = "" if exact else f"({model.dimensions})"
    column = "e.embedding" if exact else f"(e.embedding::halfvec{size})"
    distance = f"{column} <=> (select $2::text::halfvec{size})"
    fence = "materialized" if exact else "not materialized"
    parts = {"{model}": str(model.id), "{distance}": distance, "{fence}": fence}
    return _BRACES.sub(lambda found: parts[found[0]], text)


def _scope(wanted: Wanted, kind: Kind) -> str:
    return wanted.scope if kind == "prompt" else wanted.tenant


def _candidates(rows: Sequence[Any]) -> list[Candidate]:
    return [Candidate(_place(row), row["score"]) for row in rows]


def _place(row: Any) -> Place:
    match row["kind"]:
        case "chunk":
            return Place("chunk", (row["passage"],))
        case "prompt":
            return Place("prompt", (row["completion"],))
        case _:
            return Place("record", _record(row))


def _record(row: Any) -> tuple[Any, ...]:
    return (row["run_id"], row["chunk"], row["pass"], row["attempt"], row["ord"])


def _passage_found(row: Any) -> Found:
    return _found(Place("chunk", (row["passage"],)), row)


def _record_found(row: Any) -> Found:
    return _found(Place("record", _record(row)), row)


def _answer_found(row: Any) -> Found:
    return _found(Place("prompt", (row["key"],)), row)


def _found(place: Place, row: Any) -> Found:
    return Found(place=place, fields=dict(row), marked=row["marked"])


_FOUND: Final[Mapping[str, Callable[[Any], Found]]] = {
    "chunk": _passage_found,
    "record": _record_found,
    "prompt": _answer_found,
}
