"""Request -> Answer: name it, look, ask, keep. The one way every question takes."""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol

import msgspec

from gateway import key
from gateway.canonical import Identity, Request, Vector
from gateway.errors import BackendError
from gateway.router import Backend, Router
from storage.entry import Chunk, Entry, Query, Usage
from storage.tiers import Found

Status = Literal["hit", "miss"]

_ENDS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})
"""How an answer ends. Engines have words of their own for one that failed or was given up, such as vLLM's `abort`."""
_LARGE_BYTES = 2**18
_LOOKUPS = 16
"""Inputs of one embedding request looked up at the same time."""


class Tiers(Protocol):
    """Where answers are kept."""

    async def get(self, key: bytes) -> Found | None:
        """The nearest entry of `key`, promoted to the tiers above."""
        ...

    async def find(self, key: bytes) -> Found | None:
        """The nearest entry of `key`, left where it is."""
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
    tier: str
    origin_id: str
    age_s: float
    """Of the oldest of them."""


class Pipeline:
    """Answers requests from `tiers`, and asks the backends of `router` for what is not there."""

    def __init__(self, tiers: Tiers, router: Router) -> None:
        self._tiers = tiers
        self._router = router

    async def answer(self, request: Request, scope: str, reply_id: str) -> Answer:
        """The answer to `request`. Raises `UnknownModel`, `InvalidRequest` and `BackendError`."""
        backend = self._router.backend(request.model)
        request = _under(backend.name, request)
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
        queries = [await _named(_under(backend.name, request), scope, identity) for request in requests]
        kept = await self._kept({query.key for query in queries})
        asked = {q.key: (request, q) for request, q in zip(requests, queries, strict=True) if q.key not in kept}
        entries = {k: found.entry for k, found in kept.items()}
        entries |= await self._embed(list(asked.values()), backend, reply_id)
        oldest = min(entries.values(), key=lambda entry: entry.created_at)
        return Vectors(
            values=tuple(entries[query.key].embedding for query in queries),
            keys=tuple(query.key for query in queries),
            usage=sum((entries[query.key].usage for query in queries), Usage()),
            hits=sum(query.key in kept for query in queries),
            tier="backend" if asked else ",".join(sorted({found.tier for found in kept.values()})),
            origin_id=oldest.origin_id,
            age_s=max(0.0, time.time() - oldest.created_at),
        )

    async def explain(self, request: Request, scope: str) -> dict[str, Any]:
        """What `request` is to the cache: canonical form, every part of its key, and who would answer."""
        backend = self._router.backend(request.model)
        request, identity = _under(backend.name, request), await backend.identity()
        query = await _named(request, scope, identity)
        found = await self._tiers.find(query.key)
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
        choices, ended = range(request.choices), set[int]()
        async with aclosing(backend.complete(request)) as arriving:
            async for arrived in arriving:
                _expected(arrived, choices, ended, backend.name)
                if arrived.finish_reason:
                    ended.add(arrived.index)
                step = msgspec.structs.replace(arrived, after_ms=_since_ms(started))
                steps.append(step)
                yield step
        if len(ended) < len(choices):
            message = f"Backend '{backend.name}' ended its stream before the answer did."
            raise BackendError(message)
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

    async def _kept(self, keys: Collection[bytes]) -> dict[bytes, Found]:
        """The entries of those of `keys` that have one, looked up a few at a time."""
        found: dict[bytes, Found] = {}
        ordered = list(keys)
        for start in range(0, len(ordered), _LOOKUPS):
            looked = await asyncio.gather(*(self._tiers.get(k) for k in ordered[start : start + _LOOKUPS]))
            found |= {one.entry.query.key: one for one in looked if one is not None}
        return found

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


def _under(name: str, request: Request) -> Request:
    """The request under the model's one name: `model` and `model:latest` are the same question."""
    return request if request.model == name else msgspec.structs.replace(request, model=name)


async def _named(request: Request, scope: str, identity: Identity) -> Query:
    """The request's name; that of a large one is made in a thread."""
    if request.size_bytes > _LARGE_BYTES:
        return await asyncio.to_thread(key.query, request, scope, identity)
    return key.query(request, scope, identity)


async def replay(entry: Entry) -> AsyncGenerator[Chunk]:
    """The steps of a kept answer, as they were."""
    for step in entry.chunks:
        yield step


def _expected(step: Chunk, choices: range, ended: Collection[int], backend: str) -> None:
    """Raise for a step of a choice that nobody asked for or that has ended, and for an end that is a failure."""
    if step.index not in choices:
        message = f"Backend '{backend}' sent a choice that was not asked for."
        raise BackendError(message)
    if step.finish_reason and step.finish_reason not in _ENDS:
        message = f"Backend '{backend}' gave up on the answer (finish_reason '{step.finish_reason[:40]}')."
        raise BackendError(message)
    if step.usage is None and step.index in ended:
        message = f"Backend '{backend}' went on after the end of its answer."
        raise BackendError(message)


def _sound(vector: Vector, backend: str) -> bytes:
    if not vector.values:
        message = f"Backend '{backend}' returned an empty embedding."
        raise BackendError(message)
    return vector.values


def _since_ms(started: float) -> float:
    return (time.monotonic() - started) * 1000
