"""A data folder comes in, a Postgres 18 with pgvector on a private socket goes out."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg
import msgspec

from storage.embedded import cluster, leftover
from storage.embedded.child import Child
from storage.embedded.cluster import ADVICE, MAJOR_VERSION, Places
from storage.embedded.folder import DataFolder
from storage.embedded.privileges import Identity, server_identity, user_name
from storage.embedded.running import Notify, running
from storage.errors import EmbeddedError

ROLE = DATABASE = "askonce"
TENANTS = "^askonce_[0-9a-f]{24}$"
"""How tenants' roles are called."""
_INITDB = (
    f"--username={ROLE}",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--lc-ctype=C.UTF-8",  # else what is divided into words takes a curly quote for a letter
    "--auth-local=peer",
    "--auth-host=reject",
    "--data-checksums",
    "--no-instructions",
    "--sync-method=syncfs",
)


class EmbeddedPostgres(msgspec.Struct, frozen=True):
    """A running server: `dsn` opens the database `askonce` as role `askonce`, for this OS user only."""

    dsn: str
    socket_dir: Path
    pid: int
    port: int = cluster.PORT


@asynccontextmanager
async def postgres(
    folder: DataFolder, *, connections: int = 0, notify: Notify | None = None
) -> AsyncGenerator[EmbeddedPostgres]:
    """Run Postgres for the length of the block; the cluster and the database are made when they are not there.

    `connections`: how many its users may open all together; there is room for others beside them.

    Raises:
        EmbeddedError: it cannot run here, did not start, or the folder's cluster is of another major version or user.
    """
    identity = server_identity()
    places = cluster.places(folder, "data", "pg")
    try:
        cluster.give(folder.postgres, identity)
        cluster.give(places.socket_dir, identity)
        await _initialise(folder, places, identity)
        _write_access_rules(places, identity)
    except OSError as refused:
        raise EmbeddedError(f"The database folder cannot be used: {refused}. {ADVICE}") from refused
    command = cluster.server(folder, "Postgres", places, connections, identity)
    await leftover.ended(command.record_path, signal.SIGINT, grace_s=command.grace_s)
    cluster.forget_stale_locks(places)
    async with running(command, ready=lambda: _answers(places), notify=notify) as child:
        yield EmbeddedPostgres(dsn=dsn(places.socket_dir), socket_dir=places.socket_dir, pid=child.pid)


def dsn(socket_dir: Path, port: int = cluster.PORT, role: str = ROLE) -> str:
    """The address of the database of a server whose socket is there."""
    named = f"&port={port}" if port != cluster.PORT else ""
    return f"postgresql://{role}@/{DATABASE}?host={quote(str(socket_dir))}{named}"


async def _initialise(folder: DataFolder, places: Places, identity: Identity | None) -> None:
    version_file = places.data / "PG_VERSION"
    if version_file.exists():
        version = version_file.read_text().strip()
        if version != MAJOR_VERSION:
            message = (
                f"The database in {places.data} was made by Postgres {version} and this is Postgres {MAJOR_VERSION}"
            )
            raise EmbeddedError(
                f"{message}: dump it with the askonce that made it, or choose another --data-dir. {ADVICE}"
            )
        return
    fresh = places.data.with_name("data.new")
    command = cluster.command(folder, "initdb", ("-D", str(fresh), *_INITDB), identity)
    await leftover.ended(command.record_path, signal.SIGKILL, grace_s=command.grace_s)
    shutil.rmtree(fresh, ignore_errors=True)
    child = Child(command)
    try:
        await child.start()
        if await child.wait() != 0:
            raise EmbeddedError(f"The database could not be made: {child.tail()} {ADVICE}")
    finally:
        await child.stop()
    # Under its own name only when complete: an initdb that was killed is done again.
    fresh.rename(places.data)


def _write_access_rules(places: Places, identity: Identity | None) -> None:
    """On sockets only this OS user may log in, as any role: it owns the superuser anyway, and so needs no tenant's
    password. A standby reads along as the user that servers run as, who owns the files. Over the network, where a
    server listens there, come tenants' roles with their passwords, and from this machine.
    """
    uids = (os.geteuid(), identity.uid if identity else os.geteuid())
    ours, servers = ((user_name(uid) or "").replace('"', '""') for uid in uids)
    places.hba.write_text(
        "local all all peer map=askonce\nlocal replication all peer map=servers\n"
        f"host {DATABASE} /{TENANTS} 127.0.0.1/32 scram-sha-256\n"
    )
    places.ident.write_text(f'askonce "{ours}" all\nservers "{servers}" {ROLE}\n')
    for path in (places.hba, places.ident):
        path.chmod(0o644)  # The server's user reads them; the folder around them is private.


async def _answers(places: Places) -> bool:
    if not places.socket.exists():
        return False
    try:
        connection = await _connected(places, DATABASE)
    except asyncpg.InvalidCatalogNameError:
        await _create_database(places)
        return True
    except (OSError, asyncpg.CannotConnectNowError):
        return False
    await connection.close()
    return True


async def _create_database(places: Places) -> None:
    connection = await _connected(places, "postgres")
    try:
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    finally:
        await connection.close()


async def _connected(places: Places, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(host=str(places.socket_dir), port=places.port, user=ROLE, database=database)
