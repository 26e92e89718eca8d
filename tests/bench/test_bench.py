"""`askonce bench --quick`: that it runs and tells everything. How fast this machine is, no test decides."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.bench import figures, page
from gateway.bench.command import command

EXPECTED = {
    "start-up, warm data folder",
    "worker memory, idle",
    "miss adds, JSON",
    "miss adds, SSE",
    "hit JSON, 1 at once: throughput",
    "miss SSE, 4 at once: p99",
    "bare ASGI JSON, 1 at once: p50",
    "llama.cpp JSON, 1 at once: p50",
    "the router adds",
    "hit in redis p50",
    "hit in postgres p50",
    "follower on the same worker, first word, median",
    "follower on another gateway, first word, 95 of 100",
    "bare ASGI stream, first word, median",
}


def test_a_quick_run_takes_no_lengths() -> None:
    """What it would not heed is refused."""
    refused = CliRunner().invoke(command, ["--quick", "--seconds", "5", "--no-peers"])
    assert refused.exit_code == 2
    assert "--quick takes no --seconds and no --peers: it is one short round of everything." in refused.output


@pytest.mark.bench
def test_every_figure_is_complete(tmp_path: Path) -> None:
    """A quick run prints its verdict and writes figures with all their fields, and a picture."""
    done = CliRunner().invoke(
        command, ["--quick", "--output", str(tmp_path), "--page", str(tmp_path / "page.md")], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "bars met: " in done.output
    found = figures.read(tmp_path / "bench.json")
    assert {figure.name for figure in found} >= EXPECTED
    for figure in found:
        # What a miss adds is a difference of two times, which a busy machine can turn around.
        assert figure.value > 0 or "adds" in figure.name, figure
        assert figure.unit in {"s", "ms", "µs", "MB", "1/s"}
        assert (figure.command, bool(figure.machine), bool(figure.date)) == ("askonce bench --quick", True, True)
    assert {figure.bar for figure in found} == {None, 3.0, 10.0, 50.0, 150.0}
    assert (tmp_path / "bench.svg").read_text("utf-8").startswith("<svg ")
    fast = {figure.name: figure for figure in figures.read(tmp_path / "speed.json")}
    apart = {"hit_vs_litellm", "miss_vs_litellm", "growth_1e4_to_1e6"}  # installing peers takes minutes, growing too
    assert fast.keys() >= set(page.NAMES) - apart
    assert all(fast[name].bar is not None for name in page.NAMES if name in fast)
    assert (tmp_path / "speed.svg").read_text("utf-8").startswith("<svg ")
    shown = (tmp_path / "page.md").read_text("utf-8")
    for part in ("`hit_vs_bare`", "## Miss SSE, 16 at once", "a bare ASGI application", "| askonce |"):
        assert part in shown
