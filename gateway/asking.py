"""A backend and a request in, the steps of a whole answer out: what is no answer raises."""

import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Protocol

import msgspec

from gateway.canonical import Request, Vector
from gateway.errors import BackendError
from gateway.steps import Batches, Steps, together, until_fault
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


_replace = msgspec.structs.replace
_ENDS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})
"""How an answer ends. Engines have words of their own for one that failed or was given up, such as vLLM's `abort`."""


def asked(backend: Asked, request: Request) -> Steps:
    """The steps of the answer, each with its time; at the end all choices have ended. Raises `BackendError`.

    What it cost comes once it is known to be whole. Closing it cancels the call.
    """
    return Steps(_asked(backend, request))


async def _asked(backend: Asked, request: Request) -> Batches:
    judge = _Judge(backend.name, request.choices)
    async with aclosing(together(backend.complete(request))) as arriving:
        async for some in arriving:
            given, fault = judge.all_of(some)
            if given:
                yield given
            if fault is not None:
                raise fault
    judge.end()
    if judge.costs:
        yield judge.costs


class _Judge:
    """Notes when steps come, and raises at what is no answer."""

    def __init__(self, backend: str, choices: int) -> None:
        self.costs: list[Chunk] = []
        """What it cost, held back."""
        self._backend = backend
        self._choices = range(choices)
        self._ended: set[int] = set()
        self._started = time.monotonic()
        self._after_ms = 0.0

    def all_of(self, some: Sequence[Chunk]) -> tuple[list[Chunk], BackendError | None]:
        """`some` with the time at which they came, which is now, and the fault that comes after that, if any."""
        self._after_ms = since_ms(self._started)
        return until_fault(map(self.hear, some))

    def hear(self, step: Chunk) -> Chunk | None:
        """`step` with its time. Raises `BackendError`."""
        if step.finish_reason or self._ended or step.index not in self._choices:  # most are none of these
            _expected(step, self._choices, self._ended, self._backend)
            if step.finish_reason:
                self._ended.add(step.index)
        step = _replace(step, after_ms=self._after_ms)
        if step.usage is None:
            return step
        self.costs.append(step)
        return None

    def end(self) -> None:
        """There are no more. Raises `BackendError` unless all choices have ended."""
        if len(self._ended) < len(self._choices):
            message = f"Backend '{self._backend}' ended its stream before the answer did."
            raise BackendError(message)


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
