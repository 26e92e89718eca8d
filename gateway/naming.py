"""A request and who would answer it in, its name out."""

import asyncio

import msgspec

from gateway import key
from gateway.canonical import Identity, Request
from storage.entry import Query

_LARGE_BYTES = 2**18


def under(name: str, request: Request) -> Request:
    """The request under the model's one name: `model` and `model:latest` are the same question."""
    return request if request.model == name else msgspec.structs.replace(request, model=name)


async def named(request: Request, scope: str, identity: Identity) -> Query:
    """The request's name; that of a large one is made in a thread. Raises `InvalidRequest`."""
    if request.size_bytes > _LARGE_BYTES:
        return await asyncio.to_thread(key.query, request, scope, identity)
    return key.query(request, scope, identity)
