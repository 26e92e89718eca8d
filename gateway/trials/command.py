"""The commands: report, pairs and label."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import asyncpg
import click
import msgspec

from gateway import config as settings
from gateway.config import Config
from gateway.printing import plain_json, printable
from gateway.semantic.asked import asked
from gateway.trials import report as reporting
from gateway.trials.picture import svg
from gateway.trials.report import ALIKE, Line
from storage import migrate
from storage.embedded import clients
from storage.errors import AskonceError
from storage.trials import Judging, Label, Pair
from storage.vectors.queue import Prompt

T = TypeVar("T")

_BAR: Final = 0.005
_LABELS: Final = get_args(Label)
_LONGEST: Final = 600

_config = click.option(
    "--config", "file", type=click.Path(path_type=Path), default=settings.config_file, help="A settings file (TOML)."
)
_data_dir = click.option("--data-dir", type=click.Path(path_type=Path), help="Where everything embedded lives.")
_model = click.option("--model", help="Only what this model was asked.")


@click.group()
def semantic() -> None:
    """Judge what semantic reuse would have given, as its shadow mode has written it down."""


@semantic.command()
@_model
@click.option(
    "--alike",
    type=click.FloatRange(0, 1),
    default=ALIKE,
    show_default=True,
    help="From which cosine on two answers are taken for the same, where nobody has labelled their questions.",
)
@click.option("--svg", "picture", type=click.Path(path_type=Path), help="Draw it into this file, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_data_dir
@_config
def report(
    *, model: str | None, alike: float, picture: Path | None, as_json: bool, data_dir: Path | None, file: Path | None
) -> None:
    """Say for each threshold how many answers would have been given, and how many of them wrongly."""
    outcomes = _with(file, data_dir, lambda trials: trials.outcomes(model))
    if model and not outcomes:
        message = f"No question to '{model}' was asked in shadow. Without --model the report is about all models."
        raise AskonceError(message)
    lines = reporting.lines(outcomes, alike)
    if picture is not None:
        title = f"Semantic reuse: {len(outcomes):,} questions{f' to {model}' if model else ''}"
        picture.write_text(svg(title, lines, _BAR), "utf-8")
    if as_json:
        click.echo(plain_json([{"rate": line.rate, **msgspec.to_builtins(line)} for line in lines], indent=2))
        return
    near = sum(one.similarity is not None for one in outcomes)
    click.echo(f"{len(outcomes):,} questions were asked in shadow; {near:,} of them had a neighbour.\n")
    click.echo("\n".join(_table(lines)))
    click.echo("\n" + "\n".join(_explained(lines, alike)))


@semantic.command()
@_model
@click.option("--all", "judged_too", is_flag=True, help="Those that are labelled, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@_data_dir
@_config
def pairs(*, model: str | None, judged_too: bool, limit: int, data_dir: Path | None, file: Path | None) -> None:
    """Show pairs of questions, those first that would have been given the other's answer."""
    found = _with(file, data_dir, lambda trials: trials.pairs(model, unjudged=not judged_too, most=limit))
    if not found:
        click.echo("There is no such pair.")
    for pair in found:
        click.echo("\n".join([*_shown(pair), ""]))


@semantic.command()
@click.argument("number", type=click.IntRange(1, 2**63 - 1), metavar="ID")
@click.argument("label", type=click.Choice(_LABELS))
@_data_dir
@_config
def label(number: int, label: Label, data_dir: Path | None, file: Path | None) -> None:
    """Say whether the two questions of pair ID want the same answer."""
    if not _with(file, data_dir, lambda trials: trials.label(number, label)):
        message = f"There is no pair {number}; 'askonce semantic pairs' shows those that there are."
        raise AskonceError(message)
    click.echo(f"{number} {label}")


def _table(lines: Sequence[Line]) -> Iterator[str]:
    form = "{:>9} {:>8} {:>10} {:>8} {:>8} {:>8} {:>16}"
    yield form.format("THRESHOLD", "SERVED", "OF ASKED", "JUDGED", "FALSE", "RATE", "95 %")
    for line in lines:
        share = f"{100 * line.served / line.asked:.1f} %" if line.asked else "-"
        rate = "-" if line.rate is None else f"{100 * line.rate:.1f} %"
        between = "-" if line.low is None or line.high is None else f"{100 * line.low:.1f} - {100 * line.high:.1f} %"
        yield form.format(f"{line.threshold:.2f}", line.served, share, line.judged, line.false, rate, between)


def _explained(lines: Sequence[Line], alike: float) -> Iterator[str]:
    most = max(lines, key=lambda line: line.served)
    yield (
        f"Of the {most.served:,} at {most.threshold:.2f}, {most.by_label:,} are judged by a person's label and"
        f" {most.by_answers:,} by their answers: false where these are less alike than {alike:g}."
    )
    if most.by_answers > most.by_label:
        yield "Models say the same in many ways: label pairs ('askonce semantic pairs') before you rely on it."


def _shown(pair: Pair) -> Iterator[str]:
    near = "" if pair.answers_similarity is None else f", answers {pair.answers_similarity:.3f}"
    against = [*pair.reasons, *(["judge"] if pair.judged_same is False else [])]
    outcome = "served" if pair.served else f"refused: {', '.join(against)}" if against else "too far"
    yield printable(
        f"{pair.id}  {pair.model}  questions {pair.similarity:.3f}{near}  {outcome}  {pair.label or ''}".rstrip()
    )
    yield f"  asked  {_words(pair.asked_prompt)}"
    yield f"  kept   {_words(pair.source_prompt)}"


def _words(prompt: str | None) -> str:
    """The words that differ: those of the last turn."""
    if prompt is None:
        return "(not kept any more)"
    nobody = Prompt(
        scope="", kind="", model="", model_version="", engine="", engine_version="", prompt=prompt, params=""
    )
    text = printable(asked(nobody).text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _with(file: Path | None, data_dir: Path | None, work: Callable[[Judging], Awaitable[T]]) -> T:
    """Run `work` on the trials of the configured database, brought to this version first."""
    return asyncio.run(_worked(settings.load(file, {"data_dir": data_dir}), work))


async def _worked(config: Config, work: Callable[[Judging], Awaitable[T]]) -> T:
    async with clients.opened(config.database_url, config.folder().expanduser().resolve()) as url:
        await migrate.migrate(url)
        connection: Any = await asyncpg.connect(url, timeout=10)
        try:
            return await work(Judging(connection))
        finally:
            await connection.close(timeout=5)
