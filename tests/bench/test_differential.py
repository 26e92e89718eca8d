"""`askonce bench --differential`: it finds no wrong answer here, and it finds them where there are some."""

from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from gateway.bench import figures
from gateway.bench.command import command
from gateway.bench.differential import befalling, run, telling
from gateway.bench.differential.plan import Options

SERVE = """
import sys
from gateway import cli, supervisor

plan = supervisor.ServePlan
supervisor.ServePlan = lambda **said: plan(**said | {{"worker_argv": (sys.executable, {worker!r})}})
cli.main()
"""
WORKER = """
{mistake}
from gateway.worker import main
main()
"""


@pytest.mark.bench
@pytest.mark.parametrize("seed", [1, 2])
def test_a_short_run_finds_no_wrong_answer(tmp_path: Path, seed: int) -> None:
    """Everything happens at least once: tiers are emptied, processes killed, answers deleted, weights changed."""
    words = ["--differential", "--requests", "1000", "--seed", str(seed), "--output", str(tmp_path / "figures")]
    done = CliRunner().invoke(command, words)
    found = {figure.name: figure.value for figure in figures.read(tmp_path / "figures" / "differential.json")}
    assert (found["requests"], found["wrong answers"], found["errors"]) == (1000, 0, 0), done.output
    assert found["possible hits"] > 100
    # The bar is for a hundred thousand: of so few, one that a busy machine missed is more than one in a thousand.
    assert found["missed hits"] <= 1, done.output
    assert (done.exit_code == 0) == (found["hits of those possible"] >= telling.HIT_RATE_MIN), done.output
    assert {name for name in found if name.startswith("befallen: ")} >= {
        "befallen: flush redis",
        "befallen: truncate postgres",
        "befallen: kill a worker",
        "befallen: restart with new weights",
        "befallen: delete, under way",
    }
    page = (tmp_path / "differential.md").read_text("utf-8")
    assert f"`askonce bench --differential --requests 1000 --seed {seed}`" in page
    assert "| wrong answers | 0 |" in page


CUT = {"other steps", "another text, call, end or choice"}
"""What is said of an answer that was cut short, by who hears it first: a stream, or the whole. It may be nobody's."""
MISTAKES = {
    "a field is left out of the key": (
        """
        from gateway import key
        whole = key.counted
        key.counted = lambda *args: {**whole(*args), "extra": {}}
        """,
        {"two different questions have the same key"},
    ),
    "tenants share their answers": (
        """
        from gateway import key
        whole = key.parts
        key.parts = lambda *args: [(name, b"" if name == "scope" else value) for name, value in whole(*args)]
        """,
        {"two different questions have the same key"},
    ),
    "what was deleted is still given": (
        """
        from storage.invalidations import Invalidations
        Invalidations.allows = lambda self, entry, *, unread=False: True
        """,
        {"an answer that had been taken back"},
    ),
    "what is cut short is kept": (
        """
        from gateway.backends.openai_compatible import OpenAICompatible
        from gateway.errors import BackendError
        from storage.entry import Chunk
        whole = OpenAICompatible.complete

        async def complete(self, request):
            ended = set()
            try:
                async for step in whole(self, request):
                    if step.finish_reason:
                        ended.add(step.index)
                    yield step
            except BackendError:
                for index in set(range(request.choices)) - ended:
                    yield Chunk(index=index, finish_reason="stop")

        OpenAICompatible.complete = complete
        """,
        CUT,
    ),
}
"""Each with what is said of it."""


@pytest.mark.bench
@pytest.mark.parametrize(("mistake", "what"), MISTAKES.values(), ids=MISTAKES)
async def test_a_gateway_that_is_wrong_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, what: set[str]
) -> None:
    """And the request that it happened to is told, with the one whose answer it was given."""
    monkeypatch.setattr(befalling, "HEARD_S", 1.0)
    outcome = await run.outcome(calm(), lambda _: None, broken(tmp_path, mistake))
    assert not outcome.sound
    found = next(wrong for wrong in outcome.wrong if wrong.what in what)
    told = telling.told(found, outcome.options.seed)
    assert told.count("of seed 3: POST /v1/") >= (1 if what is CUT else 2), told


def calm() -> Options:
    """A run in which nobody is killed, and answers are deleted all the time."""
    return Options(
        requests=3000, seed=3, round_size=150, workers=1, events={"nothing": 1}, upsets={"delete": 3, "flush redis": 1}
    )


def broken(folder: Path, mistake: str) -> tuple[str, ...]:
    """The command that starts a gateway whose workers make this mistake."""
    worker, serve = folder / "worker.py", folder / "serve.py"
    worker.write_text(WORKER.format(mistake=dedent(mistake)))
    serve.write_text(SERVE.format(worker=str(worker)))
    return (str(serve),)
