"""A folder of saved states: found by the beginnings of prompts, checked before use, the least recently used go first.

A state is two files: what llama.cpp wrote, and a note with its sha256, written last. Whatever is not exactly as it was
written is thrown away. Workers share the folder: changes are made under a lock, and a worker reads the folder again
when it has changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final

import msgspec

from gateway.backends.prefix_states.chain import Chain
from gateway.canonical import Identity

_DATA, _NOTE, _PART = ".kv", ".json", ".part"
_LOCK: Final = "states.lock"
_ORPHAN_AFTER_S: Final = 600.0


class State(msgspec.Struct, frozen=True):
    """The note of one state."""

    prefix_hash: str
    """Of the longest beginning that two prompts were seen to share."""
    model_version: str
    engine_version: str
    chain: tuple[str, ...]
    """All beginnings that it holds."""
    tokens: int
    size_bytes: int
    sha256: str


class Found(msgspec.Struct, frozen=True):
    """A state, and how many beginnings of a prompt it holds."""

    name: str
    state: State
    depth: int

    @property
    def file(self) -> str:
        """What llama.cpp calls it."""
        return self.name + _DATA


class Store:
    """The states in `folder` that were made by `identity`; all of the folder together is at most `max_bytes`.

    Its methods read and write files: call them from a thread, but for `best` and `changed`.
    """

    def __init__(self, folder: Path, identity: Identity, max_bytes: int) -> None:
        self._folder = folder
        self._identity = identity
        self.max_bytes = max_bytes
        self._held: dict[bytes, tuple[str, State]] = {}
        self._read_at: int | None = None

    def changed(self) -> bool:
        """Whether the folder was changed since `read`."""
        try:
            return self._folder.stat().st_mtime_ns != self._read_at
        except OSError:
            return False

    def read(self) -> None:
        """Learn what there is."""
        read_at = self._folder.stat().st_mtime_ns
        states = {path.stem: state for path in self._folder.glob(f"*{_NOTE}") if (state := self._note(path))}
        self._held = {bytes.fromhex(h): (name, state) for name, state in states.items() for h in state.chain}
        self._read_at = read_at

    def best(self, chain: Chain) -> Found | None:
        """The state that holds most of a prompt."""
        for depth in range(len(chain), 0, -1):
            if (held := self._held.get(chain[depth - 1])) is not None:
                return Found(*held, depth)
        return None

    def intact(self, found: Found) -> bool:
        """Whether a state is byte for byte what was written; from now on it counts as used."""
        path = self._folder / found.file
        try:
            if path.stat().st_size != found.state.size_bytes or _sha256(path) != found.state.sha256:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def drop(self, found: Found) -> None:
        """Throw a state away."""
        with self._locked():
            self._remove(found.name)
        self.read()

    def name(self, shared: bytes) -> str:
        """A new name, for the state of a beginning."""
        who = hashlib.sha256(msgspec.json.encode(self._identity)).hexdigest()[:12]
        return f"{who}-{shared.hex()}-{secrets.token_hex(4)}"

    def part(self, name: str) -> str:
        """What llama.cpp shall call the file while it is not kept."""
        return name + _PART

    def keep(self, name: str, chain: Chain, shared: int, tokens: int) -> None:
        """Keep the file that llama.cpp wrote as `part(name)`, and make room for it. Raises `OSError`."""
        part, data = self._folder / self.part(name), self._folder / (name + _DATA)
        state = State(
            prefix_hash=chain[shared - 1].hex(),
            model_version=self._identity.model_version,
            engine_version=self._identity.engine_version,
            chain=tuple(h.hex() for h in chain),
            tokens=tokens,
            size_bytes=part.stat().st_size,
            sha256=_sha256(part),
        )
        _flush(part)
        with self._locked():
            part.replace(data)
            note = self._folder / (name + _NOTE)
            unfinished = note.with_suffix(".note" + _PART)
            unfinished.write_bytes(msgspec.json.encode(state))
            _flush(unfinished)
            unfinished.replace(note)
            self._make_room()
        self.read()

    def forget(self, name: str) -> None:
        """Remove a file that will not be kept."""
        (self._folder / self.part(name)).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what killed processes left, and what is too much."""
        with self._locked():
            self._make_room()

    def _make_room(self) -> None:
        notes, kept = {path.stem for path in self._folder.glob(f"*{_NOTE}")}, list[tuple[int, int, str]]()
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix == _DATA and path.stem in notes:
                    kept.append((status.st_mtime_ns, status.st_size, path.stem))
                elif path.suffix in {_DATA, _PART} and time.time() - status.st_mtime > _ORPHAN_AFTER_S:
                    path.unlink()
        for name in notes - {name for _, _, name in kept}:
            self._remove(name)
        for name in _superfluous(kept, self.max_bytes):
            self._remove(name)

    def _remove(self, name: str) -> None:
        for ending in (_NOTE, _DATA):  # the note first: data without one is nothing
            (self._folder / (name + ending)).unlink(missing_ok=True)

    def _note(self, path: Path) -> State | None:
        """A note that can be read and is about this model; others may be some other worker's, or some day's."""
        try:
            state = msgspec.json.decode(path.read_bytes(), type=State)
            list(map(bytes.fromhex, state.chain))
        except (OSError, ValueError):
            return None
        who = (state.model_version, state.engine_version)
        return state if who == (self._identity.model_version, self._identity.engine_version) else None

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        with (self._folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _superfluous(kept: Iterable[tuple[int, int, str]], max_bytes: int) -> list[str]:
    """Of (last use, size, name) the names that have no room, the least recently used first."""
    newest_first, total, names = sorted(kept, reverse=True), 0, list[str]()
    for _, size, name in newest_first:
        total += size
        if total > max_bytes:
            total -= size
            names.append(name)
    return names


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
