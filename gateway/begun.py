"""An answer's steps in, the same out once the first is there, or all of them: so nothing is sent before."""

from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from gateway.errors import BackendError
from storage.entry import Chunk, Usage


class BrokenOff(Exception):
    """The steps broke off after some had come, and none of them was given on."""

    def __init__(self, error: BackendError, backend: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.backend = backend


class Begun(AsyncGenerator[Chunk, None]):
    """The steps `had`, then the `rest`. Closing it closes the rest, also when nobody has taken a step yet."""

    def __init__(self, had: deque[Chunk], rest: AsyncGenerator[Chunk]) -> None:
        self.first = had[0] if had else None
        self.on_usage: Callable[[Usage], None] | None = None
        """Called with what the answer cost, when whoever hears it has come to its end."""
        self._had = had
        self._rest = rest

    @classmethod
    async def of(cls, steps: AsyncGenerator[Chunk], *, whole: bool) -> "Begun":
        """`steps`, once the first has come; `whole`, once all have. Raises what they raise.

        Raises `BrokenOff` for a `BackendError` after the first.
        """
        had: deque[Chunk] = deque()
        try:
            async for step in steps:
                had.append(step)
                if not whole:
                    break
        except BackendError as error:
            if had:
                raise BrokenOff(error, had[0].backend) from error
            raise
        except BaseException:
            await steps.aclose()
            raise
        return cls(had, steps)

    async def __anext__(self) -> Chunk:
        step = self._had.popleft() if self._had else await anext(self._rest)
        if step.usage is not None and self.on_usage is not None:
            self.on_usage(step.usage)
        return step

    async def asend(self, value: None) -> Chunk:
        """The next step."""
        del value
        return await anext(self)

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> Chunk:
        """Leave, and raise."""
        await self.aclose()
        raise typ if val is None else val

    async def aclose(self) -> None:
        """Leave."""
        self._had.clear()
        await self._rest.aclose()
