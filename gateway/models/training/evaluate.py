"""Measure a served bundled model on held-out prompts, decoded greedily over the OpenAI chat API.

    python -m gateway.models.training.evaluate --base-url http://127.0.0.1:8080/v1 [--against http://127.0.0.1:8000/v1]

`make model-figures` measures llama.cpp and vLLM with it and publishes what comes out.
"""

import argparse
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

import httpx

from gateway.models.training import corpus
from gateway.models.training.corpus import Example

PROMPTS: Final = 200
_LONGEST_ANSWER: Final = 1024


@dataclass(frozen=True, slots=True)
class Result:
    """How the answers to one suite came out."""

    suite: str
    asked: int
    right: tuple[int, ...]
    """Exact answers, server by server."""
    same: int
    """Prompts to which all servers gave the same text."""


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
        "extraction, sentences worded as never in training": [
            corpus.extraction_example(unseen, "held_out", unseen_wording=True) for _ in range(half)
        ],
        "extraction, long notes of 4 to 10 findings": [
            corpus.extraction_example(long, "held_out", long=True) for _ in range(half)
        ],
    }


def _print_wrong(name: str, examples: Sequence[Example], answers: Sequence[str]) -> None:
    for example, answer in zip(examples, answers, strict=True):
        if answer != example.answer:
            print(f"\n[{name}] {example.messages[-1].content[-400:]}")
            print(f"  expected {example.answer}\n  answered {answer}")


def _print_differing(name: str, texts: Sequence[str]) -> None:
    print(f"\n[{name}, servers differ]")
    for text in texts:
        print(f"  {text}")


def measure(servers: Sequence[Server], count: int, parallel: int = 1) -> list[Result]:
    """Ask every held-out prompt of every server; wrong and differing answers are printed."""
    results: list[Result] = []
    for name, examples in suites(count).items():
        answers = [one.answers(examples, parallel) for one in servers]
        expected = [example.answer for example in examples]
        right = tuple(sum(map(str.__eq__, texts, expected)) for texts in answers)
        differing = [texts for texts in zip(*answers, strict=True) if len(set(texts)) > 1]
        _print_wrong(name, examples, answers[0])
        for texts in differing:
            _print_differing(name, texts)
        results.append(Result(name, len(examples), right, len(examples) - len(differing)))
    return results


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model")
    parser.add_argument("--against", help="a second server, whose texts are compared")
    parser.add_argument("--against-model")
    parser.add_argument("--count", type=int, default=PROMPTS)
    parser.add_argument("--parallel", type=int, default=1)
    options = parser.parse_args()
    servers = [server(options.base_url, options.model)]
    if options.against:
        servers.append(server(options.against, options.against_model))
    print()
    for result in measure(servers, options.count, options.parallel):
        print(f"{result.suite}: exact {result.right} of {result.asked}, the same text for {result.same}")


if __name__ == "__main__":
    main()
