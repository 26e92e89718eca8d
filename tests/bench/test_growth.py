"""How the record grows: that all of it runs and every generated question is a hit. How fast, no test decides."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.bench import figures, growth
from gateway.bench.filling import Part

MOST = 10_000


@pytest.mark.bench
def test_every_figure_of_growth_is_complete(tmp_path: Path) -> None:
    """At each size: look-ups, writing, sweeps beside look-ups, start-up, bytes; and what the bars are about."""
    output = tmp_path / "growth.json"
    done = CliRunner().invoke(growth.command, ["--most", str(MOST), "--output", str(output)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = {figure.name: figure for figure in figures.read(output)}
    assert {"growth_1e2_to_1e4", "postgres_hit_p50_ms"} <= found.keys()
    assert {figure.bar for figure in found.values()} == {None, growth.GROWTH_MAX, growth.HIT_P50_MAX_MS}
    for size in growth.sizes(MOST):
        for name in (
            "look-up at {} answers, 1 at once: p50",
            "look-up at {} answers, 16 at once: throughput",
            "written at {} answers",
            "expiry at {} answers took",
            "p99 during eviction at {} answers",
            "start-up at {} answers",
            "on disk at {} answers",
            "payload at {} answers",
        ):
            assert found[name.format(size)].value > 0
    gone = int(found[f"expiry at {MOST} answers took"].note.partition(" rows")[0])
    assert MOST // 20 <= gone <= MOST // 15
    assert 0.6 < found[f"size as estimated / on disk at {MOST} answers"].value < 1.4


@pytest.mark.parametrize("part", [Part(0, 10), Part(10, 101), Part(1000, 31_337)])
def test_a_part_has_each_number_once(part: Part) -> None:
    """The older half in order, the younger one not."""
    numbers = list(part.numbers())
    assert sorted(numbers) == list(range(part.first, part.end))
    assert numbers[: part.middle - part.first] == list(range(part.first, part.middle))
    assert part.end < 20 or numbers != sorted(numbers)
