"""`askonce bench`: the command line of the benchmark."""

from pathlib import Path

import click


@click.command("bench")
@click.option("--seconds", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="Length of a cell.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="How often each cell is run.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("docs/figures"), show_default=True)
@click.option("--quick", is_flag=True, help="One short round: proves that it runs, not how fast.")
def command(*, seconds: float, rounds: int, output: Path, quick: bool) -> None:
    """Measure start-up, memory, hits, misses and followers on this machine; write bench.json and bench.svg."""
    from gateway.bench import report, suite  # noqa: PLC0415 -- the other commands need none of it

    said = "askonce bench --quick" if quick else f"askonce bench --seconds {seconds:g} --rounds {rounds}"
    options = suite.quick(said) if quick else suite.Options(command=said, seconds=seconds, rounds=rounds)
    figures = suite.run(options, report.progress)
    report.publish(figures, output)
