"""`askonce sql`: what a tenant may read, in a terminal or by its connection string, as the role of that tenant."""

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import click
import msgspec

from gateway import config as settings
from gateway.caller import DEFAULT_TENANT
from gateway.config import Config
from gateway.printing import printable
from storage.errors import EmbeddedError

_data_dir = click.option("--data-dir", type=click.Path(path_type=Path), help="Where everything embedded lives.")
_config = click.option(
    "--config", "file", type=click.Path(path_type=Path), default=settings.config_file, help="A settings file (TOML)."
)
_FOLLOWS_S: Final = 10.0
_LOOK_S: Final = 0.05


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """How a tenant comes to its rows."""

    url: str
    """Where, as its role and without a password."""
    password: str = ""
    """Empty for a socket that only this user may open."""

    @property
    def dsn(self) -> str:
        """All of it in one string."""
        parts = urlsplit(self.url)
        role, _, place = parts.netloc.rpartition("@")
        secret = f":{quote(self.password, safe='')}" if self.password else ""
        return urlunsplit(parts._replace(netloc=f"{role}{secret}@{place}"))


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose rows.")
@click.option("--dsn", "dsn_of", metavar="TENANT", help="Print this tenant's connection string, and open nothing.")
@_data_dir
@_config
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sql(tenant: str, dsn_of: str | None, data_dir: Path | None, file: Path | None, arguments: tuple[str, ...]) -> None:
    """Open psql on what a tenant may read; further words are psql's own. Where there is no psql, a plain prompt."""
    config = settings.load(file, {"data_dir": data_dir})
    login = asyncio.run(_login(config, dsn_of or tenant))
    if dsn_of:
        if not login.password:
            click.echo("Only programs of this user can use it; `sql_port` opens a port for others.", err=True)
        click.echo(login.dsn)
    elif program := _psql():
        if login.password:
            os.putenv("PGPASSWORD", login.password)  # everybody on the machine sees the words of a command line
        sys.stdout.flush()
        os.execv(program, [program, login.url, *arguments])  # noqa: S606 -- it is psql, the words are the user's own
    else:
        asyncio.run(_prompt(config, tenant))


def _psql() -> str | None:
    from storage.embedded import clients  # noqa: PLC0415 -- the other commands need none of it

    try:
        return clients.psql_program()
    except EmbeddedError:
        return shutil.which("psql")


def _places(config: Config) -> tuple[str, str]:
    """Where roles are made, and where tenants' statements run: on the standby if there is one. Raises
    `EmbeddedError`.
    """
    if config.database_url:
        return config.database_url, config.sql_database_url or config.database_url
    from storage.embedded import clients  # noqa: PLC0415 -- only for who has an embedded one

    root = config.folder().expanduser().resolve()
    primary = clients.served_database(root)
    standby = clients.served_standby(root)
    if config.sql_port and not standby:
        message = "The standby of the embedded Postgres does not run yet: wait for 'standby: ready' in askonce's log."
        raise EmbeddedError(message)
    return primary, standby or primary


async def _login(config: Config, tenant: str) -> Login:
    """Raises `EmbeddedError` and `SqlFault`."""
    from storage import migrate  # noqa: PLC0415 -- asyncpg is only for those who need it
    from storage.tenant_sql.gate import Gate  # noqa: PLC0415 -- see above
    from storage.tenant_sql.statements import Limits  # noqa: PLC0415 -- see above

    primary, place = _places(config)
    async with migrate.opened(primary) as connection:
        role, password = await Gate(connection, _at(place), Limits()).entry(tenant)
    if config.database_url:
        return Login(url=_address_as(place, role), password=password)
    if port := await _port(place, role):
        url = f"postgresql://{role}@127.0.0.1:{port}/{urlsplit(place).path[1:]}"
        return Login(url=url, password=password)
    return Login(url=_address_as(place, role))


async def _port(place: str, role: str) -> int:
    """At which port a server of ours listens, 0 for none; once it knows the role. Raises `EmbeddedError`."""
    from storage import migrate  # noqa: PLC0415 -- asyncpg is only for those who need it
    from storage import sql as questions  # noqa: PLC0415 -- see above

    async with migrate.opened(place) as connection:
        for _ in range(int(_FOLLOWS_S / _LOOK_S)):
            (row,) = await connection.fetch(questions.query("tenant_sql_there"), role)
            if row["is_there"]:
                return row["port"]
            await asyncio.sleep(_LOOK_S)
    message = "The standby is too far behind the embedded Postgres: it does not know this tenant yet. Try again soon."
    raise EmbeddedError(message)


async def _prompt(config: Config, tenant: str) -> None:
    """Statements from the terminal, each ended by `;` at the end of a line, until there are no more."""
    from storage import postgres  # noqa: PLC0415 -- asyncpg is only for those who need it
    from storage.tenant_sql.faults import SqlFault  # noqa: PLC0415 -- see above
    from storage.tenant_sql.gate import Gate  # noqa: PLC0415 -- see above
    from storage.tenant_sql.statements import Limits  # noqa: PLC0415 -- see above

    primary, place = _places(config)
    limits = Limits(rows=config.sql_max_rows, bytes=config.sql_max_bytes, seconds=config.sql_timeout_s)
    pool = await postgres.connect(primary, 1)
    gate = Gate(pool, _at(place), limits)
    lines: list[str] = []
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            lines.append(line)
            if not line.rstrip().endswith(";"):
                continue
            text, lines = "".join(lines).rstrip().removesuffix(";"), []
            try:
                result = await gate.run(tenant, text)
            except SqlFault as fault:
                click.echo(printable(str(fault)), err=True)
                continue
            click.echo(printable(" | ".join(column.name for column in result.columns)))
            for row in (row for rows in result.batches for row in rows):
                click.echo(" | ".join(printable(_shown(value)) for value in row))
    finally:
        await gate.aclose()
        pool.terminate()


def _at(place: str) -> Callable[[], Awaitable[str]]:
    async def where() -> str:
        return place

    return where


def _address_as(url: str, role: str) -> str:
    """The same address for another role, without any password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(role, safe='')}@{host}"))


def _shown(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()
