"""Measure a served bundled model on held-out prompts, decoded greedily over the OpenAI chat API.

    python -m gateway.models.training.evaluate --base-url http://127.0.0.1:8080/v1 \\
        [--against http://127.0.0.1:8000/v1] [--figures docs/figures/bundled-model.json]
"""

import argparse
import datetime
import json
import os
import platform
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import httpx

from gateway.models.training import corpus
from gateway.models.training.corpus import Example

_LONGEST_ANSWER: Final = 1024


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number and how it came about."""

    name: str
    value: float
    unit: str
    command: str
    machine: str
    date: str


@dataclass(frozen=True, slots=True)
class Server:
    """An OpenAI-compatible server and the model asked for there."""

    url: str
    model: str

    def answer(self, example: Example) -> str:
        """Return the greedy answer to an example's conversation."""
        body = {
            "model": self.model, "temperature": 0, "max_tokens": _LONGEST_ANSWER,
            "messages": [asdict(message) for message in example.messages],
        }  # fmt: skip
        reply = httpx.post(f"{self.url}/chat/completions", json=body, timeout=300)
        reply.raise_for_status()
        return str(reply.json()["choices"][0]["message"]["content"] or "")

    def answers(self, examples: Sequence[Example], parallel: int) -> list[str]:
        """Return the answers to all examples, in their order."""
        with ThreadPoolExecutor(parallel) as pool:
            return list(pool.map(self.answer, examples))


def server(url: str, model: str | None) -> Server:
    """Return the server at a URL; without a name, its first model."""
    if model is None:
        listed = httpx.get(f"{url}/models", timeout=30)
        listed.raise_for_status()
        model = str(listed.json()["data"][0]["id"])
    return Server(url.rstrip("/"), model)


def suites(count: int) -> dict[str, list[Example]]:
    """Return the held-out examples by name: the two the targets are for, and two harder ones."""
    unseen = random.Random("held-out:unseen wording")
    long = random.Random("held-out:long")
    half = count // 2
    return {
        "extraction": corpus.held_out("extraction", count),
        "chat": corpus.held_out("chat", count),
        "copying": corpus.held_out("copy", half),
        "extraction, unseen sentence wordings": [
            corpus.extraction_example(unseen, "held_out", unseen_wording=True) for _ in range(half)
        ],
        "extraction, long notes": [corpus.extraction_example(long, "held_out", long=True) for _ in range(half)],
    }


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{os.cpu_count()} cores, {name or platform.processor()}"


def _share(part: int, whole: int) -> float:
    return round(100 * part / whole, 2)


def _print_wrong(name: str, examples: Sequence[Example], answers: Sequence[str]) -> None:
    for example, answer in zip(examples, answers, strict=True):
        if answer != example.answer:
            print(f"\n[{name}] {example.messages[-1].content[-400:]}")
            print(f"  expected {example.answer}\n  answered {answer}")


def _print_differing(name: str, left: Sequence[str], right: Sequence[str]) -> None:
    for one, other in zip(left, right, strict=True):
        if one != other:
            print(f"\n[{name}, engines differ]\n  first  {one}\n  second {other}")


def measure(first: Server, second: Server | None, count: int, parallel: int) -> list[Figure]:
    """Ask every held-out prompt and return the rates; wrong answers are printed."""
    rates: list[tuple[str, float]] = []
    agreed = asked = 0
    for name, examples in suites(count).items():
        answers = first.answers(examples, parallel)
        right = sum(a == e.answer for a, e in zip(answers, examples, strict=True))
        rates.append((f"bundled model, {name}, exact answers of {len(examples)}", _share(right, len(examples))))
        _print_wrong(name, examples, answers)
        if second is not None:
            others = second.answers(examples, parallel)
            same = sum(a == e.answer for a, e in zip(others, examples, strict=True))
            rates.append((f"the same, second engine, {name}", _share(same, len(examples))))
            _print_differing(name, answers, others)
            if name in ("extraction", "chat"):
                agreed += sum(a == b for a, b in zip(answers, others, strict=True))
                asked += len(examples)
    if asked:
        rates.append((f"the two engines agree on the text, of {asked}", _share(agreed, asked)))
    command = " ".join(["python -m gateway.models.training.evaluate", *sys.argv[1:]])
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return [Figure(name, value, "%", command, _machine(), today) for name, value in rates]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model")
    parser.add_argument("--against", help="a second server, whose texts are compared")
    parser.add_argument("--against-model")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--figures", type=Path)
    options = parser.parse_args()
    second = server(options.against, options.against_model) if options.against else None
    first = server(options.base_url, options.model)
    figures = measure(first, second, options.count, options.parallel)
    print()
    for figure in figures:
        print(f"{figure.value:6.2f} %  {figure.name}")
    if options.figures is not None:
        options.figures.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(figure) for figure in figures], indent=2)
        options.figures.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
