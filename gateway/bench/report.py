"""Figures in; a table, a verdict, bench.json and bench.svg out."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.bench import chart, figures, standing
from gateway.bench.figures import Figure
from gateway.bench.standing import Peer

_QUANTITIES = ("throughput", "p50", "p99")
_ERRORS = Console(stderr=True)


def progress(doing: str) -> None:
    """Say what is being measured."""
    _ERRORS.print(f"[dim]{doing}[/dim]", highlight=False)


def publish(found: Sequence[Figure], folder: Path) -> None:
    """Print `found`, and write them to `folder`."""
    console = Console()
    console.print(_cells(found), _others(found))
    console.print(found[0].machine, figures.verdict(found), sep="\n", highlight=False, soft_wrap=True)
    figures.write(found, folder / "bench.json")
    (folder / "bench.svg").write_text(chart.svg(found), "utf-8")


def compared(peers: Sequence[Peer], found: Sequence[Figure]) -> None:
    """Print what came of the comparison."""
    console = Console()
    console.print(standing.table(peers), _others(found))
    console.print(figures.verdict(found), highlight=False, soft_wrap=True)


def cells(found: Sequence[Figure]) -> dict[str, dict[str, Figure]]:
    """The figures of each cell by quantity, the cells in the order they were measured."""
    rows: dict[str, dict[str, Figure]] = {}
    for figure in found:
        cell, _, quantity = figure.name.rpartition(": ")
        if quantity in _QUANTITIES:
            rows.setdefault(cell, {})[quantity] = figure
    return rows


def _cells(found: Sequence[Figure]) -> Table:
    table = Table("asked", *(f"{q} {unit}" for q, unit in zip(_QUANTITIES, ("1/s", "ms", "ms"), strict=True)))
    for column in table.columns[1:]:
        column.justify = "right"
    rows = cells(found)
    # The four answers to one kind of request stand together.
    for cell in sorted(rows, key=_kind_and_concurrency):
        table.add_row(cell, *(f"{rows[cell][quantity].value:g}" for quantity in _QUANTITIES))
    return table


def _others(found: Sequence[Figure]) -> Table:
    table = Table("figure", "value", "unit", "at most")
    table.columns[1].justify = table.columns[3].justify = "right"
    for figure in found:
        if figure.name.rpartition(": ")[2] not in _QUANTITIES:
            bar = "" if figure.bar is None else f"{figure.bar:g}"
            style = None if figure.met else "red"
            table.add_row(figure.name, f"{figure.value:g}", figure.unit, bar, style=style)
    return table


def _kind_and_concurrency(cell: str) -> tuple[str, int]:
    name, _, at_once = cell.partition(", ")
    return name.rpartition(" ")[2], int(at_once.partition(" ")[0])
