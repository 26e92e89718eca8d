"""What a server says of the model it serves -> the name of its weights: one that other weights never have.

The digest of the files, where they can be read here and are certainly those that the server has loaded. Else the
operator's own name for them, where the server passes one on. Else the process: answers are kept as long as it runs.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec


class Seen(Protocol):
    """The state of a model's files."""

    @property
    def changed_s(self) -> float:
        """When the last of them came to be as it is, in seconds since 1970."""
        ...

    @property
    def sign(self) -> str:
        """Another one whenever any of them changed."""
        ...


class Files(Protocol):
    """The models on this machine."""

    async def seen(self, path: Path) -> Seen | None:
        """The state of the model at `path`, or None where no model can be read."""
        ...

    async def of(self, path: Path) -> str:
        """The digest of the model at `path`. Raises `OSError`."""
        ...


class NoFiles:
    """A machine without models."""

    async def seen(self, path: Path) -> Seen | None:
        """None."""
        del path
        return None

    async def of(self, path: Path) -> str:
        """Raise `OSError`."""
        raise FileNotFoundError(path)


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of its model and of itself."""

    engine_version: str = ""
    roots: tuple[str, ...]
    """Where the weights came from: those of the model, then those of an adapter on top."""
    here: bool = False
    """The server runs on this machine, so that its paths mean the same files as ours."""
    read_since_s: float | None = None
    """The earliest time at which it can have read them, in seconds since 1970."""
    process: str = ""
    """What no other process would say; nothing where only a name can be had, and has to do."""
    manner: str = ""
    """A digest of what else changes answers, such as a chat template that is not the model's own."""


class Weights:
    """Names the weights of one server. `changed` is called before a name is made that is not the last one."""

    def __init__(self, files: Files, changed: Callable[[], None]) -> None:
        self._files = files
        self._changed = changed
        self._of: tuple[Served, list[Seen | None]] | None = None
        self._version = ""

    async def version(self, served: Served, fingerprint: Callable[[], Awaitable[str]]) -> str:
        """Their name. `fingerprint` tells what the operator calls them, if anything. Raises `BackendError`."""
        seen = [await self._seen(root, served) for root in served.roots]
        if self._of != (served, seen):
            self._changed()
            self._version = await self._named(served, seen, fingerprint)
            self._of = served, seen
        return self._version

    async def _seen(self, root: str, served: Served) -> Seen | None:
        path = Path(root)
        return await self._files.seen(path) if served.here and path.is_absolute() else None

    async def _named(self, served: Served, seen: list[Seen | None], fingerprint: Callable[[], Awaitable[str]]) -> str:
        manner = f"/{served.manner}" if served.manner else ""
        if _are_loaded(served, seen) and (digest := await self._digest(served.roots)):
            return digest + manner
        if own := await fingerprint():
            return f"fingerprint:{own}{manner}"
        name = "+".join(served.roots)
        if served.process:  # a file that is changed under it may be mapped into it
            return "@".join([name, served.process, *(one.sign for one in seen if one)])
        return ((all(seen) and await self._digest(served.roots)) or name) + manner

    async def _digest(self, roots: tuple[str, ...]) -> str:
        try:
            return "+".join([await self._files.of(Path(root)) for root in roots])
        except OSError:
            return ""


def _are_loaded(served: Served, seen: list[Seen | None]) -> bool:
    """Whether the files are as they were when the server read them."""
    since_s = served.read_since_s
    return since_s is not None and bool(seen) and all(one is not None and one.changed_s < since_s for one in seen)
