"""`askonce models`: every replica of a running gateway, as a table."""

from pathlib import Path
from typing import Any

import click

from gateway import config as settings
from gateway.printing import plain_json, printable

_COLUMNS = ("MODEL", "REPLICA", "STATE", "BREAKER", "BUSY", "WEIGHT", "IDENTITY", "LAST ERROR")
_WEIGHTS_SHOWN = 24


@click.command()
@click.option("--url", help="A running askonce (default: the configured host and port).")
@click.option("--key", help="The key to ask with, of the scope admin (default: the configured admin_key).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--config", "file", type=click.Path(path_type=Path), default=settings.config_file, help="A settings file (TOML)."
)
def models(url: str | None, key: str | None, *, as_json: bool, file: Path | None) -> None:
    """Show each replica of each model: who it is, how it is, what it has to do, and what went wrong last."""
    import httpx  # noqa: PLC0415 -- the other commands need none of it

    config = settings.load(file)
    url = url or settings.local_url(config.host, config.port)
    key = key or config.admin_key
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        # Not through a proxy of the environment: it would look for 127.0.0.1 on its own machine.
        response = httpx.get(f"{url}/admin/backends", headers=headers, timeout=30, trust_env=False)
        said = response.json()
    except (httpx.HTTPError, ValueError) as error:
        message = f"No askonce answers at {url} ({error}). Start one with 'askonce serve', or name another with --url."
        raise click.ClickException(message) from error
    match said:
        case {"data": list(replicas)}:
            lines = plain_json(replicas, indent=2) if as_json else "\n".join(map(printable, table(replicas)))
            click.echo(lines)
        case {"error": {"message": str(message)}}:
            raise click.ClickException(printable(message))
        case _:
            message = f"What answers at {url} is no askonce, or another version of it. Name another with --url."
            raise click.ClickException(message)


def table(replicas: list[dict[str, Any]]) -> list[str]:
    """One line for each replica, below the names of the columns."""
    rows = [_COLUMNS, *(_row(replica) for replica in replicas)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(replica: dict[str, Any]) -> tuple[str, ...]:
    busy = f"{replica['outstanding']}/{replica['limit']}" if replica["limit"] else str(replica["outstanding"])
    weights = replica["model_version"] or ""
    if len(weights) > _WEIGHTS_SHOWN:  # a digest: its beginning tells two apart
        weights = f"{weights[:_WEIGHTS_SHOWN]}…"
    identity = " ".join(filter(None, (replica["engine"], replica["engine_version"], weights))) or "not known yet"
    return (
        replica["model"],
        replica["name"],
        f"rests {replica['rests_s']:.0f} s" if replica["rests_s"] >= 1 else replica["state"],
        replica["breaker"],
        busy,
        f"{replica['weight']:g}",
        identity,
        (replica["last_error"] or "").replace("\n", " "),
    )
