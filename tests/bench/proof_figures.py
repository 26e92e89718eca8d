"""`make proof-figures`: how many answers of the real engines are the same when they are asked for again.

Greedy and seeded answers of the bundled model on vLLM and llama.cpp, made one at a time or eight at once, then verified
one at a time. It writes docs/figures/proof.json and the table in docs/proof.md.
"""

import argparse
import asyncio
import shlex
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from gateway import building
from gateway.bench import figures
from gateway.bench.figures import Figure, Maker
from gateway.caller import Caller
from gateway.canonical import Identity, Request
from gateway.config import BackendConfig
from gateway.flights.shared import SharedFlights
from gateway.models.training import corpus
from gateway.pipeline import Pipeline
from gateway.proof.proving import Proof
from gateway.routing.backend import Backend
from gateway.routing.router import Router
from gateway.steering import Steering
from gateway.wire import openai_chat
from storage.entry import Chunk, Entry
from storage.memory import MemoryTier
from storage.tiers import Tiers
from storage.verifications import Verification
from tests.engines import llamacpp, vllm
from tests.engines.child import ROOT
from tests.suites.marks import nothing_invalidated

FIGURES = ROOT / "docs" / "figures" / "proof.json"
BUNDLED = ROOT / "gateway" / "models" / "bundled"
PAGE = ROOT / "docs" / "proof.md"
BEGIN = "<!-- figures: begin, written by `make proof-figures` -->"
END = "<!-- figures: end -->"
MODEL = "gemma-3-askonce"
CALLER = Caller(tenant="t")
HOTTEST = "seeded, temperature 2"
AT_ONCE = 8
NOTE = "share of answers to {} held-out prompts of the bundled model that verify as identical, one at a time"
WAYS = {
    "greedy": {"temperature": 0},
    "seeded, temperature 1": {"temperature": 1, "seed": 7},
    HOTTEST: {"temperature": 2, "seed": 7},
}


class Always:
    """A backend that is asked cold, or warm, whatever the proof wants."""

    def __init__(self, backend: Backend, *, cold: bool) -> None:
        self.name = backend.name
        self._backend = backend
        self._cold = cold

    async def identity(self) -> Identity:
        """As the backend's."""
        return await self._backend.identity()

    def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Ask."""
        return self._backend.complete(msgspec.structs.replace(request, cold=self._cold))


class Nowhere:
    """Outcomes that nobody keeps."""

    async def put(self, entry: Entry, done: Verification) -> bool:
        """Forget it."""
        del entry, done
        return False

    async def of(self, entry: Entry) -> list[Verification] | None:
        """Unknown."""
        del entry


def main() -> None:
    """Start both engines, ask, ask again, and write what comes out."""
    parser = argparse.ArgumentParser(prog="make proof-figures", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="prompts for each figure")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    paged(options.page.read_text("utf-8"), [])  # a page that cannot be written is better known before
    arguments = sys.argv[1:]
    command = f"make proof-figures ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "make proof-figures"
    maker = figures.maker(command)
    with tempfile.TemporaryDirectory(prefix="askonce-figures-") as scratch:
        with llamacpp.serving(BUNDLED / f"{MODEL}.gguf", MODEL, Path(scratch)) as url:
            made = asyncio.run(measured("llamacpp", url, options.count, maker))
        with vllm.serving(BUNDLED / "hf", MODEL, Path(scratch)) as url:
            made += asyncio.run(measured("vllm", url, options.count, maker))
    figures.write(made, options.figures)
    options.page.write_text(paged(options.page.read_text("utf-8"), made), "utf-8")


def paged(page: str, made: Sequence[Figure]) -> str:
    """The page with the figures between its two markers. A page without them raises `ValueError`."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    rows: dict[str, dict[str, float]] = {}
    for figure in made:
        engine, _, row = figure.name.partition(", ")
        rows.setdefault(row, {})[engine] = figure.value
    lines = ["| Answers | llama.cpp | vLLM |", "|---|---|---|"]
    lines += [f"| {row} | {of['llamacpp']:g} % | {of['vllm']:g} % |" for row, of in rows.items()]
    origin = [f"Printed by `{one.command}` on {one.date[:10]} ({one.machine})." for one in made[:1]]
    return f"{before}{BEGIN}\n\n{chr(10).join([*lines, '', *origin])}\n\n{END}{after}"


async def measured(kind: str, url: str, count: int, maker: Maker) -> list[Figure]:
    """The figures of one engine, printed as they come."""
    backend: Any = building.BUILD[kind](BackendConfig(kind=kind, model=MODEL, url=url, first_token_timeout_s=120))  # type: ignore[arg-type]
    made: list[Figure] = []
    for way, params in WAYS.items():
        for at_once in (1, AT_ONCE):
            tiers = Tiers(MemoryTier(2**28), [], nothing_invalidated(), lambda _: None)
            keys = await asked(tiers, backend, questions(count, params), at_once)
            for how, prover in manners(backend, way).items():
                same = await proved(tiers, prover, keys)
                name = f"{kind}, {way}, made {at_once} at once{how}"
                made.append(maker.figure(name, 100 * same / count, "%", note=NOTE.format(count)))
                print(f"{name}: {same} of {count} identical", flush=True)
    await backend.aclose()
    return made


def manners(backend: Backend, way: str) -> dict[str, Any]:
    """The proof as it is; and, where it makes a difference, asked with one state of the prefix cache only."""
    ways: dict[str, Any] = {"": backend}
    if way == HOTTEST:
        ways |= {", always cold": Always(backend, cold=True), ", always warm": Always(backend, cold=False)}
    return ways


def questions(count: int, params: dict[str, Any]) -> list[Request]:
    """Held-out chats and extractions, half and half."""
    examples = [*corpus.held_out("chat", count - count // 2), *corpus.held_out("extraction", count // 2)]
    return [
        openai_chat.decode(
            msgspec.json.encode(
                {"model": MODEL, "messages": [asdict(m) for m in example.messages], "max_tokens": 256, **params}
            )
        )
        for example in examples
    ]


async def asked(tiers: Tiers, backend: Backend, requests: Sequence[Request], at_once: int) -> list[bytes]:
    """The keys of their answers, which are kept."""
    pipeline, slots = Pipeline(tiers, Router.of({MODEL: backend}), SharedFlights()), asyncio.Semaphore(at_once)

    async def one(request: Request) -> bytes:
        async with slots:
            answer = await pipeline.answer(request, CALLER, Steering(), "figures")
            async with aclosing(answer.chunks) as steps:
                async for _ in steps:
                    pass
            return answer.key

    return await asyncio.gather(*map(one, requests))


async def proved(tiers: Tiers, backend: Any, keys: Sequence[bytes]) -> int:
    """How many of the answers are the same again."""
    proof = Proof(tiers, Router.of({MODEL: backend}), Nowhere())
    outcomes = [(await proof.verify(key, CALLER))["outcome"] for key in keys]
    return outcomes.count("identical")


if __name__ == "__main__":
    main()
