"""`askonce bench`: the command line of the benchmark and of the differential test."""

import asyncio
import sys
from pathlib import Path

import click


@click.command("bench")
@click.option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="Length of a cell.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="How often each cell is run.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("docs/figures"), show_default=True)
@click.option("--quick", is_flag=True, help="One short round: proves that it runs, not how fast.")
@click.option("--differential", is_flag=True, help="Look for wrong answers instead; exits 1 when there is one.")
@click.option("--requests", type=click.IntRange(min=1), default=100_000, show_default=True, help="With --differential.")
@click.option("--seed", type=int, default=1, show_default=True, help="With --differential: which requests.")
def command(  # noqa: PLR0913 -- one for each option
    *, seconds: float, rounds: int, output: Path, quick: bool, differential: bool, requests: int, seed: int
) -> None:
    """Measure start-up, memory, hits, misses and followers on this machine; write bench.json and bench.svg.

    With --differential, compare every answer with the model's own; write differential.json and a page.
    """
    if differential:
        sys.exit(0 if _compared(requests, seed, output) else 1)
    from gateway.bench import report, suite  # noqa: PLC0415 -- the other commands need none of it

    said = "askonce bench --quick" if quick else f"askonce bench --seconds {seconds:g} --rounds {rounds}"
    options = suite.quick(said) if quick else suite.Options(command=said, seconds=seconds, rounds=rounds)
    figures = suite.run(options, report.progress)
    report.publish(figures, output)


def _compared(requests: int, seed: int, output: Path) -> bool:
    """Run the differential test; whether it met its bars."""
    from gateway.bench import report  # noqa: PLC0415 -- the other commands need none of it
    from gateway.bench.differential import run, telling  # noqa: PLC0415 -- see above

    options = run.sized(requests, seed)
    outcome = asyncio.run(run.outcome(options, report.progress))
    telling.publish(outcome, f"askonce bench --differential --requests {requests} --seed {seed}", output)
    return outcome.sound and outcome.hit_rate >= telling.HIT_RATE_MIN
