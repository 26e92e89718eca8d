"""The command itself: which answers, one after the other, until the last one or Ctrl-C."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from gateway import config as settings
from gateway.client import Gateway, RefusedError, UnansweredError
from gateway.printing import plain_json, printable
from gateway.verifying.picture import picture
from gateway.verifying.tally import Tally
from storage.errors import AskonceError

_MOST: Final = 10_000
_FAILURES: Final = 5
_INTERRUPTED: Final = 130

_NUMBER = click.IntRange(1, _MOST)


@click.command("verify")
@click.argument("keys", nargs=-1)
@click.option("--last", type=_NUMBER, metavar="N", help="The last N answers.")
@click.option("--sample", type=_NUMBER, metavar="N", help="N answers drawn by lot.")
@click.option("--model", help="With --last or --sample: only answers of this model.")
@click.option(
    "--reproducible", is_flag=True, help="With --last or --sample: leave out what was sampled without a seed."
)
@click.option("--url", help="A running askonce (default: the configured host and port).")
@click.option("--api-key", help="The key to ask with (default: the configured admin_key).")
@click.option("--json", "as_json", is_flag=True, help="Print each proof as a line of JSON.")
@click.option(
    "--config", "file", type=click.Path(path_type=Path), default=settings.config_file, help="A settings file (TOML)."
)
def command(keys: tuple[str, ...], url: str | None, api_key: str | None, file: Path | None, **options: Any) -> None:
    """Ask again for the answers kept under KEYS, and show where they part from what was said then.

    The status is 0 when every answer is the same, 1 when some is not, and 2 when none is another but some, or all,
    could not be verified: unknown keys, no answers, no askonce, no model.
    """
    _expect_one_way(keys, options)
    try:
        config = settings.load(file)
    except AskonceError as error:
        raise UnansweredError(str(error)) from error
    with Gateway(url or settings.local_url(config.host, config.port), api_key or config.admin_key) as gateway:
        wanted = [{"key": key, "model": "?"} for key in keys] or _listed(gateway, options)
        if not wanted:
            raise UnansweredError("There is no such answer.")
        show = _show_json if options["as_json"] else _show_picture
        status = _all(gateway, wanted, show) if len(wanted) > 1 else _one(gateway, wanted[0]["key"], show)
    sys.exit(status)


def _expect_one_way(keys: Sequence[str], options: dict[str, Any]) -> None:
    if [bool(keys), options["last"] is not None, options["sample"] is not None].count(True) != 1:
        raise click.UsageError("Say which answers by their keys, by --last N or by --sample N.")
    if keys and (options["model"] or options["reproducible"]):
        raise click.UsageError("--model and --reproducible go with --last and --sample.")


def _listed(gateway: Gateway, options: dict[str, Any]) -> list[dict[str, Any]]:
    query = {name: options[name] for name in ("last", "sample", "model") if options[name] is not None}
    try:
        found = gateway.keys(**query)
    except RefusedError as refused:
        raise UnansweredError(printable(str(refused))) from refused
    if not options["reproducible"]:
        return found
    left = [one for one in found if one["reproducible"]]
    click.echo(f"{len(found) - len(left)} of {len(found)} were sampled without a seed and are left out.", err=True)
    return left


def _one(gateway: Gateway, key: str, show: "Callable[[dict[str, Any]], None]") -> int:
    try:
        proof = gateway.verify(key)
    except RefusedError as refused:
        raise UnansweredError(printable(str(refused))) from refused
    show(proof)
    return 0 if proof["outcome"] == "identical" else 1


def _all(gateway: Gateway, wanted: Sequence[dict[str, Any]], show: "Callable[[dict[str, Any]], None]") -> int:
    """Verify one after the other: engines repeat themselves best when they have nothing else to do."""
    tally, status = Tally(), None
    try:
        for done, one in enumerate(wanted):
            _progress(f"{done}/{len(wanted)}  {tally.line}")
            _next(gateway, one, tally, show)
            if tally.failures_in_a_row == _FAILURES:
                _progress("")
                click.echo(f"{_FAILURES} in a row could not be verified, so the others were not tried.", err=True)
                break
    except UnansweredError as error:
        status = tally.status or error.exit_code
        _progress("")
        error.show()
    except KeyboardInterrupt:
        status = _INTERRUPTED
        _progress("")
        click.echo("Stopped. What was verified until then:", err=True)
    _progress("")
    click.echo("\n".join(tally.table), err=show is _show_json)
    return tally.status if status is None else status


def _next(gateway: Gateway, one: dict[str, Any], tally: Tally, show: "Callable[[dict[str, Any]], None]") -> None:
    try:
        proof = gateway.verify(one["key"])
    except RefusedError as refused:
        _progress("")
        click.echo(f"{'gone' if refused.is_gone else 'failed':9}  {one['key']}  {printable(str(refused))}", err=True)
        tally.add(one["model"], "gone" if refused.is_gone else "failed")
        return
    tally.proved(proof)
    if proof["outcome"] == "diverged" or show is _show_json:
        _progress("")
        show(proof)


def _show_json(proof: dict[str, Any]) -> None:
    click.echo(plain_json(proof))


def _show_picture(proof: dict[str, Any]) -> None:
    click.echo("\n".join(picture(proof)))


def _progress(line: str) -> None:
    """One line that is written over again; only for somebody who looks."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[2K{line}", nl=False, err=True)
