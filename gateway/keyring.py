"""`askonce keys` and `askonce namespaces`: who may ask, and which tenants share answers."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from gateway import config as settings
from gateway.caller import DEFAULT_TENANT, SCOPES
from gateway.config import Config
from gateway.printing import printable

T = TypeVar("T")

_NO_KEY: Final = "There is no key; everybody on this machine may ask. 'askonce keys create' makes one."
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Lifetime(click.ParamType[timedelta]):
    """`90d`, `12h`, `30m` or `2w` as a timedelta."""

    name = "lifetime"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if (found := re.fullmatch(r"(\d{1,5})([mhdw])", str(value))) is None:
            self.fail(f"'{value}' is no time; write 30m, 12h, 90d or 2w.", param, ctx)
        if not int(found[1]) and param and param.name == "expires":
            self.fail(
                "a key that lives no time is none; leave it out for one that lives until it is revoked.", param, ctx
            )
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


_config = click.option(
    "--config", "file", type=click.Path(path_type=Path), default=settings.config_file, help="A settings file (TOML)."
)
_data_dir = click.option("--data-dir", type=click.Path(path_type=Path), help="Where everything embedded lives.")


def _named(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """The models as they were given. Raises `BadParameter` for one without a name: the key could ask nothing."""
    if not all(name.strip() for name in value):
        message = "a model's name is empty; leave --model out for a key that may ask all of them."
        raise click.BadParameter(message, ctx, param)
    return value


@click.group()
def keys() -> None:
    """Make, list, revoke and rotate the keys that requests carry."""


@keys.command()
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose key it is; made when it is new.")
@click.option("--label", default="", help="What the key is for, in your own words.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(sorted(SCOPES)),
    multiple=True,
    default=("ask", "cache"),
    show_default=True,
    help="What it is good for; may be said several times.",
)
@click.option("--model", "models", multiple=True, callback=_named, help="A model it may ask; without any, all of them.")
@click.option("--expires", type=Lifetime(), help="How long it lives: 30m, 12h, 90d, 2w. Without it, until revoked.")
@_data_dir
@_config
def create(file: Path | None, data_dir: Path | None, expires: timedelta | None, **wanted: Any) -> None:
    """Make a key and show it, this once."""
    from storage.keys import Wanted  # noqa: PLC0415 -- asyncpg is only for those who need it

    _warn_of_unserved(settings.load(file, {"data_dir": data_dir}), wanted["models"])
    asked = Wanted(
        tenant=wanted["tenant"],
        label=wanted["label"],
        scopes=wanted["scopes"],
        models=wanted["models"] or None,
        lifetime=expires,
    )
    _show_new(_with_store(file, data_dir, lambda store: store.create(asked)))


@keys.command("list")
@click.option("--tenant", help="Only the keys of this tenant.")
@_data_dir
@_config
def list_(file: Path | None, data_dir: Path | None, tenant: str | None) -> None:
    """Show every key, without its secret."""
    found = _with_store(file, data_dir, lambda store: store.list(tenant))
    if not found:
        none = f"The tenant '{tenant}' has no key." if tenant is not None else _NO_KEY
        click.echo(printable(none))
        return
    now = datetime.now(UTC)
    form = "{:14} {:8} {:16} {:14} {:20} {:20} {}"
    click.echo(form.format("KEY", "STATE", "TENANT", "SCOPES", "CREATED", "EXPIRES", "MODELS AND LABEL"))
    for key in found:
        models = "all models" if key.models is None else ", ".join(key.models)
        expires = f"{key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "never"
        said = f"{models}; {key.label}" if key.label else models
        scopes, created = ",".join(key.scopes), f"{key.created_at:%Y-%m-%d %H:%M}"
        row = form.format(f"ak-{key.id}", key.state(now), key.tenant, scopes, created, expires, said)
        click.echo(printable(row))  # labels and models are whatever somebody called them


@keys.command()
@click.argument("key")
@_data_dir
@_config
def revoke(file: Path | None, data_dir: Path | None, key: str) -> None:
    """End KEY (its visible part, ak-…), on every gateway within milliseconds."""
    _with_store(file, data_dir, lambda store: store.revoke(_id(key)))
    click.echo(f"ak-{_id(key)} opens nothing any more.")


@keys.command()
@click.argument("key")
@click.option("--grace", type=Lifetime(), default="0m", help="How long the old one still opens: 30m, 12h, 2d.")
@_data_dir
@_config
def rotate(file: Path | None, data_dir: Path | None, key: str, grace: timedelta) -> None:
    """Make a key like KEY, show it this once, and end KEY."""
    _show_new(_with_store(file, data_dir, lambda store: store.rotate(_id(key), grace)))


@click.group()
def namespaces() -> None:
    """Places in which several tenants share answers."""


@namespaces.command("create")
@click.argument("name")
@_data_dir
@_config
def create_namespace(file: Path | None, data_dir: Path | None, name: str) -> None:
    """Make a namespace."""
    _with_store(file, data_dir, lambda store: store.create_namespace(name))
    click.echo(f"Made '{name}'. 'askonce namespaces join {name} TENANT' lets a tenant in.")


@namespaces.command("list")
@_data_dir
@_config
def list_namespaces(file: Path | None, data_dir: Path | None) -> None:
    """Show every namespace and who is in it."""
    for name, tenants in _with_store(file, data_dir, lambda store: store.namespaces()):
        click.echo(f"{name:24} {', '.join(tenants) or 'nobody'}")


@namespaces.command()
@click.argument("name")
@click.argument("tenant")
@_data_dir
@_config
def join(file: Path | None, data_dir: Path | None, name: str, tenant: str) -> None:
    """Let TENANT ask in the namespace NAME, with the header x-askonce-namespace."""
    _with_store(file, data_dir, lambda store: store.join(name, tenant))
    click.echo(f"'{tenant}' may use 'x-askonce-namespace: {name}'.")


@namespaces.command()
@click.argument("name")
@click.argument("tenant")
@_data_dir
@_config
def leave(file: Path | None, data_dir: Path | None, name: str, tenant: str) -> None:
    """Keep TENANT out of the namespace NAME from now on."""
    _with_store(file, data_dir, lambda store: store.leave(name, tenant))
    click.echo(f"'{tenant}' is out of '{name}'.")


def _warn_of_unserved(config: Config, models: Iterable[str]) -> None:
    """Say on stderr which of `models` are not configured, unless a model is served that the settings do not name."""
    served = {backend.served_name for backend in config.backends}
    if config.embedded_model() is not None:
        return
    for name in models:
        if name not in served:
            known = ", ".join(sorted(served)) or "none"
            click.echo(printable(f"No model '{name}' is configured here; these are: {known}."), err=True)


def _show_new(text: str) -> None:
    click.echo(text)
    click.echo("Keep it now: only its hash is stored. From now on every request needs a key.", err=True)


def _id(key: str) -> str:
    """The id in what `keys list` shows, or in a whole key."""
    return key.removeprefix("ak-").partition("-")[0]


def _with_store(file: Path | None, data_dir: Path | None, work: "Callable[[Any], Awaitable[T]]") -> T:
    """Run `work` on the keys of the configured database, brought to this version first."""
    return asyncio.run(_worked(settings.load(file, {"data_dir": data_dir}), work))


async def _worked(config: Config, work: "Callable[[Any], Awaitable[T]]") -> T:
    import asyncpg  # noqa: PLC0415 -- only for those who need it

    from storage import migrate  # noqa: PLC0415 -- see above
    from storage.embedded import clients  # noqa: PLC0415 -- see above
    from storage.keys import KeyStore  # noqa: PLC0415 -- see above

    async with clients.opened(config.database_url, config.folder().expanduser().resolve()) as url:
        await migrate.migrate(url)
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await work(KeyStore(connection))
        finally:
            await connection.close(timeout=5)
