"""A backend and a request in, the steps of a whole answer out: what is no answer raises."""

import time
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Protocol

import msgspec

from gateway.canonical import Request, Vector
from gateway.errors import BackendError
from storage.entry import Chunk


class Asked(Protocol):
    """Whoever is asked."""

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """The steps of the answer. Raises `BackendError`."""
        ...


_ENDS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})
"""How an answer ends. Engines have words of their own for one that failed or was given up, such as vLLM's `abort`."""


async def asked(backend: Asked, request: Request) -> AsyncGenerator[Chunk]:
    """The steps of the answer, each with its time; at the end all choices have ended. Raises `BackendError`.

    What it cost comes once it is known to be whole. Closing it cancels the call.
    """
    started, costs = time.monotonic(), list[Chunk]()
    choices, ended = range(request.choices), set[int]()
    async with aclosing(backend.complete(request)) as arriving:
        async for step in arriving:
            _expected(step, choices, ended, backend.name)
            if step.finish_reason:
                ended.add(step.index)
            step = msgspec.structs.replace(step, after_ms=since_ms(started))
            if step.usage is not None:
                costs.append(step)
            else:
                yield step
    if len(ended) < len(choices):
        message = f"Backend '{backend.name}' ended its stream before the answer did."
        raise BackendError(message)
    for step in costs:
        yield step


def sound(vector: Vector, backend: str) -> bytes:
    """The embedding itself. Raises `BackendError` for an empty one."""
    if not vector.values:
        message = f"Backend '{backend}' returned an empty embedding."
        raise BackendError(message)
    return vector.values


def since_ms(started: float) -> float:
    """Milliseconds since a reading of the monotonic clock."""
    return (time.monotonic() - started) * 1000


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
