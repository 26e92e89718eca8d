"""The path of a data folder comes in, a private folder that no other askonce serves goes out."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from storage.embedded import marker
from storage.errors import EmbeddedError, FolderInUse

_LOCK = "askonce.lock"
_SUBFOLDERS = ("postgres", "redis", "run", "logs", "models", "states")
# A folder holding anything else was not made by us: making somebody's home private would be a bad surprise.
_KNOWN = {_LOCK, marker.NAME, *_SUBFOLDERS, "objects", "recipes", "queries", "lost+found"}
_LONGEST_SOCKET = "run/sb/.s.PGSQL.65535"
_SOCKET_PATH_MAX_BYTES = 107


class DataFolder(msgspec.Struct, frozen=True):
    """Where everything of one askonce lives; all paths are absolute and free of links."""

    root: Path

    @property
    def postgres(self) -> Path:
        """The database."""
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        """The append-only file of Redis."""
        return self.root / "redis"

    @property
    def run(self) -> Path:
        """Sockets and process records: nothing to back up."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """What the servers say."""
        return self.root / "logs"

    @property
    def models(self) -> Path:
        """Downloaded and converted models."""
        return self.root / "models"

    @property
    def states(self) -> Path:
        """What engines have computed of long prompts: nothing to back up."""
        return self.root / "states"


@contextmanager
def claimed(path: Path) -> Generator[DataFolder]:
    """Make the folder if needed and hold it for the length of the block; only its owner can enter it.

    Raises:
        FolderInUse: another process serves it.
        EmbeddedError: it cannot be used: not ours, not a data folder, or a path that sockets cannot have.
    """
    if sys.platform != "linux":  # Ending with a killed parent, and telling pids apart, are done in Linux' way.
        raise EmbeddedError("askonce serves on Linux only: elsewhere, run it in a container.")
    root = path.expanduser().resolve()
    _check_path(root)
    folder = DataFolder(root)
    try:
        _make_private(root)
        lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as refused:
        message = f"The data folder {root} cannot be used ({refused.strerror}): choose another --data-dir."
        raise EmbeddedError(message) from refused
    try:
        # The kernel drops this lock with the process that holds it, however it ends: it cannot become stale.
        _lock(lock, root)
        for name in _SUBFOLDERS:
            (root / name).mkdir(mode=0o700, exist_ok=True)
        yield folder
    finally:
        os.close(lock)


def _lock(lock: int, root: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        message = f"{root} is already served by pid {owner}; stop it or choose another --data-dir."
        raise FolderInUse(message) from held
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _make_private(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    strangers = sorted({entry.name for entry in root.iterdir()} - _KNOWN)
    if strangers and not (root / _LOCK).exists():
        message = (
            f"{root} holds other files ({strangers[0]} …) and is no askonce data folder: choose another --data-dir."
        )
        raise EmbeddedError(message)
    if root.stat().st_mode & 0o777 != 0o700:
        root.chmod(0o700)


def _check_path(root: Path) -> None:
    if "," in str(root):  # Postgres' clients read it as two hosts.
        message = f"The path of the data folder must have no comma: {root}. Choose another --data-dir."
        raise EmbeddedError(message)
    length = len(os.fsencode(root / _LONGEST_SOCKET))
    if length > _SOCKET_PATH_MAX_BYTES:
        longest = _SOCKET_PATH_MAX_BYTES - len(_LONGEST_SOCKET) - 1
        message = f"{root} is too long a path for sockets ({len(os.fsencode(root))} bytes, at most {longest})"
        raise EmbeddedError(f"{message}: choose a shorter --data-dir.")
