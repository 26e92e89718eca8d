"""What must be right in the database before requests are answered: its schema, and a key where others can ask."""

import asyncio
from typing import Final

import click

from gateway import config as settings
from gateway.config import Config, ConfigError
from storage import migrate
from storage.embedded.marker import KeysRequired
from storage.errors import AskonceError
from storage.keys import KeyStore
from storage.tenant_sql import preparing

_RETRY_S: Final = 5.0


class Preparation:
    """Brings the schema to this version. A database that is down stops nothing: it is tried again until it is back."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._later: asyncio.Task[None] | None = None
        self._sql: asyncio.Task[None] | None = None

    async def __call__(self, url: str) -> bool:
        """Prepare the database at `url`; False when that is left for later, since it cannot be reached.

        Raises `MigrationError`, `AddressError` and `ConfigError`.
        """
        try:
            await migrate.migrate(url)
            await self._look_for_keys(url)
            self._sql = asyncio.create_task(self._sql_prepared(url))  # nobody waits for it but tenants' SQL
        except migrate.UnreachableError as error:
            click.echo(f"{error} Answers are served, but not recorded until it is back.", err=True)
            self._later = asyncio.create_task(self._when_back(url))  # the workers look for keys themselves
            return False
        return True

    async def _look_for_keys(self, url: str) -> None:
        """Remember whether there was ever one, for workers that cannot ask. Raises `ConfigError` where one must be."""
        config = self._config
        async with migrate.opened(url) as connection:
            store = KeyStore(connection)
            marker = KeysRequired(config.folder().expanduser().resolve())
            marker.set() if await store.ever() else marker.unset()
            if config.host in settings.LOOPBACK or config.admin_key or await store.any():
                return
        message = (
            f"Others can reach {config.host}, and there is no key: make one with 'askonce keys create', set admin_key"
            " (ASKONCE_ADMIN_KEY), or listen on 127.0.0.1."
        )
        raise ConfigError(message)

    async def _when_back(self, url: str) -> None:
        while True:
            await asyncio.sleep(_RETRY_S)
            try:
                await migrate.migrate(url)
            except migrate.UnreachableError:
                continue
            except AskonceError as error:
                click.echo(f"Postgres is back, but answers cannot be recorded: {error}", err=True)
            else:
                click.echo("Postgres is back; answers are recorded.", err=True)
                await self._sql_prepared(url)
            return

    async def _sql_prepared(self, url: str) -> None:
        """Have tenants' SQL be ready; that it cannot be stops nothing else."""
        mode = self._config.tenant_sql
        try:
            refused = await preparing.prepare(url, mode)
        except AskonceError as error:
            refused = str(error)
        if refused and (mode == "on" or not self._config.database_url):
            click.echo(f"Tenants' SQL is off: {refused}", err=True)
