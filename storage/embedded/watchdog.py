"""A Postgres of ours and a bound come in; a statement that takes longer is asked to end, and killed when it does not.

Who has a connection of their own can set their timeouts anew, so that somebody else has to look. There are functions
that look at no interrupt: no timeout ends them, and no request to end. When one process is killed, Postgres starts all
others again, so this is for a standby that nothing else depends on.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from storage import sql
from storage.embedded.postgres import DATABASE, ROLE, EmbeddedPostgres
from storage.embedded.running import Notify

_LOOK_S: Final = 1.0
_LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a statement may take."""

    ask_s: float
    """Until it is asked to end."""
    kill_s: float
    """Until its process is killed."""


async def watch(server: EmbeddedPostgres, roles: str, patience: Patience, notify: Notify) -> None:
    """End statements of roles whose names begin with `roles` when they take too long; only returns by cancellation.
    `notify` is told of each that had to be killed.
    """
    while True:
        with suppress(*_LOST):
            connection = await asyncpg.connect(
                host=str(server.socket_dir), port=server.port, user=ROLE, database=DATABASE, timeout=10
            )
            try:
                await _watch(connection, roles, patience, notify)
            finally:
                connection.terminate()
        await asyncio.sleep(_LOOK_S)


async def _watch(connection: asyncpg.Connection, roles: str, patience: Patience, notify: Notify) -> None:
    bounds = (patience.ask_s, patience.kill_s)
    while True:
        for row in await connection.fetch(sql.query("statements_overdue"), roles, *bounds, timeout=10):
            pid = row["pid"]
            if not row["is_deaf"] or not _is_postgres(pid):
                continue
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                notify(f"A statement that took longer than {patience.kill_s:g} s and could not be ended was killed.")
        await asyncio.sleep(_LOOK_S)


def _is_postgres(pid: int) -> bool:
    """Whether this number is still that of a process of Postgres."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("postgres")
    return False
