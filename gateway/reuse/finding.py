"""A question in; out come kept answers to others near to it, the nearest first, and what speaks against each."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final, Protocol

import msgspec

from gateway.caller import Caller
from gateway.canonical import Request
from gateway.embedding.embedder import Vectors
from gateway.looking import Named
from gateway.reuse import judge
from gateway.reuse.judge import Pipeline
from gateway.semantic.asked import Asked, asked
from gateway.semantic.guard import LEFT_TO_JUDGE, MAX_CHARACTERS, Reason, verdict
from gateway.steering import Steering
from storage.entry import Query
from storage.errors import AskonceError
from storage.tiers import Found, Looked
from storage.vectors.models import Model
from storage.vectors.near import Neighbour

CANDIDATES: Final = 10
_LARGE: Final = 2**18
_LONG: Final = 1024
"""Characters that the guard reads in a few milliseconds; more are read in a thread."""
_FLOAT_BYTES: Final = 4


class Embedder(Protocol):
    """Who embeds."""

    async def embed(self, requests: Sequence[Request], caller: Caller, steering: Steering, reply_id: str) -> Vectors:
        """A vector for each request."""
        ...


class Neighbours(Protocol):
    """Who knows which prompts are near."""

    async def model(self) -> Model | None:
        """The one that what is kept is embedded by."""
        ...

    async def nearest(
        self, model: Model, place: tuple[bytes, str], vector: bytes, but: bytes, most: int
    ) -> list[Neighbour]:
        """The nearest first, of one context and scope."""
        ...


class Tiers(Protocol):
    """Where answers are kept."""

    async def get(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """The nearest entry of `key` that counts, promoted to the tiers above."""
        ...

    async def find(self, key: bytes, max_age_s: float | None = None, *, scope: str | None = None) -> Looked:
        """The same, left where it is; with `scope`, what is in another is not there."""
        ...


class Candidate(msgspec.Struct, frozen=True):
    """A kept answer to another question, and what is known of the two."""

    found: Found
    similarity: float
    reasons: tuple[Reason, ...]
    """What the guard has against it."""
    judged: bool | None = None
    """What the judging model says, where it was asked and said something clear."""
    by_model: bool = False
    """Whether its word counts."""

    @property
    def passes(self) -> bool:
        """Whether nothing but the threshold could speak against it."""
        return self.judged is True and may_be_judged(self.reasons) if self.by_model else not self.reasons


def may_be_judged(reasons: Iterable[str]) -> bool:
    """Whether the guard leaves it to a model."""
    return LEFT_TO_JUDGE.issuperset(reasons)


class Finder:
    """Looks for what is kept of questions that differ from one in nothing but the words of their last turn."""

    def __init__(
        self, embedder: Embedder, model: str, neighbours: Neighbours, tiers: Tiers, pipeline: Pipeline
    ) -> None:
        """`model` embeds; `pipeline` asks those that judge, and gives nothing but equal questions' answers itself."""
        self._embedder = embedder
        self._model = model
        self._neighbours = neighbours
        self._tiers = tiers
        self._pipeline = pipeline

    async def candidates(
        self, named: Named, caller: Caller, steering: Steering, floor: float
    ) -> AsyncGenerator[Candidate]:
        """Those at least as near as `floor`. Raises what asking other models and the database raises."""
        question = await _asked(named.query)
        if question is None or question.context is None or (model := await self._neighbours.model()) is None:
            return
        own, wishes = _for_itself(caller, steering)
        vector = await self._vector(question.text, model, own, wishes)
        if vector is None:
            return
        place = (question.context, named.query.scope)
        nearest = await self._neighbours.nearest(model, place, vector, named.query.key, CANDIDATES)
        nearest = [near for near in nearest if near.similarity >= floor]
        age_s, scope = named.terms.max_age_s, named.query.scope
        all_looked = await asyncio.gather(*(self._tiers.find(near.key, age_s, scope=scope) for near in nearest))
        for near, looked in zip(nearest, all_looked, strict=True):
            if looked.found is None or (text := await _same_but_words(looked.found, question)) is None:
                continue
            one = Candidate(looked.found, near.similarity, await _against(text, question.text))
            yield await self._judged(one, named, (text, question.text), (own, wishes))

    async def still(self, one: Candidate, named: Named) -> Found | None:
        """What is to be given of it, if it counts after all that was asked; it is brought near, like any hit."""
        return (await self._tiers.get(one.found.entry.query.key, named.terms.max_age_s)).found

    async def _vector(self, text: str, model: Model, caller: Caller, steering: Steering) -> bytes | None:
        """Of the whole text, by the model that the others' are of; kept like any other."""
        request = Request(kind="embedding", model=self._model, prompt={"input": text}, params={}, extra={})
        vectors = await self._embedder.embed([request], caller, steering, "")
        [vector] = vectors.values
        told = (self._model, vectors.model_version, len(vector) // _FLOAT_BYTES)
        return vector if model.is_of(*told) else None

    async def _judged(
        self, one: Candidate, named: Named, texts: tuple[str, str], asking: tuple[Caller, Steering]
    ) -> Candidate:
        near = named.terms.near
        if near is None or not near.judge or not may_be_judged(one.reasons):
            return one
        try:
            said = await judge.judged(self._pipeline, near.judge, texts, *asking)
        except AskonceError:  # nobody has said yes
            said = None
        return msgspec.structs.replace(one, judged=said, by_model=True)


async def _asked(query: Query) -> Asked | None:
    """The words of a question; None of one that is more than the guard reads."""
    large = len(query.prompt) > _LARGE
    question = await asyncio.to_thread(asked, query) if large else asked(query)
    return question if len(question.text) <= MAX_CHARACTERS else None


async def _against(one: str, other: str) -> tuple[Reason, ...]:
    """What the guard has against giving one's answer to the other."""
    long = len(one) + len(other) > _LONG
    return (await asyncio.to_thread(verdict, one, other) if long else verdict(one, other)).reasons


async def _same_but_words(found: Found, question: Asked) -> str | None:
    """The words of a kept question; None where more than these differs, whatever a row says of it."""
    other = await _asked(found.entry.query)
    return other.text if other is not None and other.context == question.context else None


def _for_itself(caller: Caller, steering: Steering) -> tuple[Caller, Steering]:
    """Who asks the models that this takes: the same tenant, whose key need not be allowed to; and how."""
    own = Caller(tenant=caller.tenant, namespace=caller.namespace, key_id=caller.key_id)
    return own, Steering(no_store=steering.no_store, only_if_cached=steering.only_if_cached)
