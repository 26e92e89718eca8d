"""`make affinity-figures`: how much of their prompts three replicas find in their KV caches, and one that holds all.

Three real vLLM servers with the bundled model. It writes docs/figures/affinity.json and affinity.svg.
"""

import argparse
import asyncio
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from gateway.bench import chart, figures
from gateway.bench.chart import Bar
from gateway.bench.figures import Figure, Maker
from tests.bench.affinity_run import AT_ONCE, Found, InTurn, Way, imbalance, isolated, run
from tests.bench.workloads import Workload, chats, documents
from tests.engines import vllm
from tests.engines.child import ROOT

FIGURES = ROOT / "docs" / "figures" / "affinity.json"
BUNDLED = ROOT / "gateway" / "models" / "bundled"
MODEL = "gemma-3-askonce"
REPLICAS = 3
RATIO_MIN = 0.95
IMBALANCE_MAX = 1.25
CACHED = "prompt tokens from cache"
FLAGS = ("--max-model-len", "8192", "--enable-prefix-caching")
VARIABLES = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
"""They would all be bound to the same core."""
ALONE = Way("one replica", replicas=1)
OURS = Way("three, by prefix")
TURNS = Way("three, in turn", InTurn)
TWO = Way("three, two gateways", gateways=2)
DEAF = Way("three, two deaf gateways", gateways=2, gossip=False)
WAYS = (ALONE, OURS, TURNS, TWO, DEAF)
COLOURS = dict(zip((way.name for way in WAYS), ("#9aa5b1", "#2f855a", "#2b6cb0", "#68d391", "#9ae6b4"), strict=True))
Rounds = dict[tuple[str, str], list[Found]]
"""By workload and way."""


def main() -> None:
    """Start the servers, ask everything in every way, and write what comes out."""
    parser = argparse.ArgumentParser(prog="make affinity-figures", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often, each with a seed of its own")
    parser.add_argument("--sessions", type=int, default=48, help="chats, and half as many documents")
    parser.add_argument("--turns", type=int, default=6, help="turns a chat; twice as many questions a document")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args()
    arguments = f" ARGS={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else ""
    workloads = (
        chats(options.sessions, options.turns),
        documents(options.sessions // 2, 2 * options.turns),
    )
    with ExitStack() as stack:
        urls = [served(stack) for _ in range(REPLICAS)]
        found = asyncio.run(measured(urls, workloads, options.rounds))
    made = figured(found, figures.maker(f"make affinity-figures{arguments}"))
    figures.write(made, options.figures)
    options.figures.with_suffix(".svg").write_text(drawn(made), "utf-8")
    print(figures.verdict(made))


def served(stack: ExitStack) -> str:
    """A vLLM in a folder of its own, until the stack is left; its address."""
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="askonce-figures-"))
    print("starting vLLM", flush=True)
    return stack.enter_context(vllm.serving(BUNDLED / "hf", MODEL, Path(scratch), FLAGS, variables=VARIABLES))


async def measured(urls: Sequence[str], workloads: Sequence[Workload], rounds: int) -> Rounds:
    """Every way in every round. Each run has a scope of its own, so that it finds nothing of the others."""
    found: Rounds = {}
    for seed in range(1, rounds + 1):
        for workload in workloads:
            for way in WAYS:
                scope = f"{workload.name}-{seed}-{WAYS.index(way)}"
                result = await run(workload, way, urls, scope, seed)
                found.setdefault((workload.name, way.name), []).append(result)
                print(f"{seed}: {workload.name}, {way.name}: {told(result)}", flush=True)
                if way is ALONE and not await isolated(workload, way, urls, scope, seed):
                    sys.exit("A scope found what another had computed, or nothing at all.")
    return found


def told(found: Found) -> str:
    """A run in a few words."""
    asked = "/".join(str(count) for _, count in sorted(found.requests.items()))
    return f"{100 * found.cached:.2f} % of {found.prompt_tokens.total()} tokens, asked {asked}, {found.wall_s:.1f} s"


def figured(found: Rounds, maker: Maker) -> list[Figure]:
    """Medians of the rounds; of the imbalances, which have to be small in every one, the largest."""
    made: list[Figure] = []
    for (workload, way), rounds in found.items():
        name, barred = f"{workload}, {way}", way == OURS.name
        asked = rounds[0].requests.total()
        note = f"{asked} requests, {AT_ONCE} at once, rounds: {len(rounds)}"
        share = statistics.median(100 * one.cached for one in rounds)
        made.append(maker.figure(f"{name}: {CACHED}", share, "%", note=f"{note}; median"))
        time_s = statistics.median(one.wall_s for one in rounds)
        made.append(maker.figure(f"{name}: time", time_s, "s", note=f"{note}; median; all servers share this machine"))
        if way == ALONE.name:
            continue
        ratios = [one.cached / all_.cached for one, all_ in zip(rounds, found[workload, ALONE.name], strict=True)]
        uneven = [max(imbalance(one.requests) for one in rounds), max(imbalance(one.computed) for one in rounds)]
        made += [
            maker.figure(
                f"{name}: of what one replica finds",
                statistics.median(ratios),
                "",
                note=f"{note}; median",
                bar=RATIO_MIN if barred else None,
                at_least=barred,
            ),
            maker.figure(
                f"{name}: requests of the busiest replica over the mean",
                uneven[0],
                "",
                note=f"{note}; the largest",
                bar=IMBALANCE_MAX if barred else None,
            ),
            maker.figure(
                f"{name}: tokens computed by the busiest replica over the mean",
                uneven[1],
                "",
                note=f"{note}; the largest",
            ),
        ]
    return made


def drawn(made: Sequence[Figure]) -> str:
    """The shares as bars."""
    bars: list[Bar] = []
    for figure in made:
        name, _, quantity = figure.name.partition(": ")
        if quantity == CACHED:
            bars.append(Bar(figure, name, COLOURS[name.partition(", ")[2]]))
    return chart.drawn("Prompt tokens that the replicas found in their KV caches", bars)


if __name__ == "__main__":
    main()
