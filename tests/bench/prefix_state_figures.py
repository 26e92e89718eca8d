"""`make prefix-figures`: how soon the first token comes after a restart, with the states of long prompts and without.

A real `askonce serve` on the bundled model is asked two questions about one long document, and then, after a restart, a
third; several times over. Beside it, what llama.cpp does with the document still in memory. It writes
docs/figures/prefix-states.json.
"""

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway.bench import figures
from tests.acceptance.serving import Served, short_folder
from tests.engines.child import ROOT

FIGURES = ROOT / "docs" / "figures" / "prefix-states.json"
MODEL = "gemma-3-askonce"
PLACES = ("Spain", "Poland", "Norway", "Japan", "Kenya", "Peru", "Chile", "India", "Egypt", "Cuba")
SAVED_WITHIN_S = 120.0
PATIENCE_S = 3600.0
NOTE = "a question about a document of which askonce was asked twice before, after a restart or without one"


class Heard(msgspec.Struct, frozen=True):
    """One streamed answer."""

    text: str
    first_token_ms: float
    prompt_tokens: int
    reused_tokens: int


def main() -> None:
    """Measure both, and write what comes out."""
    parser = argparse.ArgumentParser(prog="make prefix-figures", description=__doc__)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--facts", type=int, default=300, help="the length of the document")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args()
    maker = figures.maker(
        " ".join(["make prefix-figures", *([f'ARGS="{" ".join(sys.argv[1:])}"'] * bool(sys.argv[1:]))])
    )
    runs = {
        "without states": restarted(options.facts, options.restarts, states=False),
        "with states": restarted(options.facts, options.restarts, states=True),
        "not restarted": warm(options.facts, options.restarts),
    }
    made: list[figures.Figure] = []
    for how, run in runs.items():
        computed = statistics.median(one.prompt_tokens - one.reused_tokens for one in run)
        same = sum(one.text == cold.text for one, cold in zip(run, runs["without states"], strict=True))
        made += [
            maker.figure(f"first token, {how}", middle(run), "ms", note=NOTE),
            maker.figure(
                f"prompt tokens reused, {how}", statistics.median(o.reused_tokens for o in run), "", note=NOTE
            ),
            maker.figure(f"prompt tokens computed, {how}", computed, "", note=NOTE),
            maker.figure(f"greedy answers as without states, {how}", 100 * same / len(run), "%", note=NOTE),
        ]
    for figure in made:
        print(f"{figure.name}: {figure.value:g} {figure.unit}")
    figures.write(made, options.figures)


def middle(run: list[Heard]) -> float:
    """The median."""
    return statistics.median(one.first_token_ms for one in run)


def restarted(facts: int, restarts: int, *, states: bool) -> list[Heard]:
    """The first answer after each restart."""
    heard: list[Heard] = []
    with served(states=states) as server:
        document = prepared(server, facts)
        deadline = time.monotonic() + SAVED_WITHIN_S
        while states and not list((server.data_dir / "states").glob("*.json")):
            if time.monotonic() > deadline:
                sys.exit(f"No state was saved:\n{server.text}")
            time.sleep(0.1)
        for place in PLACES[:restarts]:
            server.stop()
            server.start()
            heard.append(ask(server.url, document, place))
            print(f"restarted, {states=}, {place}: {heard[-1]}", flush=True)
    return heard


def warm(facts: int, questions: int) -> list[Heard]:
    """The answers of a llama.cpp that still has the document in memory."""
    with served(states=False) as server:
        document = prepared(server, facts)
        return [ask(server.url, document, place) for place in PLACES[:questions]]


def prepared(server: Served, facts: int) -> str:
    """Start, and ask about a long document twice; the document."""
    said = (f"The capital of country {i} is city {i * 7 % 101}." for i in range(facts))
    document = f"You are a librarian. {' '.join(said)}"
    server.start()
    for place in ("France", "Italy"):
        ask(server.url, document, place)
    return document


@contextlib.contextmanager
def served(*, states: bool) -> Generator[Served]:
    """An `askonce serve` on a folder of its own."""
    folder = short_folder()
    env = {} if states else {"ASKONCE_PREFIX_STATES_MAX_BYTES": "0"}
    server = Served(folder, "--model", "bundled", env=env, ready_s=PATIENCE_S)
    try:
        yield server
    finally:
        with contextlib.suppress(AssertionError):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def ask(url: str, document: str, place: str) -> Heard:
    """Ask about the document, streamed."""
    body: dict[str, Any] = {
        "model": MODEL,
        "temperature": 0,
        "max_tokens": 24,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": document},
            {"role": "user", "content": f"What is the capital of {place}?"},
        ],
    }
    text, first_ms, usage, started = "", 0.0, dict[str, Any](), time.perf_counter()
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=PATIENCE_S, trust_env=False) as reply:
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            usage = event.get("usage") or usage
            for choice in event.get("choices", ()):
                if piece := choice["delta"].get("content"):
                    first_ms = first_ms or 1000 * (time.perf_counter() - started)
                    text += piece
    return Heard(text, first_ms, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"])


if __name__ == "__main__":
    main()
