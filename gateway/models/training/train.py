"""Train the bundled model from nothing: copying random tokens, then strings, then the mixture.

    python -m gateway.models.training.train --out DIR --seed 0 --steps 17130

Copying is learnt only where nothing else can be learnt (phase 1); the mixture alone gets stuck.
A run that was stopped goes on from DIR/checkpoint.pt.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer

from gateway.models.training import batches, tokenizer
from gateway.models.training.network import Gemma, Shape, head_loss, rotation

_PEAK: Final = 3e-3
_LEARNT: Final = 0.1  # the loss at which copying counts as learnt
_STRINGS: Final = 500  # steps after which the mixture may teach the rest
_PHASES: Final = ("random", "strings", "mixture")
_LONGEST: Final = 2048


@dataclass(slots=True)
class Progress:
    """Where a run stands; kept in the checkpoint."""

    phase: int = 0
    step: int = 0
    phase_step: int = 0
    loss: float = 10.0  # a running mean


class Run:
    """One training run: the network, its optimizer and its running average of weights."""

    def __init__(self, out: Path, seed: int, steps: int, words: Tokenizer) -> None:
        torch.manual_seed(seed)
        self.out, self.seed, self.steps, self.words = out, seed, steps, words
        self.progress = Progress()
        self.model = Gemma(Shape(vocab_size=words.get_vocab_size()))
        self.average = {name: w.detach().clone() for name, w in self.model.named_parameters()}
        matrices = [w for w in self.model.parameters() if w.dim() > 1]
        vectors = [w for w in self.model.parameters() if w.dim() == 1]
        groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=_PEAK, betas=(0.9, 0.98), fused=True)
        # The layers are alike, so one graph for each of a few batch shapes serves all of them.
        torch._dynamo.config.cache_size_limit = 64
        for layer in self.model.layers:
            layer.compile(dynamic=False)
        self.cos, self.sin = rotation(_LONGEST, self.model.shape.head_dim, self.model.shape.rope_local_base_freq)

    def done(self) -> float:
        """Return how much of the mixture phase is over, from 0 to 1."""
        return min(1.0, self.progress.phase_step / self.steps) if self.progress.phase == len(_PHASES) - 1 else 0.0

    def rate(self) -> float:
        """Return the learning rate: a warm-up in every phase, a cosine in the last."""
        warm = min(1.0, (self.progress.phase_step + 1) / 60)
        if self.progress.phase < len(_PHASES) - 1:
            return _PEAK * warm
        return _PEAK * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.done())))

    def step(self, batch: batches.Batch) -> float:
        """Learn from one batch and return its loss."""
        ids, targets = batch
        width = ids.shape[1]
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.model(ids, self.cos[:width], self.sin[:width])
            loss = head_loss(self.model, hidden, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def account(self, loss: float) -> None:
        """Count a step and fold its weights into the average."""
        now = self.progress
        now.step, now.phase_step = now.step + 1, now.phase_step + 1
        now.loss += (loss - now.loss) * 0.05
        share = max(0.005, 1 / (now.phase_step + 1))
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                self.average[name].lerp_(weight, share)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "progress": asdict(self.progress), "shape": asdict(self.model.shape), "seed": self.seed,
            "model": self.model.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        torch.save(state, self.out / "checkpoint.part")
        (self.out / "checkpoint.part").replace(self.out / "checkpoint.pt")

    def resume(self) -> None:
        """Take up the checkpoint, where there is one."""
        if not (self.out / "checkpoint.pt").exists():
            return
        state = torch.load(self.out / "checkpoint.pt")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.progress = Progress(**state["progress"])

    def batches(self) -> Iterator[batches.Batch]:
        """Return the endless batches of the phase that the run is in."""
        rng = random.Random(f"train:{self.seed}:{self.progress.phase}:{self.progress.phase_step}")
        phase = _PHASES[self.progress.phase]
        if phase == "strings":
            return batches.copies(rng, self.words)
        if phase == "mixture":
            return batches.mixed(rng, self.words, 4096, lambda: 0.02 if self.done() < 0.5 else 0.04)

        def endless() -> Iterator[batches.Batch]:
            while True:
                yield batches.random_copies(rng, self.words.get_vocab_size())

        return endless()

    def over(self) -> bool:
        """Say whether the phase has reached its goal."""
        now = self.progress
        if now.phase == len(_PHASES) - 1:
            return self.done() >= 1.0
        enough = _PHASES[now.phase] == "strings" and now.phase_step >= _STRINGS
        return enough or (now.loss < _LEARNT and now.phase_step >= 100)

    def report(self, began: float) -> None:
        """Print the progress line."""
        now = self.progress
        print(
            f"{_PHASES[now.phase]} step {now.phase_step} loss {now.loss:.4f} rate {self.rate():.2e} "
            f"{time.monotonic() - began:.3f} s/step {100 * self.done():.1f} %",
            flush=True,
        )


def run_phase(run: Run) -> None:
    """Train until the phase is over, with a checkpoint every 100 steps."""
    for batch in batches.ahead(run.batches()):
        began = time.monotonic()
        run.account(run.step(batch))
        if run.progress.phase_step % 20 == 0:
            run.report(began)
        if run.progress.phase_step % 100 == 0:
            run.save()
        if run.over():
            run.save()
            return


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=17_130, help="length of the mixture phase")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "tokenizer.json"
    if not kept.exists():
        tokenizer.train(options.seed).save(str(kept))
    run = Run(options.out, options.seed, options.steps, tokenizer.load(kept))
    run.resume()
    while not (run.progress.phase == len(_PHASES) - 1 and run.over()):
        run_phase(run)
        if run.progress.phase < len(_PHASES) - 1:
            run.progress.phase += 1
            run.progress.phase_step, run.progress.loss = 0, 10.0


if __name__ == "__main__":
    main()
