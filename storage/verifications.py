"""What came of asking for kept answers again: outcomes in, and an answer's outcomes out."""

from typing import Any, Final, Literal, Protocol

import msgspec

from storage import sql
from storage.entry import Entry
from storage.errors import StorageError
from storage.guard import Guard

Outcome = Literal["identical", "diverged"]

_WRITE_DEADLINES: Final = 5
"""How much longer a write may take than a read: the reply has taken a while already, and a commit needs the disk."""
SHOWN: Final = 100
"""How many an answer shows, newest first."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """One time an answer was made anew and compared with the one that is kept."""

    outcome: Outcome
    compared: str
    """What was compared: `tokens`, `text` or `vector`."""
    divergence: Any
    """JSON; None for an identical answer."""
    identity: dict[str, str]
    """Who answered this time."""
    at: float
    """Seconds since the epoch, UTC."""
    duration_ms: float
    made_by: str = ""


class Database(Protocol):
    """A pool."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...


class Verifications:
    """Rows of `askonce.verifications`. A database that is down or hangs costs its deadline, never the reply."""

    def __init__(self, database: Database, reads: Guard, writes: Guard, deadline_s: float) -> None:
        self._database = database
        self._reads = reads
        self._writes = writes
        self._deadline_s = deadline_s

    async def put(self, entry: Entry, done: Verification) -> bool:
        """Keep `done`, which is about `entry`; False when it could not be, or the entry was invalidated meanwhile."""
        row = _row(entry, done)
        try:
            [said] = await self._writes.call(
                "verified",
                lambda: self._database.fetch(sql.query("verification_put"), *row),
                _WRITE_DEADLINES * self._deadline_s,
            )
        except StorageError:
            return False
        return said["kept"]

    async def of(self, entry: Entry) -> list[Verification] | None:
        """What came of verifying `entry`, newest first; None when that cannot be known now."""
        asked = entry.query
        try:
            rows = await self._reads.call(
                "verifications",
                lambda: self._database.fetch(
                    sql.query("verification_list"), asked.key, entry.origin_id, asked.scope, SHOWN
                ),
                self._deadline_s,
            )
        except StorageError:
            return None
        return [_verification(row) for row in rows]

    async def aclose(self) -> None:
        """End calls that never came back."""
        self._reads.close()
        self._writes.close()


def _row(entry: Entry, done: Verification) -> tuple[Any, ...]:
    asked = entry.query
    return (
        asked.key,
        asked.scope,
        entry.origin_id,
        asked.model,
        asked.prompt_hash,
        list(entry.tags),
        done.outcome,
        done.compared,
        None if done.divergence is None else _json(done.divergence),
        _json(done.identity),
        done.duration_ms,
        done.made_by,
        done.at,
        entry.epoch,
    )


def _verification(row: Any) -> Verification:
    return Verification(
        outcome=row["outcome"],
        compared=row["compared"],
        divergence=None if row["divergence"] is None else msgspec.json.decode(row["divergence"]),
        identity=msgspec.json.decode(row["identity"]),
        at=row["at"],
        duration_ms=row["duration_ms"],
        made_by=row["made_by"],
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(_storable(msgspec.to_builtins(value))).decode()


def _storable(value: Any) -> Any:
    """JSON without NUL, which Postgres cannot hold."""
    if isinstance(value, str):
        return value.replace("\x00", "\u2400")
    if isinstance(value, dict):
        return {name: _storable(inner) for name, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list) else value
