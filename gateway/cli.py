"""`askonce`: serve, migrate, explain, verify, semantic, bench, SQL, and the clients of the embedded servers."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from gateway import config as settings
from gateway.bench.command import command as bench
from gateway.config import Config
from gateway.keyring import keys, namespaces
from gateway.printing import plain_json, printable
from gateway.shell import sql
from gateway.showing import models
from storage.errors import AskonceError

_config = click.option(
    "--config", "file", type=click.Path(path_type=Path), default=settings.config_file, help="A settings file (TOML)."
)
_data_dir = click.option("--data-dir", type=click.Path(path_type=Path), help="Where everything embedded lives.")


class _Group(click.Group):
    """Commands whose known errors are one sentence and status 1."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them; some only when they are wanted, for the others need neither a client, nor what reads recipes,
        nor a database.
        """
        if cmd_name == "verify":
            from gateway.verifying.command import command  # noqa: PLC0415 -- see above

            return command
        if cmd_name == "recipes":
            from gateway.recipes.command import recipes  # noqa: PLC0415 -- see above

            return recipes
        if cmd_name == "semantic":
            from gateway.trials.command import semantic  # noqa: PLC0415 -- see above

            return semantic
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return sorted([*super().list_commands(ctx), "recipes", "semantic", "verify"])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse bytes that are no text: neither a database nor HTTP takes them, and no name here has them."""
        for word in args:
            if not _is_text(word):
                message = f"An argument is not UTF-8: {os.fsencode(word)!r}."
                raise click.UsageError(message, ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AskonceError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=None, version="0.1.0", prog_name="askonce")
def main() -> None:
    """Ask once, keep the answer: an LLM serving and caching gateway."""


@main.command()
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (default 8080; 0 takes a free one).")
@_data_dir
@click.option("--workers", type=int, help="Gateway processes (default 1).")
@click.option("--model", help="'bundled', a GGUF file, a Hugging Face folder or repository, or 'none'.")
@click.option("--engine", type=click.Choice(["llamacpp", "ollama", "vllm"]), help="What serves it (default llamacpp).")
@click.option("--engine-arg", "engine_args", multiple=True, help="A further word for the engine; can be repeated.")
@_config
def serve(file: Path | None, engine_args: tuple[str, ...], **options: Any) -> None:
    """Serve until stopped: embedded Postgres, Redis and an engine with a model, unless others are configured."""
    from gateway import starting, supervisor  # noqa: PLC0415 -- the other commands need none of it

    # What is read now is read again when asked to: in another folder, or without it, that would be something else.
    read_from = (file or Path(settings.FILE)).absolute() if file or Path(settings.FILE).is_file() else None

    def read() -> Config:
        return settings.load(read_from, options | {"engine_args": engine_args or None})

    config = read()
    plan = supervisor.ServePlan(config=config, worker_argv=(sys.executable, "-m", "gateway.worker"), reload=read)
    sys.exit(asyncio.run(supervisor.serve(plan, prepare=starting.Preparation(config))))


@main.command()
@click.option("--status", "only_status", is_flag=True, help="Show what is applied; change nothing.")
@click.option("--database-url", help="Another database than the configured one.")
@_data_dir
@_config
def migrate(*, only_status: bool, database_url: str | None, data_dir: Path | None, file: Path | None) -> None:
    """Bring the database's schema to this version, and have tenants' SQL be ready and tested there."""
    config = settings.load(file, {"data_dir": data_dir, "database_url": database_url})
    asyncio.run(_status(config) if only_status else _on_database(config, partial(_show_applied, config)))


@main.command()
@click.argument("request", type=click.File("rb"))
@click.option("--url", help="A running askonce (default: the configured host and port).")
@click.option("--api-key", help="The key to ask with (default: the configured admin_key).")
@click.option("--path", help="Where it would be sent, such as /api/chat (default: where OpenAI's clients would).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_config
def explain(
    request: Any, url: str | None, api_key: str | None, path: str | None, *, as_json: bool, file: Path | None
) -> None:
    """Show REQUEST's canonical form, every part of its key, which tier would answer, and why the others would not.

    The status is 0 when that could be said, and 2 when not: no askonce, no good key, no request.
    """
    from gateway.client import Gateway, RefusedError, UnansweredError  # noqa: PLC0415 -- only two commands need httpx

    config = settings.load(file)
    with Gateway(url or settings.local_url(config.host, config.port), api_key or config.admin_key) as gateway:
        try:
            said = gateway.explain(request.read(), path)
        except RefusedError as refused:
            raise UnansweredError(printable(str(refused))) from refused
    # Texts of requests: they could move the cursor or change the colours.
    click.echo(plain_json(said, indent=2) if as_json else "\n".join(map(printable, _explained(said))))


@main.command(context_settings={"ignore_unknown_options": True})
@_data_dir
@_config
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(data_dir: Path | None, file: Path | None, arguments: tuple[str, ...]) -> None:
    """Open psql on the embedded database that is being served; further words are psql's own."""
    from storage.embedded import clients  # noqa: PLC0415 -- only the embedded servers' commands need it

    root = settings.load(file, {"data_dir": data_dir}).folder()
    _become(clients.psql(root.expanduser().resolve(), arguments))


@main.command("redis-cli", context_settings={"ignore_unknown_options": True})
@_data_dir
@_config
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def redis_cli(data_dir: Path | None, file: Path | None, arguments: tuple[str, ...]) -> None:
    """Open redis-cli on the embedded Redis that is being served; further words are redis-cli's own."""
    from storage.embedded import clients  # noqa: PLC0415 -- only the embedded servers' commands need it

    root = settings.load(file, {"data_dir": data_dir}).folder()
    _become(clients.redis_cli(root.expanduser().resolve(), arguments))


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _become(argv: list[str]) -> None:
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606 -- the program is ours, the words the user's own


async def _on_database(config: Config, work: Callable[[str], Awaitable[None]]) -> None:
    """Run `work` on the configured database, or on the embedded one, started for it if need be."""
    from storage.embedded import clients  # noqa: PLC0415 -- only the embedded servers' commands need it

    async with clients.opened(config.database_url, config.folder().expanduser().resolve()) as url:
        await work(url)


async def _status(config: Config) -> None:
    """Show each step's state; where nothing was ever served, without making a folder or a database for it."""
    from storage import migrate as steps  # noqa: PLC0415 -- asyncpg is only for those who need it
    from storage.embedded import clients  # noqa: PLC0415 -- only the embedded servers' commands need it

    if config.database_url or clients.has_database(config.folder().expanduser().resolve()):
        await _on_database(config, _show_status)
        return
    for step in steps.steps():
        _show_step(step.name, None)


async def _show_status(url: str) -> None:
    from storage import migrate as steps  # noqa: PLC0415 -- asyncpg is only for those who need it

    for step in await steps.status(url):
        _show_step(step.name, step.applied_at)


def _show_step(name: str, applied_at: str | None) -> None:
    click.echo(f"{name:40} {applied_at or 'not applied'}")


async def _show_applied(config: Config, url: str) -> None:
    from storage import migrate as steps  # noqa: PLC0415 -- asyncpg is only for those who need it
    from storage.tenant_sql import preparing  # noqa: PLC0415 -- see above

    applied = await steps.migrate(url)
    for step in applied:
        click.echo(f"{step.name:40} applied")
    if not applied:
        click.echo("Nothing to do: the database is at this version.")
    refused = await preparing.prepare(url, config.tenant_sql)
    click.echo(f"Tenants' SQL is off: {refused}." if refused else "Tenants' SQL is ready, and has passed its tests.")


def _explained(said: dict[str, Any]) -> list[str]:
    lines = [f"key      {said['key']}", f"answer   {_where(said)}"]
    lines += [f"why      {said['why']}"] if "why" in said else []
    lines += _nearest(said.get("nearest"))
    lines += ["", "parts, in the order they are hashed:"]
    lines += [f"  {name:15} {value or '(empty)'}" for name, value in said["parts"].items()]
    return [*lines, "", "canonical prompt:", f"  {said['prompt']}"]


def _nearest(found: dict[str, Any] | None) -> list[str]:
    """The nearest kept request, each field that differs in two lines, one above the other."""
    if not found:
        return []
    when = datetime.fromtimestamp(found["created_at"], UTC).isoformat(" ", "seconds")
    lines = ["", f"nearest  {found['key']}, answered {when}"]
    for differs in found["differs"]:
        at = f" (from character {differs['at']})" if "at" in differs else ""
        lines.append(f"  {differs['field']}{at}")
        lines += [f"    {name:6} {_value(differs, name)}" for name in ("asked", "kept")]
    return [*lines, f"  and {found['more']} more"] if found.get("more") else lines


def _value(differs: dict[str, Any], name: str) -> str:
    return json.dumps(differs[name], ensure_ascii=False) if name in differs else "(none)"


def _where(said: dict[str, Any]) -> str:
    return f"backend {said['backend']} would be asked" if said["tier"] == "backend" else f"kept in {said['tier']}"


main.add_command(bench)
main.add_command(keys)
main.add_command(namespaces)
main.add_command(models)
main.add_command(sql)

if __name__ == "__main__":
    main(prog_name="askonce")
