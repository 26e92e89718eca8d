"""An outcome -> figures, a page of the documentation, and for a wrong answer the two requests that collided."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from gateway.bench import figures
from gateway.bench.differential import client
from gateway.bench.differential.ledger import Wrong
from gateway.bench.differential.plan import TENANTS, Shot
from gateway.bench.differential.run import Outcome
from gateway.bench.figures import Figure, Maker

HIT_RATE_MIN: Final = 99.9
SHOWN: Final = 3
_TABLES: Final = {
    "mutation": "What each request was to those before it: the same again, or one that differs in one field",
    "reused": "Of these, answered without asking the model",
    "habit": "How requests were written, which must not matter",
    "kind": "What was asked for",
    "form": "How the reply was sent",
    "cache-control": "What the client wished",
    "scope": "Whose answers they are",
    "model": "Which model was asked",
    "answered": "What came of it",
    "tier": "Where reused answers came from",
    "befallen": "What befell the gateway",
}
_PAGE: Final = """\
# The differential test

`{command}` wrote this page. It asks a real `askonce serve` with {workers} workers, Postgres and Redis, and behind it a
model that answers with a hash of everything it is asked. Requests are made from labelled changes, so that it is known
which of them are the same question; every answer is compared, step by step, with the model's own, and its origin with
the requests that may share it. Between and during requests tiers are emptied, processes killed, answers deleted, and
the model's weights changed. The same seed asks the same questions. Two of the three models are served as by any server
with OpenAI's API, the third as by vLLM; that one is not asked for tools, formats or echoes, which the gateway asks vLLM
for in other words.

{machine}, {date}.

| Figure | Value |
|---|---:|
{rows}

A hit is possible when an equal request was answered before, in the same place, and nothing has happened since that may
have cost the answer. Equal requests that are answered from a flight under way count as hits: the model was not asked.
Errors are replies that failed although nothing had been made to fail.
{tables}"""


def made(outcome: Outcome, command: str) -> list[Figure]:
    """The figures of a run."""
    maker = figures.maker(command)
    rate = int(outcome.hit_rate * 1000) / 1000  # rounded down: 99.8999 does not keep the bar
    found = [
        _exact(maker, "requests", outcome.requests, ""),
        _exact(maker, "different questions", outcome.questions, ""),
        _exact(maker, "wrong answers", len(outcome.wrong), "", bar=0),
        _exact(maker, "errors", len(outcome.errors), "", bar=0),
        _exact(maker, "possible hits", outcome.possible, ""),
        _exact(maker, "missed hits", len(outcome.missed), ""),
        _exact(maker, "hits of those possible", rate, "%", bar=HIT_RATE_MIN, at_least=True),
        _exact(maker, "answers that were never written", outcome.unwritten, ""),
        _exact(maker, "seed", outcome.options.seed, ""),
        maker.figure("duration", outcome.seconds, "s"),
    ]
    for table in _TABLES:
        counts = outcome.counts.get(table, {})
        found += [_exact(maker, f"{table}: {name}", counts[name], "") for name in sorted(counts)]
    return found


def publish(outcome: Outcome, command: str, folder: Path) -> None:
    """Print the outcome. Of a run that came to its end, write differential.json to `folder` and the page beside it."""
    console, found = Console(highlight=False, soft_wrap=True, markup=False), made(outcome, command)
    for figure in found:
        if ": " not in figure.name:
            console.print(f"{figure.name:32} {figure.value:>12,g} {figure.unit}")
    console.print(found[0].machine, figures.verdict(found), sep="\n")
    for wrong in outcome.wrong[:SHOWN]:
        console.print(told(wrong, outcome.options.seed))
    for reply in outcome.errors[:SHOWN]:
        console.print(f"ERROR: {reply.fault or reply.status}\n{_request(reply.shot, outcome.options.seed)}")
    for reply in outcome.missed[:SHOWN]:
        what = f"{reply.cache}, {reply.headers.get('x-askonce-provenance', '')}, {reply.status}"
        console.print(f"MISSED ({what}):\n{_request(reply.shot, outcome.options.seed)}")
    if outcome.requests >= outcome.options.requests:
        figures.write(found, folder / "differential.json")
        (folder.parent / "differential.md").write_text(_page(outcome, found), "utf-8")


def told(wrong: Wrong, seed: int) -> str:
    """A wrong answer: what is wrong with it, the request it was given to, and the one it is the answer to."""
    reply = wrong.reply
    tier = reply.headers.get("x-askonce-tier", "none")
    lines = [f"WRONG: {wrong.what} ({reply.cache}, tier {tier}, reply {reply.id}).", _request(reply.shot, seed)]
    if wrong.other is not None:
        lines += ["It was the answer to:", _request(wrong.other, seed)]
    return "\n".join(lines)


def _request(shot: Shot, seed: int) -> str:
    """The request, with each tenant's keys called by its name."""
    keys = {tenant: [f"<{tenant}>", f"<{tenant}, other>"] for tenant in TENANTS}
    path, body, headers = client.request(shot, keys, seed)
    shown = "".join(f"\n  {name}: {value}" for name, value in sorted(headers.items()))
    asked = json.dumps(json.loads(body), sort_keys=True)
    return f"  request {shot.number} of seed {seed}: POST {path}{shown}\n  {asked}"


def _page(outcome: Outcome, found: Sequence[Figure]) -> str:
    plain = [figure for figure in found if ": " not in figure.name]
    rows = "\n".join(f"| {figure.name} | {f'{figure.value:,.10g} {figure.unit}'.strip()} |" for figure in plain)
    tables = "".join(
        f"\n## {title}\n\n| | |\n|---|---:|\n"
        + "".join(f"| {name} | {count:,} |\n" for name, count in sorted(outcome.counts.get(table, {}).items()))
        for table, title in _TABLES.items()
    )
    return _PAGE.format(
        command=found[0].command,
        workers=outcome.options.workers,
        machine=found[0].machine,
        date=found[0].date[:10],
        rows=rows,
        tables=tables,
    )


def _exact(
    maker: Maker, name: str, value: float, unit: str, *, bar: float | None = None, at_least: bool = False
) -> Figure:
    """A figure that is not rounded: counts are exact."""
    return msgspec.structs.replace(maker.figure(name, value, unit, bar=bar, at_least=at_least), value=float(value))
