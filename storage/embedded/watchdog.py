"""A Postgres of ours and a bound come in; processes whose statement takes longer are killed.

There are functions that look at no interrupt: no timeout ends them, and no request to end. When one process is killed,
Postgres starts all others again, so this is for a standby that nothing else depends on.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg

from storage import sql
from storage.embedded.postgres import DATABASE, ROLE, EmbeddedPostgres
from storage.embedded.running import Notify

_LOOK_S: Final = 1.0
_LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def watch(server: EmbeddedPostgres, roles: str, longest_s: float, notify: Notify) -> None:
    """Kill processes of roles whose names begin with `roles` when their statement takes longer than `longest_s`
    seconds; only returns by cancellation. `notify` is told of each.
    """
    while True:
        with suppress(*_LOST):
            connection = await asyncpg.connect(
                host=str(server.socket_dir), port=5432, user=ROLE, database=DATABASE, timeout=10
            )
            try:
                await _watch(connection, roles, longest_s, notify)
            finally:
                connection.terminate()
        await asyncio.sleep(_LOOK_S)


async def _watch(connection: asyncpg.Connection, roles: str, longest_s: float, notify: Notify) -> None:
    while True:
        for row in await connection.fetch(sql.query("statements_overdue"), roles, longest_s, timeout=10):
            pid = row["pid"]
            if not _is_postgres(pid):
                continue
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                notify(f"A statement that took longer than {longest_s:g} s and could not be ended was killed.")
        await asyncio.sleep(_LOOK_S)


def _is_postgres(pid: int) -> bool:
    """Whether this number is still that of a process of Postgres."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("postgres")
    return False
