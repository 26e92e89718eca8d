"""`make digest-figures`: how long it takes to name the weights of a model. Writes docs/figures/digest.json."""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from gateway.bench import figures
from gateway.models.digest import Digests
from tests.engines.child import ROOT

FIGURES = ROOT / "docs" / "figures" / "digest.json"
BLOCK_BYTES = 2**26
ROUNDS = 3
WAYS = {"whole": 2**62, "sampled": 0}


def main() -> None:
    """Write a file, name it in both ways, and say how long that took."""
    parser = argparse.ArgumentParser(prog="make digest-figures", description=__doc__)
    parser.add_argument("--gb", type=int, default=2, help="the size of the file")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args()
    maker = figures.maker("make digest-figures")
    made: list[figures.Figure] = []
    with tempfile.TemporaryDirectory(prefix="askonce-figures-") as scratch:
        file = Path(scratch) / "model.gguf"
        block = os.urandom(BLOCK_BYTES)
        with file.open("wb") as data:
            for _ in range(options.gb * 10**9 // BLOCK_BYTES):
                data.write(block)
        for way, limit in WAYS.items():
            taken_s = min(timed(file, limit) for _ in range(ROUNDS))
            note = f"one file of {options.gb} GB that was just written; the fastest of {ROUNDS}"
            made.append(maker.figure(f"digest, {way}", taken_s / (file.stat().st_size / 1e9), "s/GB", note=note))
            print(f"{made[-1].name}: {made[-1].value} s/GB", flush=True)
    figures.write(made, options.figures)


def timed(file: Path, full_max_bytes: int) -> float:
    """Seconds for one digest that nobody has kept."""
    started = time.perf_counter()
    asyncio.run(Digests(full_max_bytes=full_max_bytes).of(file))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
