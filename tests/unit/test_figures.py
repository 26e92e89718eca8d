"""Figures: what is published can be got again, and what the benchmark computes is right."""

import re
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from gateway.bench import chart, figures, load, report
from gateway.bench.figures import Figure, Maker
from tests.bench.extraction_run import quantile

ROOT = Path(__file__).parents[2]
MADE = Maker("askonce bench", "a machine", "2026-11-22T00:00:00+00:00")
PUBLISHED = sorted((ROOT / "docs" / "figures").glob("*.json"))
FIELDS = {"name", "value", "unit", "command", "machine", "date"}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_published_figures_say_how_to_get_them_again(path: Path) -> None:
    """Every figure has a value, a unit, the command that prints it, the machine and the date."""
    found = msgspec.json.decode(path.read_bytes(), type=list[dict[str, object]])
    assert found
    for figure in found:
        assert figure.keys() >= FIELDS, figure
        assert isinstance(figure["value"], int | float), figure
        assert all(str(figure[name]).strip() for name in FIELDS - {"unit"}), figure
        assert datetime.fromisoformat(str(figure["date"])), figure
    names = [figure["name"] for figure in found]
    assert len(names) == len(set(names))


def test_figures_survive_a_file(tmp_path: Path) -> None:
    """What is written is what is read."""
    made = [
        MADE.figure("a", 1.23456, "ms", note="how", bar=2),
        MADE.figure("b", 7, "1/s"),
        MADE.figure("c", 99, "%", bar=95, at_least=True),
    ]
    figures.write(made, tmp_path / "folder" / "bench.json")
    assert figures.read(tmp_path / "folder" / "bench.json") == made


def test_a_value_has_four_digits() -> None:
    """More would only look exact."""
    assert MADE.figure("a", 1234.567, "1/s").value == 1235
    assert MADE.figure("a", 0.0123456, "ms").value == 0.01235


def test_the_verdict_names_bars_met_and_missed() -> None:
    """Each bar is told with its figure; a figure without a bar is not."""
    said = figures.verdict(
        [MADE.figure("x", 3, "ms", bar=3), MADE.figure("y", 4, "s", bar=3), MADE.figure("z", 1, "s")]
    )
    assert said == "bars met: 1 of 2. x 3 ms (at most 3); y 4 s (at most 3) MISSED"


def test_a_bar_may_be_the_least_a_value_may_be() -> None:
    """A rate has a lower bound: at it is met, below it is missed."""
    said = figures.verdict(
        [MADE.figure(name, value, "%", bar=95, at_least=True) for name, value in (("x", 95), ("y", 94.5))]
    )
    assert said == "bars met: 1 of 2. x 95 % (at least 95); y 94.5 % (at least 95) MISSED"


def test_this_machine_has_a_name_of_one_line() -> None:
    """It says what the figures depend on, and not what the machine is called."""
    assert re.fullmatch(r".+, \d+ cores?, \d+ GiB, \w+ [\d.]+, Python [\d.]+", figures.machine())


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0), ([5], 0.99, 5), (list(range(1, 101)), 0.5, 51), (list(range(1, 101)), 0.99, 100)],
)
def test_quantiles(values: list[float], share: float, expected: float) -> None:
    """The value that a share of all values does not exceed."""
    assert load.quantile(values, share) == expected


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.25, (0.5, (0, 1))), (0.5, (1, (0, 1))), (0.7, (3, (2, 4))), (1, (4, (4, float("inf"))))],
)
def test_quantiles_of_a_histogram(share: float, expected: tuple[float, tuple[float, float]]) -> None:
    """They lie within their bucket; of one without an end only the beginning is known."""
    assert quantile({1: 50, 2: 50, 4: 90, float("inf"): 100}, share) == expected


def cell(name: str, per_second: float) -> list[Figure]:
    """Return the figures of one cell."""
    return [
        MADE.figure(f"{name}: throughput", per_second, "1/s"),
        MADE.figure(f"{name}: p50", 1, "ms"),
        MADE.figure(f"{name}: p99", 2, "ms"),
    ]


def test_cells_are_told_apart_from_other_figures() -> None:
    """Each cell has its three quantities; a start-up time belongs to none."""
    found = [*cell("hit JSON, 1 at once", 10), MADE.figure("start-up", 1, "s")]
    assert {name: list(row) for name, row in report.cells(found).items()} == {
        "hit JSON, 1 at once": ["throughput", "p50", "p99"]
    }


def test_the_chart_has_a_bar_for_each_cell_and_is_sound_xml() -> None:
    """The longest bar is that of the largest value, and special characters are escaped."""
    from xml.etree import ElementTree

    made = msgspec.structs.replace(MADE, machine="R&D <1>")
    found = [*cell("hit JSON, 1 at once", 50), *cell("miss JSON, 1 at once", 100)]
    drawn = ElementTree.fromstring(
        chart.svg([msgspec.structs.replace(figure, machine=made.machine) for figure in found])
    )
    bars = [element for element in drawn if element.tag.endswith("rect")][1:]
    first, second = (float(bar.attrib["width"]) for bar in bars)
    assert second == pytest.approx(2 * first, abs=0.2)
