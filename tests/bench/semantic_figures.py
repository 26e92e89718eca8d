"""`make semantic-figures`: how many paraphrases semantic reuse would serve, and how often it would be wrong.

The labelled pairs are embedded by all-MiniLM-L6-v2 behind a real `askonce serve`. Thresholds are chosen with one half
of them and judged with the other. It writes docs/figures/semantic.json and semantic.svg. With `--judge URL/MODEL` a
model says yes or no to what the guard leaves to it, too.
"""

import argparse
import random
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.bench import chart, figures
from gateway.bench.chart import Bar
from gateway.bench.figures import Figure, Maker
from gateway.reuse import judge
from gateway.semantic.guard import LEFT_TO_JUDGE, Reason, verdict
from tests.acceptance.serving import Served, short_folder
from tests.engines import minilm_install
from tests.engines.child import ROOT
from tests.semantic.pairs import DIFFERENCES, PARAPHRASE, SURFACE, Half, Pair, pairs

FIGURES = ROOT / "docs" / "figures" / "semantic.json"
MODEL = "all-minilm-l6-v2"
BATCH = 256
FALSE_MAX = 0.005
HIT_MIN = 0.5
STEP = 0.01
COMMON = 0.8
"""A threshold that many use; all ways are compared at it, too."""
RESAMPLES = 2000
CHOSEN = "chosen with the other half"
COLOURS = {PARAPHRASE: "#2f855a", SURFACE: "#68d391"}
Vectors = dict[str, NDArray[np.float64]]


class Judged(msgspec.Struct, frozen=True):
    """A pair, how near the model finds its texts, and what the guard has against it."""

    pair: Pair
    similarity: float
    reasons: tuple[Reason, ...]
    said: bool | None = None
    """What a model says of it, where it was asked and said something clear."""


class Way(msgspec.Struct, frozen=True):
    """A way to decide: the checks of the guard that it heeds, and whether a model must say yes, too."""

    name: str
    heeds: Callable[[Reason], bool]
    by_model: bool = False

    def hits(self, judged: Judged, threshold: float) -> bool:
        """Whether one's answer would be given to the other."""
        if judged.similarity < threshold or (self.by_model and judged.said is not True):
            return False
        return not any(self.heeds(reason) for reason in judged.reasons)


WAYS = (
    Way("no guard", lambda _: False),
    Way("lenient guard", lambda reason: reason not in LEFT_TO_JUDGE),
    Way("guard", lambda _: True),
)
JUDGED = Way("guard and judge", lambda reason: reason not in LEFT_TO_JUDGE, by_model=True)


class Judge:
    """A model at an OpenAI server, asked in the same words as by the gateway. Raises what httpx raises."""

    def __init__(self, address: str) -> None:
        """`address`: the server's with the model's name as its path."""
        parts = urlsplit(address)
        self.model = parts.path.removeprefix("/v1").strip("/")
        self._url = f"{parts.scheme}://{parts.netloc}/v1/chat/completions"
        self._client = httpx.Client(timeout=300)

    def said(self, first: str, second: str) -> bool | None:
        """Its word on two questions."""
        wanted = judge.question(self.model, first, second)
        body = {"model": self.model, "messages": wanted.prompt["messages"], "temperature": 0, "max_tokens": 3}
        reply = self._client.post(self._url, json=body).raise_for_status().json()
        return judge.word(reply["choices"][0]["message"]["content"] or "")

    def of(self, found: Sequence[Judged]) -> list[Judged]:
        """Those with its word on each that the guard leaves to it."""
        asked = [LEFT_TO_JUDGE.issuperset(one.reasons) for one in found]
        print(f"{self.model} is asked about {sum(asked)} of {len(found)} pairs", flush=True)
        return [
            msgspec.structs.replace(one, said=self.said(one.pair.left, one.pair.right)) if wanted else one
            for one, wanted in zip(found, asked, strict=True)
        ]


class Count(msgspec.Struct, frozen=True):
    """How many of the pairs of a kind are hits."""

    hits: int
    of: int

    @property
    def percent(self) -> float:
        """As a share."""
        return 100 * self.hits / self.of


def main() -> None:
    """Embed, choose, judge, and write it down."""
    parser = argparse.ArgumentParser(prog="make semantic-figures", description=__doc__)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--judge", type=Judge, metavar="URL/MODEL", help="an OpenAI server, and a model there")
    options = parser.parse_args()
    halves: tuple[Half, ...] = ("tuning", "held_out")
    of_half = {half: pairs(half) for half in halves}
    vectors = embedded([text for made in of_half.values() for pair in made for text in (pair.left, pair.right)])
    tuning, held_out = ([judged(pair, vectors) for pair in of_half[half]] for half in halves)
    ways = WAYS
    if options.judge is not None:
        tuning, held_out, ways = options.judge.of(tuning), options.judge.of(held_out), (*WAYS, JUDGED)
    told = f" ARGS='--judge URL/{options.judge.model}'" if options.judge else ""
    maker = figures.maker(f"make semantic-figures{told}")
    made: list[Figure] = []
    for way in ways:
        threshold = chosen(tuning, way)
        print(f"{way.name}: threshold {threshold:.2f}", flush=True)
        made += of_way(way, threshold, (tuning, held_out), maker, barred=way is ways[-1])
    made.append(
        maker.figure("guard: time a pair", taken_us(of_half["held_out"]), "µs", note="one core; both prompts read")
    )
    figures.write(made, options.figures)
    options.figures.with_suffix(".svg").write_text(drawn(made), "utf-8")
    print(figures.verdict(made))


def embedded(texts: Sequence[str]) -> Vectors:
    """Each text's vector, from a gateway of its own."""
    distinct = list(dict.fromkeys(texts))
    folder = short_folder()
    server = Served(folder, "--model", str(minilm_install.FILE))
    try:
        server.start()
        rows = [row for n in range(0, len(distinct), BATCH) for row in asked(server.url, distinct[n : n + BATCH])]
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return dict(zip(distinct, np.array(rows), strict=True))


def asked(url: str, texts: Sequence[str]) -> list[list[float]]:
    """One call's vectors."""
    reply = httpx.post(f"{url}/v1/embeddings", json={"model": MODEL, "input": texts}, timeout=300)
    reply.raise_for_status()
    body: dict[str, Any] = reply.json()
    return [item["embedding"] for item in body["data"]]


def judged(pair: Pair, vectors: Vectors) -> Judged:
    """Look at a pair with the model and with the guard."""
    return Judged(pair, float(vectors[pair.left] @ vectors[pair.right]), verdict(pair.left, pair.right).reasons)


def chosen(tuning: Sequence[Judged], way: Way) -> float:
    """The lowest threshold at which no more than one in two hundred of the different pairs is a hit; else 1.01."""
    different = [one for one in tuning if not one.pair.is_same]
    fits = 1.0 + STEP
    for threshold in np.arange(1.0, 0.3, -STEP):
        if sum(way.hits(one, threshold) for one in different) > FALSE_MAX * len(different):
            break
        fits = float(threshold)
    return fits


def counts(found: Sequence[Judged], way: Way, threshold: float) -> dict[str, Count]:
    """Hits by kind."""
    total = Counter(one.pair.kind for one in found)
    hits = Counter(one.pair.kind for one in found if way.hits(one, threshold))
    return {kind: Count(hits[kind], total[kind]) for kind in sorted(total)}


def false(of: dict[str, Count]) -> Count:
    """All that are hits and must not be."""
    return Count(sum(of[kind].hits for kind in DIFFERENCES), sum(of[kind].of for kind in DIFFERENCES))


def of_way(
    way: Way, threshold: float, halves: tuple[Sequence[Judged], Sequence[Judged]], maker: Maker, *, barred: bool
) -> list[Figure]:
    """What comes of one way: its threshold, the shares on both halves, and the sweep."""
    tuning, held_out = halves
    made = [maker.figure(f"{way.name}: threshold", threshold, "", note="cosine; chosen with the tuning half")]
    seen, judged_by = counts(tuning, way, threshold), counts(held_out, way, threshold)
    made += shares(f"{way.name}, tuning", seen, "what the threshold was chosen with", maker)
    low, high = spread(held_out, way, threshold)
    made += shares(f"{way.name}, held out", judged_by, CHOSEN, maker, barred=barred)
    note = f"95 % of {RESAMPLES} resamples of the questions"
    made.append(maker.figure(f"{way.name}, held out: false hits, lower end", low, "%", note=note))
    made.append(maker.figure(f"{way.name}, held out: false hits, upper end", high, "%", note=note))
    made += [
        maker.figure(f"{way.name}, held out: {kind}", of.percent, "%", note=told(of)) for kind, of in judged_by.items()
    ]
    compared = counts(held_out, way, COMMON)
    name = f"{way.name}, at {COMMON:.2f}"
    made += [maker.figure(f"{name}: {kind}", of.percent, "%", note=told(of)) for kind, of in compared.items()]
    for at in np.arange(0.5, 1.0, 0.05):
        swept = counts(held_out, way, float(at))
        name, note = f"{way.name}, held out, at {at:.2f}", "to look at; nothing was chosen by it"
        made.append(maker.figure(f"{name}: {PARAPHRASE}s hit", swept[PARAPHRASE].percent, "%", note=note))
        made.append(maker.figure(f"{name}: false hits", false(swept).percent, "%", note=note))
    return made


def shares(name: str, of: dict[str, Count], note: str, maker: Maker, *, barred: bool = False) -> list[Figure]:
    """Paraphrases hit and false hits."""
    right, wrong = of[PARAPHRASE], false(of)
    hit_min, false_max = (100 * HIT_MIN, 100 * FALSE_MAX) if barred else (None, None)
    return [
        maker.figure(
            f"{name}: {PARAPHRASE}s hit",
            right.percent,
            "%",
            note=f"{told(right)}; {note}",
            bar=hit_min,
            at_least=barred,
        ),
        maker.figure(f"{name}: false hits", wrong.percent, "%", note=f"{told(wrong)}; {note}", bar=false_max),
    ]


def told(count: Count) -> str:
    """It in words."""
    return f"{count.hits} of {count.of}"


def spread(found: Sequence[Judged], way: Way, threshold: float) -> tuple[float, float]:
    """Between which shares of false hits the truth may be: pairs of one question are alike, so questions are drawn."""
    by_item: defaultdict[int, list[bool]] = defaultdict(list)
    for one in found:
        if not one.pair.is_same:
            by_item[one.pair.item].append(way.hits(one, threshold))
    sizes = [(sum(hits), len(hits)) for hits in by_item.values()]
    chance = random.Random(1)
    drawn_shares: list[float] = []
    for _ in range(RESAMPLES):
        sample = chance.choices(sizes, k=len(sizes))
        drawn_shares.append(100 * sum(hits for hits, _ in sample) / sum(of for _, of in sample))
    low, high = np.percentile(drawn_shares, [2.5, 97.5])
    return float(low), float(high)


def taken_us(made: Sequence[Pair]) -> float:
    """How long the guard takes for a pair."""
    began = time.perf_counter()
    for pair in made:
        verdict(pair.left, pair.right)
    return (time.perf_counter() - began) / len(made) * 1e6


def drawn(made: Sequence[Figure]) -> str:
    """What is a hit at the same threshold, by kind, without and with the guard."""
    at = f", at {COMMON:.2f}"
    bars: list[Bar] = []
    for figure in made:
        way, _, kind = figure.name.partition(f"{at}: ")
        if kind in DIFFERENCES | COLOURS.keys():
            bars.append(Bar(figure, f"{way}: {kind}", COLOURS.get(kind, "#c05621")))
    return chart.drawn(f"Held-out pairs that are hits{at}, % (green should be, red must not)", bars)


if __name__ == "__main__":
    main()
