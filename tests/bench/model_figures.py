"""`make model-figures`: the bundled model measured on the real llama.cpp and the real vLLM.

It writes docs/figures/bundled-model.json and what the model's card says of them, and prints which bars are met.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gateway.bench import figures
from gateway.bench.figures import Figure, Maker
from gateway.models.training import evaluate
from gateway.models.training.evaluate import Result, Server
from tests.engines import llamacpp, vllm
from tests.engines.child import ROOT

FIGURES = ROOT / "docs" / "figures" / "bundled-model.json"
BUNDLED = ROOT / "gateway" / "models" / "bundled"
CARD = BUNDLED / "README.md"
MODEL = "gemma-3-askonce"
ENGINES = ("llama.cpp", "vLLM")
BARS = {"extraction": 95.0, "chat": 99.0}
AGREEMENT_BAR = 98.0
BEGIN = "<!-- figures: begin, written by `make model-figures` -->"
END = "<!-- figures: end -->"


def main() -> None:
    """Start both engines, ask both, and write what comes out."""
    parser = argparse.ArgumentParser(prog="make model-figures", description=__doc__)
    parser.add_argument("--count", type=int, default=evaluate.PROMPTS, help="prompts in each of the two main suites")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--card", type=Path, default=CARD)
    options = parser.parse_args()
    parted(options.card.read_text("utf-8"))  # a card that cannot be written is better known before
    made = figured(measured(options.count), figures.maker(command(sys.argv[1:])))
    figures.write(made, options.figures)
    options.card.write_text(carded(options.card.read_text("utf-8"), made), "utf-8")
    print(f"\n{section(made)}\n\n{figures.verdict(made)}")


def command(arguments: Sequence[str]) -> str:
    """The command line that does this again."""
    return f"make model-figures ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "make model-figures"


def measured(count: int) -> list[Result]:
    """Both engines' results, suite by suite."""
    with (
        tempfile.TemporaryDirectory(prefix="askonce-figures-") as scratch,
        llamacpp.serving(BUNDLED / f"{MODEL}.gguf", MODEL, Path(scratch)) as first,
        vllm.serving(BUNDLED / "hf", MODEL, Path(scratch)) as second,
    ):
        return evaluate.measure([Server(f"{url}/v1", MODEL) for url in (first, second)], count)


def figured(results: Sequence[Result], maker: Maker) -> list[Figure]:
    """The share of exact answers of each engine and suite, and how far the engines agree on the suites with a bar."""
    made = [
        maker.figure(
            f"{result.suite} ({result.asked}): {engine}",
            100 * right / result.asked,
            "%",
            note=f"exact answers to {result.asked} held-out prompts, greedy",
            bar=BARS.get(result.suite),
            at_least=result.suite in BARS,
        )
        for result in results
        for engine, right in zip(ENGINES, result.right, strict=True)
    ]
    pairs = sum(result.asked for result in results if result.suite in BARS)
    same = sum(result.same for result in results if result.suite in BARS)
    note = f"{' and '.join(BARS)}: the answers of {' and '.join(ENGINES)} compared"
    return [
        *made,
        maker.figure(f"agreement ({pairs}): same text", 100 * same / pairs, "%", note=note, bar=AGREEMENT_BAR,
                     at_least=True),
        maker.figure(f"agreement ({pairs}): pairs that differ", pairs - same, "pairs", note=note),
    ]  # fmt: skip


def carded(card: str, made: Sequence[Figure]) -> str:
    """The card with what the figures say between its two markers."""
    before, after = parted(card)
    return f"{before}{BEGIN}\n\n{section(made)}\n\n{END}{after}"


def parted(card: str) -> tuple[str, str]:
    """What stands before and after the two markers. A card without them raises `ValueError`."""
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the card lacks {BEGIN} or {END}")
    return before, after


def section(made: Sequence[Figure]) -> str:
    """A sentence on the targets, the table, and how many pairs differ."""
    rows: dict[str, dict[str, Figure]] = {}
    for figure in made:
        row, _, column = figure.name.partition(": ")
        rows.setdefault(row, {})[column] = figure
    agreement = next(row for row in rows if row.startswith("agreement"))
    compared = rows.pop(agreement)
    cells = [
        ("Held-out prompts, greedy: exact answers", *ENGINES, "target"),
        ("---",) * (len(ENGINES) + 2),
        *((name, *(percent(row[engine]) for engine in ENGINES), target(row)) for name, row in rows.items()),
    ]
    lines = [f"| {' | '.join(line)} |" for line in cells]
    pairs = agreement.partition("(")[2].rstrip(")")
    same, differing = compared["same text"], compared["pairs that differ"]
    said = (
        f"{' and '.join(ENGINES)} gave different texts for {differing.value:g} of {pairs} pairs (same text: "
        f"{percent(same)}, target {same.bar:g} %)."
    )
    origin = f"Printed by `{same.command}` on {same.date[:10]} ({same.machine})."
    return "\n\n".join([targets(made), "\n".join(lines), said, origin])


def targets(made: Sequence[Figure]) -> str:
    """Which targets are missed, and by how much."""
    barred = [figure for figure in made if figure.bar is not None]
    missed = [f"{one.name} by {one.bar - one.value:.4g} points" for one in barred if one.bar and not one.met]
    if not missed:
        return f"**These weights meet all {len(barred)} targets.**"
    return f"**These weights miss {len(missed)} of {len(barred)} targets:** {'; '.join(missed)}."


def percent(figure: Figure) -> str:
    """The value as the card has it."""
    return f"{figure.value:g} %"


def target(row: dict[str, Figure]) -> str:
    """What every figure of a row has to reach."""
    bar = row[ENGINES[0]].bar
    return "" if bar is None else f"{bar:g} %"


if __name__ == "__main__":
    main()
