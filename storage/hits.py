"""How often kept answers are given, and when last: counted in memory and added to the database every few seconds."""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from storage import sql
from storage.errors import StorageError, TooSlowError
from storage.guard import Guard
from storage.rounds import Rounds

_EVERY_S: Final = 5.0
_DEADLINES: Final = 5
_MOST: Final = 100_000
"""Keys that may wait: 16 MB. What comes while so many do is not counted."""
_BATCH: Final = 2000
"""Keys in one statement."""


class Database(Protocol):
    """A pool."""

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...


class Hits:
    """Counts until it is closed. `on_loss` is told how many were not counted."""

    def __init__(self, database: Database, writes: Guard, deadline_s: float, on_loss: Callable[[int], None]) -> None:
        self._database = database
        self._writes = writes
        self._deadline_s = deadline_s
        self._on_loss = on_loss
        self._waiting: dict[bytes, int] = {}
        self._rounds = Rounds(self.flush, _EVERY_S, "hits")

    def note(self, key: bytes, count: int = 1) -> None:
        """The answer of `key` was given, or several times. This is on the way of every hit."""
        waiting = self._waiting
        if key in waiting:
            waiting[key] += count
        elif len(waiting) < _MOST:
            waiting[key] = count
        else:
            self._on_loss(count)

    async def flush(self) -> bool:
        """Write what waits; whether that worked."""
        writing, self._waiting = self._waiting, {}
        # In one order, so that two gateways never wait for each other's rows.
        keys, at = sorted(writing), time.time()
        for start in range(0, len(keys), _BATCH):
            if not await self._written(keys[start : start + _BATCH], writing, at):
                for key in keys[start + _BATCH :]:
                    self.note(key, writing[key])
                return False
        return True

    async def aclose(self) -> None:
        """Write what waits, and stop."""
        await self._rounds.aclose()
        if not await self.flush():
            self._on_loss(sum(self._waiting.values()))

    async def _written(self, keys: list[bytes], writing: dict[bytes, int], at: float) -> bool:
        counts = [writing[key] for key in keys]
        try:
            await self._writes.call(
                "hits",
                lambda: self._database.execute(sql.query("hits_put"), keys, counts, [at] * len(keys)),
                _DEADLINES * self._deadline_s,
            )
        except TooSlowError:  # whether it was done is not known, and counted twice is worse than not at all
            self._on_loss(sum(counts))
            return False
        except StorageError:
            for key, count in zip(keys, counts, strict=True):
                self.note(key, count)
            return False
        return True
