"""A running Postgres of ours comes in, a copy of it that follows goes out: for statements that must not hurt serving.

It is read only by nature: what is run there can write nothing, notify nobody and use up no transaction ids. What cannot
be interrupted there is killed, which takes the copy away for a moment, and nothing else.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg
import msgspec

from storage import sql
from storage.embedded import cluster, leftover
from storage.embedded.child import Child, Command
from storage.embedded.cluster import Places
from storage.embedded.folder import DataFolder
from storage.embedded.postgres import DATABASE, ROLE, EmbeddedPostgres, dsn
from storage.embedded.privileges import server_identity
from storage.embedded.running import Care, Notify, running
from storage.errors import EmbeddedError

SLOT: Final = "askonce_standby"
_NAME: Final = "Standby"
_COPIED_WITHIN_S: Final = 3600.0
_SETTINGS: Final = {
    "primary_slot_name": SLOT,
    # What all share counts for each process that is to have no more than so much memory.
    "shared_buffers": "32MB",
    # A statement of a tenant's is ended rather than that others see what was long ago.
    "max_standby_streaming_delay": "10s",
    "max_standby_archive_delay": "10s",
    "hot_standby_feedback": "off",
    "wal_receiver_status_interval": "1s",
    "cluster_name": "askonce_standby",
}
_LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a standby is to have room for."""

    connections: int = 0
    """As many as the primary has."""
    memory_max_bytes: int = 0
    """Of each of its processes: who needs more is told so. 0 is no bound."""
    port: int = 0
    """Of 127.0.0.1, for tenants' roles with their passwords; 0 is none: only its socket leads to it."""


_NO_NEEDS: Final = Needs()


@asynccontextmanager
async def standby(
    folder: DataFolder,
    primary: EmbeddedPostgres,
    *,
    needs: Needs = _NO_NEEDS,
    notify: Notify | None = None,
) -> AsyncGenerator[EmbeddedPostgres]:
    """Run a standby of `primary` for the length of the block; it is copied when it is not there, or cannot follow any
    more.

    Raises:
        EmbeddedError: it could not be copied, or did not start.
    """
    identity = server_identity()
    places = cluster.places(folder, "standby", "sb", needs.port or cluster.PORT)
    source = str(primary.socket_dir)
    more: dict[str, str] = _SETTINGS | {
        "primary_conninfo": f"host='{_quoted(source)}' user={ROLE} application_name={SLOT}",
        "listen_addresses": "127.0.0.1" if needs.port else "",
    }
    command = cluster.server(folder, _NAME, places, needs.connections, identity, more)
    command = msgspec.structs.replace(command, memory_max_bytes=needs.memory_max_bytes)
    await leftover.ended(command.record_path, signal.SIGINT, grace_s=command.grace_s)
    try:
        cluster.give(places.socket_dir, identity)
        if not await _can_follow(primary, places):
            await _copied(folder, primary, places)
        cluster.forget_stale_locks(places)
    except OSError as refused:
        raise EmbeddedError(f"The folder of the standby cannot be used: {refused}.") from refused

    async def renewed(last: Command) -> Command:
        if not await _can_follow(primary, places):
            await _copied(folder, primary, places)
        return last

    care = Care(renewed=renewed, healthy=lambda: _follows(primary), patience_s=30.0)
    async with running(command, ready=lambda: _answers(places), notify=notify, care=care) as child:
        address = dsn(places.socket_dir, places.port)
        yield EmbeddedPostgres(dsn=address, socket_dir=places.socket_dir, pid=child.pid, port=places.port)


async def _can_follow(primary: EmbeddedPostgres, places: Places) -> bool:
    """Whether there is a copy of this very server, and what it has not read yet is still there."""
    if not (places.data / "standby.signal").exists():
        return False
    rows = await _asked(primary, "standby_slot_state", SLOT)
    if not rows or rows[0]["wal_status"] in (None, "lost", "unreserved"):
        return False
    (row,) = await _asked(primary, "server_identity")
    return (places.data / "askonce_source").exists() and (places.data / "askonce_source").read_text() == row["name"]


async def _copied(folder: DataFolder, primary: EmbeddedPostgres, places: Places) -> None:
    """Copy the primary, while it runs. Raises `EmbeddedError`."""
    fresh = places.data.with_name("standby.new")
    words = (
        f"--pgdata={fresh}",
        f"--host={primary.socket_dir}",
        f"--username={ROLE}",
        "--no-password",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--sync-method=syncfs",
        "--write-recovery-conf",
        f"--slot={SLOT}",
    )
    command = cluster.command(folder, "pg_basebackup", words, server_identity())
    await leftover.ended(command.record_path, signal.SIGKILL, grace_s=command.grace_s)
    for path in (fresh, places.data):
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
    await _asked(primary, "standby_slot_drop", SLOT)
    await _asked(primary, "standby_slot_make", SLOT)
    (row,) = await _asked(primary, "server_identity")
    child = Child(command)
    try:
        await child.start()
        async with asyncio.timeout(_COPIED_WITHIN_S):
            if await child.wait() != 0:
                raise EmbeddedError(f"The database could not be copied for a standby: {child.tail()}")
    except TimeoutError:
        raise EmbeddedError("Copying the database for a standby took too long.") from None
    finally:
        await child.stop()
    (fresh / "askonce_source").write_text(row["name"])
    # Under its own name only when complete: a copy that was interrupted is made again.
    fresh.rename(places.data)


async def _asked(server: EmbeddedPostgres, query_name: str, *values: Any) -> list[asyncpg.Record]:
    """What a server says. Raises `EmbeddedError`."""
    try:
        async with asyncio.timeout(30):
            connection = await _connected(server)
            try:
                return await connection.fetch(sql.query(query_name), *values)
            finally:
                await connection.close()
    except _LOST as error:
        raise EmbeddedError(f"The database cannot be asked about its standby ({error}).") from error


async def _follows(primary: EmbeddedPostgres) -> bool:
    """Whether the primary sees it reading; where the primary is away there is nothing to read."""
    try:
        rows = await _asked(primary, "standby_reading", SLOT)
    except EmbeddedError:
        return True
    return bool(rows)


async def _answers(places: Places) -> bool:
    if not places.socket.exists():
        return False
    with suppress(*_LOST):
        connection = await _connected(places)
        await connection.close()
        return True
    return False


async def _connected(server: EmbeddedPostgres | Places) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=str(server.socket_dir), port=server.port, user=ROLE, database=DATABASE, timeout=10
    )


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
