"""Texts -> vectors of one model, as far as it takes them: of what is too long, a vector of its beginning."""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from gateway.caller import Caller
from gateway.canonical import Request
from gateway.embedding.embedder import Vectors
from gateway.errors import BackendRefused, InvalidRequest
from gateway.steering import Steering

_STEERING: Final = Steering(no_store=True)
"""Vectors have rows of their own: what the cache has of them is used, and it is given no more."""
_AT_ONCE: Final = 4
"""Texts in a call: whoever asks for a vector meanwhile waits for no more than these."""
_LONGEST: Final = 20_000
_SHORTEST: Final = 16


class Embedder(Protocol):
    """Who embeds."""

    async def embed(self, requests: Sequence[Request], caller: Caller, steering: Steering, reply_id: str) -> Vectors:
        """A vector for each request."""
        ...


class Read(msgspec.Struct, frozen=True):
    """One text's vector."""

    vector: bytes
    """Little-endian float32s."""
    whole: bool
    """Whether it is of the whole text."""


class Told(msgspec.Struct, frozen=True):
    """What a model made of some texts."""

    model_version: str
    """Empty where it became another one meanwhile."""
    reads: list[Read | None]
    """In their order; None for what it takes no part of."""


class Reader:
    """Asks the model that clients call `model`."""

    def __init__(self, embedder: Embedder, model: str) -> None:
        self.model = model
        self._embedder = embedder

    async def read(self, texts: Sequence[str], scope: str) -> Told:
        """Vectors of some texts of one place. Raises `BackendError` and `RequestError` for what is no text's fault."""
        reads: list[Read | None] = []
        versions: set[str] = set()
        refused: BackendRefused | InvalidRequest | None = None
        for start in range(0, len(texts), _AT_ONCE):
            some = texts[start : start + _AT_ONCE]
            try:
                told = await self._some(some, scope)
            except (BackendRefused, InvalidRequest) as error:
                refused = error
                reads += [None] * len(some)
            else:
                versions.add(told.model_version)
                reads += told.reads
        if refused and not versions:  # all of them: perhaps it is not the texts
            raise refused
        return Told(versions.pop() if len(versions) == 1 else "", reads)

    async def _some(self, texts: Sequence[str], scope: str) -> Told:
        cut = [text[:_LONGEST] for text in texts]
        try:
            vectors = await self._asked(cut, scope)
        except (BackendRefused, InvalidRequest):
            return await self._one_by_one(cut, texts, scope)
        reads: list[Read | None] = [
            Read(vector, whole=len(part) == len(text))
            for vector, part, text in zip(vectors.values, cut, texts, strict=True)
        ]
        return Told(vectors.model_version, reads)

    async def _one_by_one(self, cut: Sequence[str], texts: Sequence[str], scope: str) -> Told:
        reads: list[Read | None] = []
        version, refused = "", None
        for part, text in zip(cut, texts, strict=True):
            try:
                vectors, taken = await self._beginning(part, scope)
            except (BackendRefused, InvalidRequest) as error:
                refused = error
                reads.append(None)
            else:
                version = vectors.model_version
                reads.append(Read(vectors.values[0], whole=taken == len(text)))
        if not version and refused:  # all of them: perhaps it is not the texts
            raise refused
        return Told(version, reads)

    async def _beginning(self, text: str, scope: str) -> tuple[Vectors, int]:
        """The vector of the longest beginning that is taken, and how long that is. Raises what the last try raised."""
        length = len(text)
        while True:
            try:
                return await self._asked([text[:length]], scope), length
            except (BackendRefused, InvalidRequest) as error:
                if error.code != "context_length_exceeded" or length <= _SHORTEST:
                    raise
                length = length * 2 // 3

    async def _asked(self, texts: Sequence[str], scope: str) -> Vectors:
        requests = [
            Request(kind="embedding", model=self.model, prompt={"input": text}, params={}, extra={}) for text in texts
        ]
        return await self._embedder.embed(requests, Caller(tenant=scope), _STEERING, "")
