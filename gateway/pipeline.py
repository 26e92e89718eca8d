"""Request -> Answer: name it, look, ask, keep. The one way every question takes."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol

import msgspec

from gateway import key
from gateway.canonical import Identity, Request, Vector
from gateway.errors import BackendError
from gateway.router import Backend, Router
from storage.entry import Chunk, Entry, Query, Usage
from storage.tiers import Found

Status = Literal["hit", "miss", "bypass"]

_LARGE_BYTES = 2**18
_LOOKUPS = 16
"""Inputs of one embedding request looked up at the same time."""


class Tiers(Protocol):
    """Where answers are kept."""

    async def get(self, key: bytes) -> Found | None:
        """The nearest entry of `key`."""
        ...

    def put(self, entry: Entry) -> None:
        """Keep `entry`."""
        ...


class Answer(msgspec.Struct, frozen=True):
    """An answer on its way, new or old: both are the same stream of steps."""

    status: Status
    tier: str
    key: bytes
    chunks: AsyncGenerator[Chunk]
    origin_id: str | None = None
    age_s: float = 0.0


class Vectors(msgspec.Struct, frozen=True):
    """Embeddings in the order they were asked for, and how many of them were kept ones."""

    values: tuple[bytes, ...]
    keys: tuple[bytes, ...]
    usage: Usage
    hits: int


class Pipeline:
    """Answers requests from `tiers`, and asks the backends of `router` for what is not there."""

    def __init__(self, tiers: Tiers, router: Router) -> None:
        self._tiers = tiers
        self._router = router

    async def answer(self, request: Request, scope: str, reply_id: str) -> Answer:
        """The answer to `request`. Raises `UnknownModel`, `InvalidRequest` and `BackendError`."""
        backend = self._router.backend(request.model)
        query = await _named(request, scope, await backend.identity())
        found = await self._tiers.get(query.key)
        if found is not None:
            age_s = max(0.0, time.time() - found.entry.created_at)
            return Answer("hit", found.tier, query.key, replay(found.entry), found.entry.origin_id, age_s)
        return Answer("miss", "backend", query.key, self._ask(backend, request, query, reply_id))

    async def embed(self, requests: Sequence[Request], scope: str, reply_id: str) -> Vectors:
        """The vector of each request; only those not kept are asked for, in one call.

        Raises `UnknownModel`, `InvalidRequest` and `BackendError`.
        """
        backend = self._router.backend(requests[0].model)
        identity = await backend.identity()
        queries = [key.query(request, scope, identity) for request in requests]
        entries: dict[bytes, Entry] = {}
        keys = list({query.key for query in queries})
        for start in range(0, len(keys), _LOOKUPS):
            looked = await asyncio.gather(*(self._tiers.get(k) for k in keys[start : start + _LOOKUPS]))
            entries |= {found.entry.query.key: found.entry for found in looked if found is not None}
        hits = sum(query.key in entries for query in queries)
        missing = {query.key: (request, query) for request, query in zip(requests, queries, strict=True)}
        entries |= await self._embed([missing[k] for k in missing if k not in entries], backend, reply_id)
        usage = sum((entries[query.key].usage for query in queries), Usage())
        values = tuple(entries[query.key].embedding for query in queries)
        return Vectors(values, tuple(query.key for query in queries), usage, hits)

    async def explain(self, request: Request, scope: str) -> dict[str, Any]:
        """What `request` is to the cache: canonical form, every part of its key, and who would answer."""
        backend = self._router.backend(request.model)
        identity = await backend.identity()
        query = await _named(request, scope, identity)
        found = await self._tiers.get(query.key)
        parts = key.parts(request, scope, identity, query.prompt_hash, query.params.encode())
        return {
            "key": query.key.hex(),
            "tier": found.tier if found else "backend",
            "backend": backend.name,
            "prompt": query.prompt,
            "params": query.params,
            "parts": {name: value.hex() if name == "prompt_hash" else value.decode() for name, value in parts},
        }

    async def _ask(self, backend: Backend, request: Request, query: Query, reply_id: str) -> AsyncGenerator[Chunk]:
        """The backend's steps; the answer is kept once the last one has come, and never before."""
        created_at, started = time.time(), time.monotonic()
        steps: list[Chunk] = []
        async with aclosing(backend.complete(request)) as arriving:
            async for arrived in arriving:
                step = msgspec.structs.replace(arrived, after_ms=_since_ms(started))
                steps.append(step)
                yield step
        _complete(steps, request, backend.name)
        self._tiers.put(
            Entry(
                query=query,
                origin_id=reply_id,
                backend=backend.name,
                created_at=created_at,
                duration_ms=_since_ms(started),
                chunks=tuple(steps),
                usage=sum((step.usage for step in steps if step.usage), Usage()),
            )
        )

    async def _embed(
        self, missing: Sequence[tuple[Request, Query]], backend: Backend, reply_id: str
    ) -> dict[bytes, Entry]:
        if not missing:
            return {}
        created_at, started = time.time(), time.monotonic()
        vectors = await backend.embed([request for request, _ in missing])
        entries: dict[bytes, Entry] = {}
        for (_, query), vector in zip(missing, vectors, strict=True):
            entries[query.key] = Entry(
                query=query,
                origin_id=reply_id,
                backend=backend.name,
                created_at=created_at,
                duration_ms=_since_ms(started),
                embedding=_sound(vector, backend.name),
                usage=Usage(prompt_tokens=vector.tokens),
            )
        for entry in entries.values():
            self._tiers.put(entry)
        return entries


async def _named(request: Request, scope: str, identity: Identity) -> Query:
    """The request's name; that of a large one is made in a thread."""
    if request.size_bytes > _LARGE_BYTES:
        return await asyncio.to_thread(key.query, request, scope, identity)
    return key.query(request, scope, identity)


async def replay(entry: Entry) -> AsyncGenerator[Chunk]:
    """The steps of a kept answer, as they were."""
    for step in entry.chunks:
        yield step


def _complete(steps: Iterable[Chunk], request: Request, backend: str) -> None:
    """Raise unless every choice has ended."""
    ended = {step.index for step in steps if step.finish_reason}
    if len(ended) < request.choices:
        message = f"Backend '{backend}' ended its stream before the answer did."
        raise BackendError(message)


def _sound(vector: Vector, backend: str) -> bytes:
    if not vector.values:
        message = f"Backend '{backend}' returned an empty embedding."
        raise BackendError(message)
    return vector.values


def _since_ms(started: float) -> float:
    return (time.monotonic() - started) * 1000
