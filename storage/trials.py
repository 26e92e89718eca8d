"""What semantic reuse would have given, written down beside what the model answered; and read again to be judged."""

from typing import Any, Literal, Protocol

import msgspec

from storage import sql
from storage.guard import Guard

Label = Literal["same", "different"]
_DEADLINES = 5


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One question that the model answered."""

    tenant: str
    scope: str
    model: str
    key: bytes
    source_key: bytes | None = None
    """Whose answer would have been given; None where nothing near is kept."""
    similarity: float | None = None
    reasons: tuple[str, ...] = ()
    judged_same: bool | None = None
    """Whether the judging model said yes; None where it was not asked."""
    threshold: float
    served: bool = False
    same_answer: bool | None = None
    answers_similarity: float | None = None
    asked_at: float
    source_at: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial has found, as far as figures are made of it."""

    similarity: float | None
    reasons: tuple[str, ...]
    judged_same: bool | None
    same_answer: bool | None
    answers_similarity: float | None
    label: Label | None
    served: bool = False


class Pair(Outcome, frozen=True, kw_only=True):
    """Two questions, for a person to look at."""

    id: int
    model: str
    asked_prompt: str | None
    """Canonical JSON; None where it is not kept any more."""
    source_prompt: str | None


class Database(Protocol):
    """A pool or a connection."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...


class Trials:
    """Rows of `askonce.semantic_trials`, written. Calls raise `StorageError`."""

    def __init__(self, database: Database, writes: Guard, deadline_s: float) -> None:
        self._database = database
        self._writes = writes
        self._deadline_s = deadline_s

    async def put(self, trial: Trial) -> None:
        """Keep it."""
        row = [getattr(trial, name) for name in Trial.__struct_fields__]
        await self._writes.call(
            "trial",
            lambda: self._database.execute(sql.query("semantic_trial_put"), *row),
            _DEADLINES * self._deadline_s,
        )

    def close(self) -> None:
        """End calls that never came back."""
        self._writes.close()


class Judging:
    """The same rows, read and judged by a person. Raises what the database's client raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def outcomes(self, model: str | None) -> list[Outcome]:
        """Those of one model, or of all."""
        rows = await self._database.fetch(sql.query("semantic_trial_figures"), model)
        return [msgspec.convert(dict(row), Outcome) for row in rows]

    async def pairs(self, model: str | None, *, unjudged: bool, most: int) -> list[Pair]:
        """Some that were near, those first that would have been served."""
        rows = await self._database.fetch(sql.query("semantic_trial_pairs"), model, unjudged, most)
        return [msgspec.convert(dict(row), Pair) for row in rows]

    async def label(self, number: int, label: Label) -> bool:
        """Say what a person thinks of a pair; False when there is none of this number."""
        return bool(await self._database.fetch(sql.query("semantic_trial_label"), number, label))
