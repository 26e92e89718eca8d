"""`make extraction-figures`: what extraction takes beside a model's own time, and how good its records are.

A model that knows the answers shows what a long text takes again, what an edit costs, and how late the event loop is
while several texts are read. The rest is of the bundled model on the real llama.cpp and the real vLLM. It writes
docs/figures/extraction.json.
"""

import argparse
import json
import random
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import msgspec

from extractors.scoring import Scores, scores
from gateway.bench import figures
from gateway.bench.figures import Figure, Maker
from gateway.config import BackendConfig
from tests.bench.extraction_run import PATIENCE_S, Recipe, Run, Site, edited, held_out, joined, quantile, since, site
from tests.engines import llamacpp, vllm
from tests.engines.child import ROOT
from tests.extraction.gold import Note, note
from tests.extraction.oracle import RECIPE, Oracle

FIGURES: Final = ROOT / "docs" / "figures" / "extraction.json"
BUNDLED: Final = ROOT / "gateway" / "models" / "bundled"
MODEL: Final = "gemma-3-askonce"
LONG: Final = 200_000
SEED: Final = 1
AGAIN: Final = 5
EDITS: Final = 20
EDIT_CHUNKS: Final = 2
AT_ONCE: Final = 8
THINKS_S: Final = 0.02
NOTES: Final = 40
NOTE_CHARS: Final = 200
NOTE_TOKENS: Final = 512
"""The most that an answer about a note has: all contexts have room for it."""
ROUNDS: Final = 9

RERUN_MAX_S: Final = 0.5
EDITS_MIN: Final = 0.95
LAG_MAX_MS: Final = 15.0
OVERHEAD_MAX: Final = 5.0
F1_MIN: Final = 0.95

Kind = Literal["llamacpp", "vllm"]
Question = tuple[dict[str, Any], str]
"""What an engine was asked, and what it said."""


class Way(msgspec.Struct, frozen=True):
    """What its figures are called, and what is done."""

    name: str
    note: str


class Pace(msgspec.Struct, frozen=True):
    """How long one round took, for each question."""

    ours_ms: float
    """By askonce, streamed too."""
    plain_ms: float
    streamed_ms: float
    questions: int


def main() -> None:
    """Measure it all, print it as it comes, and write it."""
    parser = argparse.ArgumentParser(prog="make extraction-figures", description=__doc__)
    parser.add_argument("--edits", type=int, default=EDITS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the pipeline's overhead")
    parser.add_argument("--notes", type=int, default=100, help="held-out notes for each engine")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args()
    arguments = f" ARGS={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else ""
    maker = figures.maker(f"make extraction-figures{arguments}")
    made = with_oracle(options.edits, maker)
    made += shown(overhead(paced(options.rounds), maker))
    made += shown(quality("llamacpp", "llama.cpp", options.notes, maker))
    made += shown(quality("vllm", "vLLM", options.notes, maker))
    figures.write(made, options.figures)
    print(figures.verdict(made))


def shown(made: Sequence[Figure]) -> list[Figure]:
    """The same, printed."""
    for figure in made:
        print(f"{figure.name}: {figure.value:g} {figure.unit} ({figure.note})", flush=True)
    return list(made)


def with_oracle(edits: int, maker: Maker) -> list[Figure]:
    """What askonce itself takes: the model knows the answers."""
    long = note(SEED, LONG)
    with Oracle([long]).serving() as oracle, site(oracle.backend("vllm")) as askonce:
        made = shown(again(askonce, oracle, long, maker))
        made += shown(after_edits(askonce, oracle, long, edits, maker))
        made += shown(lateness(askonce, oracle, maker))
    return made


def again(askonce: Site, oracle: Oracle, long: Note, maker: Maker) -> list[Figure]:
    """A long text for the first time, again, and after a restart."""
    first, first_calls = counted(askonce, oracle, long)
    later = [counted(askonce, oracle, long) for _ in range(AGAIN)]
    askonce.restart()
    restarted, restarted_calls = counted(askonce, oracle, long)
    if any(run.told != first.told for run in (*(run for run, _ in later), restarted)):
        sys.exit("The records of a later run are others.")
    size = f"{len(long.text):,} characters, {len(long.text.encode()):,} bytes"
    text = f"{size}, {first.said['counts']['chunks']} chunks, {len(first.said['records'])} records"
    means = f"{text}; the whole request, as its client sees it"
    name = "re-run of 200 KB"
    return [
        maker.figure(
            f"{name}: time",
            statistics.median(run.seconds for run, _ in later),
            "s",
            note=f"{means}; median of {AGAIN}",
            bar=RERUN_MAX_S,
        ),
        maker.figure(
            f"{name}: calls", max(calls for _, calls in later), "", note=f"{text}; the most of {AGAIN}", bar=0
        ),
        maker.figure(f"{name}, after a restart of askonce: time", restarted.seconds, "s", note=means),
        maker.figure(f"{name}, after a restart of askonce: calls", restarted_calls, "", note=text),
        maker.figure("first run of 200 KB: time", first.seconds, "s", note=f"{means}; the model takes no time"),
        maker.figure("first run of 200 KB: calls", first_calls, "", note=text),
    ]


def counted(askonce: Site, oracle: Oracle, long: Note) -> tuple[Run, int]:
    """A run, with which everything came out; how often the model was asked."""
    before = len(oracle.asked)
    run = askonce.extract(long.text, RECIPE)
    run.expect(long)
    return run, len(oracle.asked) - before


def after_edits(askonce: Site, oracle: Oracle, long: Note, count: int, maker: Maker) -> list[Figure]:
    """The long text with one paragraph edited, each time another one."""
    chance, asked = random.Random(SEED), list[int]()
    for _ in range(count):
        changed = edited(long, chance)
        oracle.notes.append(changed)
        asked.append(counted(askonce, oracle, changed)[1])
    said = f"{count} edits of the text, each of one sentence that is replaced, put in or left out"
    share = sum(calls <= EDIT_CHUNKS for calls in asked) / count
    name = "one edited paragraph"
    return [
        maker.figure(
            f"{name}: edits with at most {EDIT_CHUNKS} chunks asked again",
            share,
            "",
            note=f"{said}; share",
            bar=EDITS_MIN,
            at_least=True,
        ),
        maker.figure(f"{name}: chunks asked again, mean", statistics.mean(asked), "", note=said),
        maker.figure(f"{name}: chunks asked again, most", max(asked), "", note=said),
    ]


def lateness(askonce: Site, oracle: Oracle, maker: Maker) -> list[Figure]:
    """How late the loop is while several long texts are read for the first time, and again."""
    some = [note(SEED + 1 + number, LONG) for number in range(AT_ONCE)]
    oracle.notes += some
    oracle.delay_s = THINKS_S
    texts = f"{AT_ONCE} texts of 200 KB at once"
    cold = Way(f"event-loop lag while {AT_ONCE} extractions run", f"{texts}, cold, {1000 * THINKS_S:g} ms an answer")
    again = Way(f"event-loop lag while {AT_ONCE} re-runs run", f"{texts}, all kept, {AGAIN} times")
    return [
        *late(askonce, some, cold, maker, bar=LAG_MAX_MS),
        *late(askonce, some * AGAIN, again, maker),
    ]


def late(askonce: Site, some: Sequence[Note], way: Way, maker: Maker, *, bar: float | None = None) -> list[Figure]:
    """How late the loop is while these texts are read."""
    before, began = askonce.lag(), time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        runs = list(threads.map(lambda long: askonce.extract(long.text, RECIPE), some))
    took_s, looks = time.perf_counter() - began, since(before, askonce.lag())
    for run, long in zip(runs, some, strict=True):
        run.expect(long)
    means = f"{way.note}; looked at {max(looks.values()):g} times; the model and askonce share this machine"
    made: list[Figure] = []
    for share, limit in ((0.5, None), (0.99, bar)):
        value, (start, end) = quantile(looks, share)
        bucket = f"in the bucket from {1000 * start:g} to {1000 * end:g} ms, as if all in it lay evenly"
        made.append(
            maker.figure(f"{way.name}: p{100 * share:g}", 1000 * value, "ms", note=f"{means}; {bucket}", bar=limit)
        )
    _, (start, end) = quantile(looks, 1)
    highest = f"{means}; the end of the highest bucket with anything in it, or its beginning if it has no end"
    return [
        *made,
        maker.figure(f"{way.name}: most", 1000 * (start if end == float("inf") else end), "ms", note=highest),
        maker.figure(f"{way.name}: time", took_s, "s", note=way.note),
    ]


def paced(rounds: int) -> list[Pace]:
    """So many documents of notes, each read by askonce and asked about without it, by turns. Each has an engine of its
    own, all of which are asked the same in the same order: what one finds in its prefix cache, the others find too.
    """
    texts = [joined(number, NOTES) for number in range(rounds)]
    with engine("llamacpp") as url, site(backend("llamacpp", url)) as askonce:
        questions = [asked_about(askonce, read(askonce, *text)) for text in texts]
    paces: list[Pace] = []
    with ExitStack() as stack:
        ours, plain, streamed = (stack.enter_context(engine("llamacpp")) for _ in range(3))
        askonce = stack.enter_context(site(backend("llamacpp", ours)))
        read(askonce, texts[0][0] | {"description": "Nothing."}, "Warming up.")
        for text, some in zip(texts, questions, strict=True):
            ways: list[Callable[[], float]] = [
                lambda text=text: read(askonce, *text).seconds,
                lambda some=some: direct(plain, some),
                lambda some=some: direct(streamed, some, stream=True),
            ]
            paces.append(in_turn(ways, len(paces), len(some)))
            print(paces[-1], flush=True)
    return paces


def in_turn(ways: Sequence[Callable[[], float]], first: int, questions: int) -> Pace:
    """How long each way takes for a question, beginning with another one each time."""
    took_ms: dict[int, float] = {}
    for way in range(first, first + len(ways)):
        took_ms[way % len(ways)] = 1000 * ways[way % len(ways)]() / questions
    return Pace(*(took_ms[way] for way in range(len(ways))), questions)


def read(askonce: Site, recipe: Recipe, text: str) -> Run:
    """What is extracted, a chunk at a time."""
    return askonce.extract(text, recipe, chunk_chars=NOTE_CHARS, parallel=1, max_tokens=NOTE_TOKENS, attempts=1)


def asked_about(askonce: Site, run: Run) -> list[Question]:
    """What the engine was asked, and what it said."""
    kept = [askonce.record(key) for key in run.keys]
    return [({**one["prompt"], **one["params"]["known"]}, one["choices"][0]["message"]["content"]) for one in kept]


def direct(url: str, questions: Sequence[Question], *, stream: bool = False) -> float:
    """How long the questions take one after the other, without askonce. The answers have to be the same."""
    with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
        began = time.perf_counter()
        replies = [reply_to(client, question, stream=stream) for question, _ in questions]
        took_s = time.perf_counter() - began
    if list(map(answer_in, replies)) != [answer for _, answer in questions]:
        sys.exit("The engine said something else when it was asked directly.")
    return took_s


def reply_to(client: httpx.Client, question: dict[str, Any], *, stream: bool) -> str:
    """What the engine replies."""
    body = {"model": MODEL, **question, "stream": stream}
    # It ends connections after streams without saying so.
    headers = {"connection": "close"} if stream else {}
    return client.post("/v1/chat/completions", json=body, headers=headers).raise_for_status().text


def answer_in(reply: str) -> str:
    """The answer in a reply, whole or as events."""
    if reply.startswith("{"):
        return json.loads(reply)["choices"][0]["message"]["content"]
    events = (json.loads(line.removeprefix("data: ")) for line in reply.splitlines() if line.startswith("data: {"))
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def overhead(paces: Sequence[Pace], maker: Maker) -> list[Figure]:
    """What askonce adds to the time of the engine."""
    note = (
        f"documents of {NOTES} held-out notes on llama.cpp, one chunk at a time and cold; {len(paces)} rounds with "
        f"{sum(pace.questions for pace in paces)} questions in all; medians"
    )
    over = {
        "": ([100 * (pace.ours_ms / pace.streamed_ms - 1) for pace in paces], OVERHEAD_MAX),
        ", to questions not streamed": ([100 * (pace.ours_ms / pace.plain_ms - 1) for pace in paces], None),
    }
    times = {
        "a chunk by askonce": [pace.ours_ms for pace in paces],
        "a question to the engine, streamed": [pace.streamed_ms for pace in paces],
        "a question to the engine, not streamed": [pace.plain_ms for pace in paces],
    }
    beside = "compared with the same questions asked of the same engine directly"
    return [
        *(
            maker.figure(
                f"pipeline overhead{name}",
                statistics.median(shares),
                "%",
                note=f"{note}; {beside}; rounds from {min(shares):.1f} to {max(shares):.1f} %",
                bar=bar,
            )
            for name, (shares, bar) in over.items()
        ),
        *(
            maker.figure(f"pipeline overhead: {name}", statistics.median(some), "ms", note=note)
            for name, some in times.items()
        ),
    ]


def quality(kind: Kind, name: str, count: int, maker: Maker) -> list[Figure]:
    """How good the bundled model's records are."""
    total = Scores()
    with engine(kind) as url, site(backend(kind, url)) as askonce:
        for number in range(count):
            given, written = held_out(number)
            run = askonce.extract(written.text, given, max_tokens=NOTE_TOKENS)
            total += scores(written.records, run.records)
    said = f"{total.strict.wanted} records of {count} held-out notes, each with one or two examples, greedy"
    return [
        maker.figure(
            f"{what} F1 of the bundled model over {count} held-out notes: {name}",
            score.f1,
            "",
            note=f"{said}; {means}",
            bar=F1_MIN if what == "strict" else None,
            at_least=what == "strict",
        )
        for what, score, means in (
            ("strict", total.strict, "the same class at the very same place"),
            ("overlap", total.overlap, "the same class at places that overlap"),
            ("attributes", total.attributes, "attributes with their values, of records at the right place"),
        )
    ]


@contextmanager
def engine(kind: Kind) -> Generator[str]:
    """The bundled model on a new engine, until the block ends; its address."""
    with tempfile.TemporaryDirectory(prefix="askonce-figures-") as scratch:
        serving = (
            llamacpp.serving(BUNDLED / f"{MODEL}.gguf", MODEL, Path(scratch))
            if kind == "llamacpp"
            else vllm.serving(BUNDLED / "hf", MODEL, Path(scratch))
        )
        with serving as url:
            yield url


def backend(kind: Kind, url: str) -> BackendConfig:
    """The bundled model on an engine."""
    return BackendConfig(kind=kind, model=MODEL, url=url)


if __name__ == "__main__":
    main()
