"""What all engines are given, and what they have in common."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from gateway.config import PREFIX, Config, ConfigError
from gateway.models.digest import weights_digest
from storage.embedded.child import Command
from storage.embedded.folder import DataFolder
from storage.errors import AskonceError, EmbeddedError

_INHERITED = os.environ  # noqa: TID251 -- handed on to children, not read

LAST_LINES: Final = 12
"""So much of an engine's log is shown when it does not start."""


class EngineMissing(AskonceError):
    """The engine's program is not on this machine."""


class Tell(Protocol):
    """Who shows the user what happens."""

    def step(self, name: str, said: str) -> None:
        """Something is done."""
        ...

    def notice(self, sentence: str) -> None:
        """Something the user should know."""
        ...

    def moving(self, name: str, said: str, share: float | None = None) -> None:
        """Something goes on, and how much of it is done, from 0 to 1."""
        ...

    def settled(self, name: str) -> None:
        """It goes on no more."""
        ...


class Setting(msgspec.Struct, frozen=True):
    """The settings in force, the claimed data folder, and who shows the user what happens."""

    config: Config
    folder: DataFolder
    tell: Tell

    @property
    def models_dir(self) -> Path:
        """Where models are kept."""
        return self.folder.models


class Weights(msgspec.Struct, frozen=True):
    """The files that an engine loads, and their digest when it was first started."""

    path: Path
    digest: str
    models_dir: Path

    @classmethod
    async def of(cls, path: Path, models_dir: Path) -> Weights:
        """Those at `path`, now. Raises `OSError`."""
        return cls(path, await weights_digest(path, models_dir=models_dir), models_dir)

    async def unchanged(self, command: Command) -> Command:
        """For `Care.renewed`: `command`, while the files are the same. Others would be answering in their name.

        Raises `EmbeddedError`.
        """
        await self.expect()
        return command

    async def expect(self) -> None:
        """Raise `EmbeddedError` unless the files are the same."""
        try:
            digest = await weights_digest(self.path, models_dir=self.models_dir)
        except OSError as unreadable:
            message = f"The model {self.path} cannot be read any more: {unreadable.strerror}."
            raise EmbeddedError(message) from unreadable
        if digest != self.digest:
            message = f"The model {self.path} is another one than at the start: restart askonce to serve it."
            raise EmbeddedError(message)


def expect_free_name(config: Config, name: str) -> None:
    """Raise `ConfigError` when a configured backend has the name of the engine's model."""
    if name in {backend.served_name for backend in config.backends}:
        message = (
            f"One of `backends` is served as '{name}', the name of the embedded model: give it another `alias`, or set"
            " `model` to 'none'."
        )
        raise ConfigError(message)


def marked(version: str, arguments: Sequence[str]) -> str:
    """An engine's version, with a mark of what else it was told: that can change its answers too."""
    if not arguments:
        return version
    return f"{version}+{hashlib.sha256(msgspec.json.encode(arguments)).hexdigest()[:12]}"


def environment(additions: Mapping[str, str]) -> dict[str, str]:
    """What a child gets: all of our environment but askonce's own settings, which may hold keys."""
    inherited = {name: value for name, value in _INHERITED.items() if not name.startswith(PREFIX)}
    return {**additions, **inherited}
