"""What the command line wants served, and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from gateway.config import BackendConfig, Config

Prepare = Callable[[str], Awaitable[bool]]
"""Given the database's URL, makes its schema fit; False when that is left for later, since it cannot be reached."""


class ServePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `serve` needs to know: the settings in force, and the command that a worker is started by."""

    config: Config
    worker_argv: tuple[str, ...]
    reload: Callable[[], Config] | None = None
    """Reads the settings again. Raises `ConfigError`."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers are that were started or configured."""

    database_url: str
    redis_url: str
    engine: BackendConfig | None = None
    """The model that askonce serves itself."""
    embedder: BackendConfig | None = None
    """The model beside it that embeds what is kept."""
    folder: Path | None = None
    """Where everything embedded lives."""

    def wired(self, config: Config) -> Config:
        """`config` as the workers shall have it: nothing in it is left to start, nor its folder to be found."""
        ours = tuple(one for one in (self.engine, self.embedder) if one)
        return msgspec.structs.replace(
            config,
            backends=(*ours, *config.backends),
            embedding_model=self.embedder.served_name if self.embedder else config.embedding_model,
            database_url=self.database_url,
            # Empty, a worker asks for the standby of the embedded one.
            sql_database_url=config.sql_database_url or config.database_url,
            sql_port=0,
            redis_url=self.redis_url,
            data_dir=self.folder or config.data_dir,
        )
