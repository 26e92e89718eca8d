"""What time takes away: rows whose policy says so, what was verified of them, old responses, and marks of invalidations
that nothing needs any more.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, Protocol

from gateway import policy
from gateway.config import PolicyConfig
from storage import sql

_EVERY_S: Final = 300.0
_LOG = logging.getLogger("askonce")


class Database(Protocol):
    """A pool."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...


class Marks(Protocol):
    """The list of invalidations."""

    async def prune(self, older_than_s: float) -> None:
        """Take away what is too old to matter."""
        ...


class Sweeper:
    """Sweeps now and then, until closed. Several may: what one has taken away the others do not find."""

    def __init__(
        self,
        database: Database,
        marks: Marks,
        policies: Sequence[PolicyConfig],
        *,
        marks_needed_s: float,
        responses_ttl_s: float,
    ) -> None:
        self._database = database
        self._marks = marks
        self._policies = policies
        self._marks_needed_s = marks_needed_s
        self._responses_ttl_s = responses_ttl_s
        self._task = asyncio.create_task(self._run(), name="sweeper")

    async def aclose(self) -> None:
        """Stop."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def sweep(self) -> None:
        """Take away what is due. Raises what the database's client raises."""
        await self._marks.prune(self._marks_needed_s)
        await self._database.execute(sql.query("response_expire"), self._responses_ttl_s)
        await self._expire()
        await self._database.execute(sql.query("verification_prune"))

    async def _expire(self) -> None:
        if not any(one.ttl_s for one in self._policies):
            return
        due: defaultdict[float, list[tuple[str, str]]] = defaultdict(list)
        for row in await self._database.fetch(sql.query("completion_places")):
            # A shared namespace is nobody's: policies name it as it is written in the scope.
            if ttl_s := policy.of(self._policies, row["scope"], row["model"]).ttl_s:
                due[ttl_s].append((row["scope"], row["model"]))
        for ttl_s, places in due.items():
            scopes, models = zip(*places, strict=True)
            for query in ("completion_expire", "response_expire_places"):
                await self._database.execute(sql.query(query), list(scopes), list(models), ttl_s)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 -- whatever the database's client raises: the next time will do
                _LOG.warning("Nothing was swept this time (%s)", type(error).__name__)
