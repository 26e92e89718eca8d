"""The steps of an answer on its way out."""

from collections.abc import AsyncGenerator

from storage.entry import Chunk


async def first(steps: AsyncGenerator[Chunk]) -> Chunk:
    """The first step, awaited before a reply begins, so that a backend that refuses is an HTTP status, not an event."""
    found = await anext(steps)
    if found.usage is not None:  # nothing but an end: when that is a fault, it is raised here
        await anext(steps, None)
    return found
