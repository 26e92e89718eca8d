"""`askonce bench`: the command line of the benchmark and of the differential test."""

import asyncio
import sys
from pathlib import Path
from typing import Final

import click


@click.command("bench")
@click.option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="Length of a cell.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="How often each cell is run.")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Install LiteLLM and Portkey, and compare.")
@click.option("--growth", type=click.IntRange(min=0), default=1_000_000, show_default=True, help="Answers, at last.")
@click.option(
    "--soak", type=click.FloatRange(min=0), default=0, show_default=True, help="Seconds of everything at once, instead."
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("docs/figures"), show_default=True)
@click.option("--page", type=click.Path(path_type=Path), default=Path("docs/benchmarks.md"), show_default=True)
@click.option("--quick", is_flag=True, help="One short round: proves that it runs, not how fast.")
@click.option("--flames", is_flag=True, help="Draw where the time of hits and misses goes instead; needs ptrace.")
@click.option("--differential", is_flag=True, help="Look for wrong answers instead; exits 1 when there is one.")
@click.option("--requests", type=click.IntRange(min=1), default=100_000, show_default=True, help="With --differential.")
@click.option("--seed", type=int, default=1, show_default=True, help="With --differential: which requests.")
def command(  # noqa: PLR0913 -- one for each option
    *,
    seconds: float,
    rounds: int,
    peers: bool,
    growth: int,
    soak: float,
    output: Path,
    page: Path,
    quick: bool,
    flames: bool,
    differential: bool,
    requests: int,
    seed: int,
) -> None:
    """Measure askonce on this machine beside a bare server, its backend and its peers; write figures and a page.

    Start-up, memory, hits, misses, followers, and how all that is with a million answers. With --differential, compare
    every answer with the model's own instead; write differential.json and a page. With --flames, have py-spy look at
    the worker; write flame-hit.svg and flame-miss.svg. With --soak, see only whether its memory stays what it was.
    """
    _only_heeded()
    if differential:
        sys.exit(0 if _compared(requests, seed, output) else 1)
    if flames:
        _drawn(seconds, output)
        return
    from gateway.bench import page as pages  # noqa: PLC0415 -- the other commands need none of it
    from gateway.bench import report, speed, suite  # noqa: PLC0415 -- see above

    if soak:
        found = speed.soaked(f"askonce bench --soak {soak:g}", soak, report.progress)
        pages.publish(found, output, page)
        report.compared(found.peers, found.figures)
        return
    if quick:
        said = "askonce bench --quick"
        options, pace = suite.quick(said), speed.quick(said)
    else:
        said = f"askonce bench --seconds {seconds:g} --rounds {rounds}"
        options = suite.Options(command=said, seconds=seconds, rounds=rounds)
        said += f"{'' if peers else ' --no-peers'} --growth {growth}"
        pace = speed.Options(command=said, seconds=seconds, rounds=rounds, peers=peers, grown=growth)
    report.publish(suite.run(options, report.progress), output)
    found = speed.run(pace, report.progress)
    pages.publish(found, output, page)
    report.compared(found.peers, found.figures)


_HEEDED: Final[dict[str, set[str]]] = {
    "quick": set(),
    "soak": set(),
    "flames": {"seconds"},
    "differential": {"requests", "seed"},
}
"""What each of these does instead of everything else, and the options that it heeds."""


def _only_heeded() -> None:
    """Raises `UsageError` where an option was given that would be passed over."""
    context = click.get_current_context()
    given = {
        str(option.name): next(
            iter(option.secondary_opts if context.params[str(option.name)] is False else option.opts)
        )
        for option in context.command.params
        if context.get_parameter_source(str(option.name)) is click.core.ParameterSource.COMMANDLINE
    }
    for name, heeded in _HEEDED.items():
        beside = [said for other, said in given.items() if other not in heeded | {name, "output", "page"}]
        if name in given and beside:
            message = f"--{name} takes no {' and no '.join(beside)}."
            raise click.UsageError(message)
    if not given.keys() & {"differential"} and (alone := given.keys() & _HEEDED["differential"]):
        message = f"--differential alone takes --{' and --'.join(sorted(alone))}."
        raise click.UsageError(message)


def _drawn(seconds: float, output: Path) -> None:
    from gateway.bench import flames, report  # noqa: PLC0415 -- the other commands need none of it

    for file in flames.run(seconds, output, report.progress):
        click.echo(file)


def _compared(requests: int, seed: int, output: Path) -> bool:
    """Run the differential test; whether it met its bars."""
    from gateway.bench import report  # noqa: PLC0415 -- the other commands need none of it
    from gateway.bench.differential import run, telling  # noqa: PLC0415 -- see above

    options = run.sized(requests, seed)
    outcome = asyncio.run(run.outcome(options, report.progress))
    telling.publish(outcome, f"askonce bench --differential --requests {requests} --seed {seed}", output)
    return outcome.sound and outcome.hit_rate >= telling.HIT_RATE_MIN
