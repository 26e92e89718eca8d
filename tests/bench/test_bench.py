"""`askonce bench --quick`: that it runs and tells everything. How fast this machine is, no test decides."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.bench import figures, page, soak
from gateway.bench.command import command
from gateway.bench.load import Job, Result
from gateway.bench.processes import BenchError
from gateway.bench.rivals import Rival

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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--quick --seconds 5 --no-peers", "--quick takes no --seconds and no --no-peers."),
        ("--soak 5 --rounds 9", "--soak takes no --rounds."),
        ("--flames --soak 5", "--soak takes no --flames."),
        ("--differential --growth 0", "--differential takes no --growth."),
        ("--seed 2", "--differential alone takes --seed."),
    ],
)
def test_what_would_not_be_heeded_is_refused(words: str, said: str) -> None:
    """Nobody waits half an hour for something else than was asked for."""
    refused = CliRunner().invoke(command, words.split())
    assert refused.exit_code == 2
    assert said in refused.output


class Absent:
    """A load generator that gets no reply."""

    def measure(self, job: Job) -> Result:
        """Fail."""
        raise BenchError(f"nobody answers at {job.address}")


def test_a_soak_that_nobody_answered_is_none() -> None:
    """However flat the memory was."""
    ours = Rival(name="x", version="1", address="127.0.0.1:1", pid=os.getpid(), cold_start_s=0)
    with pytest.raises(BenchError, match=r"nobody answers|ended with an error"):
        list(soak.measured(ours, Absent(), figures.maker("x"), 0.2, lambda _: None))


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
