"""Responses that may be asked for again: written off the reply's way, and found as soon as the reply has been read."""

import asyncio
import sys
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import asyncpg
import cachetools
import msgspec

from storage import sql
from storage.entry import OVERHEAD_BYTES
from storage.errors import StorageError
from storage.guard import Guard
from storage.invalidations import Invalidations
from storage.postgres import put_rows
from storage.rows import words
from storage.writer import Writer

MAX_WAITING_BYTES: Final = 64 * 2**20
FLUSH_S: Final = 5.0
MAX_TURNS: Final = 1000
MAX_BYTES: Final = 32 * 2**20
"""How much of a conversation is read: what a model could take is far less."""
_AGAIN_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.2)
"""Pauses before what is not there is looked for again: another process may just be writing it, on a busy machine."""
_FORGOTTEN: Final = 1024
"""How many ids are remembered that were deleted here, so that nobody waits for them."""
_WRITE_DEADLINES: Final = 10


class Response(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """One response, as it was given."""

    id: str
    tenant: str
    """Who may ask for it."""
    scope: str
    """Where its answer is kept; this and the next four are what a deletion of answers goes by."""
    model: str
    key: bytes
    prompt_hash: bytes
    tags: tuple[str, ...]
    previous_id: str | None
    request: str
    """JSON of what was asked."""
    steps: bytes
    """The answer's steps as msgpack."""
    provenance: str
    created_at: float
    completed_at: float
    epoch: int = 0
    """The last invalidation known before its answer was looked for."""
    made_by: str = ""

    @property
    def size(self) -> int:
        """What it holds of memory, in bytes."""
        return sys.getsizeof(self.request) + len(self.steps) + OVERHEAD_BYTES


class Responses:
    """Rows of `askonce.responses`. What waits to be written is found by this process without them."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        marks: Invalidations,
        guards: tuple[Guard, Guard],
        deadline_s: float,
        on_drop: Callable[[str], None],
    ) -> None:
        self._pool = pool
        self._marks = marks
        self._reads, writes = guards
        self._deadline_s = deadline_s
        # Exactly what the writer still holds: once it has written or dropped one, nothing refers to it any more.
        self._waiting: weakref.WeakValueDictionary[str, Response] = weakref.WeakValueDictionary()
        self._forgotten: cachetools.LRUCache[str, bool] = cachetools.LRUCache(_FORGOTTEN)
        self._sink = _Sink(pool, writes, deadline_s * _WRITE_DEADLINES)
        self._writer = Writer(self._sink, MAX_WAITING_BYTES, on_drop, gather_s=0)

    @property
    def epoch(self) -> int:
        """What a response must carry whose answer is looked for from now on."""
        return self._marks.epoch

    def put(self, response: Response) -> None:
        """Have `response` kept, as soon as may be."""
        self._waiting[response.id] = response
        self._writer.put(response)

    async def get(self, name: str, tenant: str) -> Response | None:
        """The tenant's response of this id. Raises `StorageError`."""
        turns = await self.turns(name, tenant, most=1)
        return turns[0] if turns else None

    async def turns(self, name: str, tenant: str, most: int = MAX_TURNS) -> list[Response]:
        """The tenant's response of this id and those before it, the last first; empty when there is none.

        Where one is missing, or `MAX_BYTES` are reached, it ends with a response that has a `previous_id`. Raises
        `StorageError`.
        """
        for pause_s in self._pauses(name):
            await asyncio.sleep(pause_s)
            if turns := await self._turns(name, tenant, most):
                return turns
        return []

    async def delete(self, name: str, tenant: str, models: Collection[str] | None) -> bool:
        """Forget the tenant's response of this id; False when there is none. Raises `StorageError`."""
        for pause_s in self._pauses(name):
            await asyncio.sleep(pause_s)
            if name not in self._waiting and await self._deleted(name, tenant, models):
                self._forgotten[name] = True
                return True
        if name in self._waiting:
            message = "The response is still waiting to be written."
            raise StorageError(message)
        return False

    async def flush(self, deadline_s: float) -> bool:
        """Wait until everything is written. False when the deadline comes first."""
        return await self._writer.flush(deadline_s)

    async def aclose(self) -> None:
        """Write what waits, and end calls that never came back."""
        await self._writer.aclose(FLUSH_S)
        self._reads.close()
        self._sink.close()

    def _pauses(self, name: str) -> tuple[float, ...]:
        """How long to wait each time before the response of this id is looked for."""
        return (0.0,) if name in self._forgotten else (0.0, *_AGAIN_S)

    async def _turns(self, name: str, tenant: str, most: int) -> list[Response]:
        found: list[Response] = []
        wanted: str | None = name
        while wanted and len(found) < most and (waiting := self._written_soon(wanted, tenant)):
            found.append(waiting)
            wanted = waiting.previous_id
        if not wanted or len(found) == most:
            return found
        asked = (wanted, tenant, most - len(found), MAX_BYTES)
        return found + [_response(row) for row in await self._rows("response_turns", *asked)]

    def _written_soon(self, name: str, tenant: str) -> Response | None:
        """One that waits, unless something speaks of it: then the database says whether it is to be kept."""
        found = self._waiting.get(name)
        if found is None or found.tenant != tenant:
            return None
        return found if self._marks.silent_on(found, found.tags, found.epoch) else None

    async def _deleted(self, name: str, tenant: str, models: Collection[str] | None) -> bool:
        asked = (name, tenant, None if models is None else sorted(models))
        return bool(await self._rows("response_delete", *asked))

    async def _rows(self, query: str, *asked: Any) -> list[Any]:
        async def fetched() -> list[Any]:
            return await self._pool.fetch(sql.query(query), *asked)

        return await self._reads.call(query, fetched, self._deadline_s)


class _Sink:
    """Rows, in."""

    name = "responses"

    def __init__(self, pool: asyncpg.Pool, guard: Guard, deadline_s: float) -> None:
        self._pool = pool
        self._guard = guard
        self._deadline_s = deadline_s

    async def put(self, items: Sequence[Response]) -> None:
        """Write them all, or none; those whose answers were deleted meanwhile are left out.

        Raises `RefusedError`, `TooSlowError` and `StorageError`.
        """
        await self._guard.call("put", lambda: put_rows(self._pool, "response_put", _row, items), self._deadline_s)

    def close(self) -> None:
        """End calls that never came back."""
        self._guard.close()


def _row(item: Response) -> tuple[Any, ...]:
    return (
        item.id,
        item.tenant,
        item.scope,
        item.previous_id,
        item.model,
        item.key,
        item.prompt_hash,
        words(item.tags),
        item.request,
        item.steps,
        item.provenance,
        item.made_by,
        item.created_at,
        item.completed_at,
        item.epoch,
    )


def _response(row: Any) -> Response:
    fields: dict[str, Any] = {**dict(row), "tags": tuple(row["tags"])}
    return Response(**fields)
