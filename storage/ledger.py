"""What was answered, counted by the minute in memory and added to the database every few seconds."""

import time
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import msgspec

from storage import sql
from storage.entry import Kind, Usage
from storage.errors import StorageError, TooSlowError
from storage.guard import Guard
from storage.rounds import Rounds

Cache = Literal["hit", "semantic", "coalesced", "generated"]
"""Whether the model was asked for it: a hit was kept, a semantic one was kept of a question that means the same, a
coalesced one was being made for somebody else.
"""

_EVERY_S: Final = 5.0
_DEADLINES: Final = 5
_MOST: Final = 10_000
"""Minutes, tenants and models that may wait for a database that is down. What comes then is not counted."""


class _Place(msgspec.Struct, frozen=True, order=True):
    """What is counted together. Sorted, so that two gateways never wait for each other's rows."""

    minute: int
    tenant: str
    model: str
    kind: str
    cache: str


class _Sum(msgspec.Struct):
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micro_usd: int = 0

    def add(self, other: "_Sum") -> None:
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cost_micro_usd += other.cost_micro_usd


class Database(Protocol):
    """A pool."""

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...


def _unheard(count: int) -> None:
    del count


class Ledger:
    """Counts until it is closed. A process that is killed loses the last few seconds.

    `on_loss` is told how many requests were not counted.
    """

    def __init__(
        self, database: Database, writes: Guard, deadline_s: float, on_loss: Callable[[int], None] = _unheard
    ) -> None:
        self._database = database
        self._writes = writes
        self._deadline_s = deadline_s
        self._on_loss = on_loss
        self._waiting: dict[_Place, _Sum] = {}
        self._rounds = Rounds(self.flush, _EVERY_S, "ledger")

    def note(self, tenant: str, model: str, kind: Kind, cache: Cache, usage: Usage, requests: int = 1) -> None:
        """Count `requests`, with what they cost, or would have cost."""
        place = _Place(int(time.time() // 60), tenant, model, kind, cache)
        self._add(place, _Sum(requests, usage.prompt_tokens, usage.completion_tokens, usage.cost_micro_usd))

    async def flush(self) -> bool:
        """Write what waits; whether that worked."""
        writing, self._waiting = self._waiting, {}
        if not writing:
            return True
        places = sorted(writing)
        columns = [[getattr(place, name) for place in places] for name in _Place.__struct_fields__]
        columns += [[getattr(writing[place], name) for place in places] for name in _Sum.__struct_fields__]
        try:
            await self._writes.call(
                "usage",
                lambda: self._database.execute(sql.query("usage_put"), *columns),
                _DEADLINES * self._deadline_s,
            )
        except TooSlowError:  # whether it was done is not known, and counted twice is worse than not at all
            self._lose(writing)
            return False
        except StorageError:
            for place, said in writing.items():
                self._add(place, said)
            return False
        return True

    async def aclose(self) -> None:
        """Write what waits, and stop."""
        await self._rounds.aclose()
        if not await self.flush():
            self._lose(self._waiting)

    def _add(self, place: _Place, said: _Sum) -> None:
        known = self._waiting.get(place)
        if known is not None:
            known.add(said)
        elif len(self._waiting) < _MOST:
            self._waiting[place] = said
        else:
            self._on_loss(said.requests)

    def _lose(self, waiting: dict[_Place, _Sum]) -> None:
        self._on_loss(sum(said.requests for said in waiting.values()))
