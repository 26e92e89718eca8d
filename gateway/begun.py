"""An answer's steps in, the same out once the first is there, or all of them: so nothing is sent before."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol, runtime_checkable

from gateway.errors import BackendError
from gateway.steps import Batches, Steps, together
from storage.entry import Chunk, Usage


class BrokenOff(Exception):
    """The steps broke off after some had come, and none of them was given on."""

    def __init__(self, error: BackendError, backend: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.backend = backend


@runtime_checkable
class Patient(Protocol):
    """Who may give all steps at once, with less to do for it."""

    def at_end(self) -> None:
        """Give them when there are no more to come."""
        ...


class Begun(Steps):
    """The steps `had`, then the `rest`. Closing it closes the rest, also when nobody has taken a step yet."""

    def __init__(self, had: Sequence[Chunk], rest: Batches) -> None:
        super().__init__(rest)
        self._had.extend(had)
        self.first = had[0] if had else None
        self.on_usage: Callable[[Usage], None] | None = None
        """Called with what the answer cost, when whoever hears it has come to its end."""

    @classmethod
    async def of(cls, steps: AsyncGenerator[Chunk], *, whole: bool) -> "Begun":
        """`steps`, once the first have come; `whole`, once all have. Raises what they raise.

        Raises `BrokenOff` for a `BackendError` after the first.
        """
        had: list[Chunk] = []
        arriving = together(steps)
        if whole and isinstance(arriving, Patient):
            arriving.at_end()
        try:
            async for some in arriving:
                had.extend(some)
                if not whole:
                    break
        except BackendError as error:
            if had:
                raise BrokenOff(error, had[0].backend) from error
            raise
        except BaseException:
            await arriving.aclose()
            raise
        return cls(had, arriving)

    def rest(self) -> Batches:
        """What was not taken yet, as it came."""
        return super().rest() if self.on_usage is None else _noted(super().rest(), self.on_usage)

    async def __anext__(self) -> Chunk:
        step = await super().__anext__()
        if step.usage is not None and self.on_usage is not None:
            self.on_usage(step.usage)
        return step


async def _noted(batches: Batches, on_usage: Callable[[Usage], None]) -> Batches:
    async with aclosing(batches):
        async for some in batches:
            for step in some:
                if step.usage is not None:
                    on_usage(step.usage)
            yield some
