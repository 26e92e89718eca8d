"""What a run has found in; `speed.json`, `speed.svg` and the page that shows them out."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.bench import chart, figures
from gateway.bench.chart import Bar
from gateway.bench.figures import Figure
from gateway.bench.speed import Found
from gateway.bench.standing import IDENTICAL, WAYS, Cell, Peer

NAMES: Final = (
    "hit_vs_bare",
    "sse_hit_vs_bare",
    "hit_p99_vs_bare",
    "hit_vs_litellm",
    "redis_hit_vs_bare",
    "postgres_hit_vs_bare",
    "postgres_hit_p50_ms",
    "miss_added_p50_ms",
    "ttft_added_ms",
    "miss_vs_litellm",
    "idle_rss_mb",
    "cold_start_s",
    "growth_1e4_to_1e6",
    "soak_rss_drift",
)
"""The figures that have a bar, in the order of the page."""
_COLOURS: Final = {"a bare": "#9aa5b1", "the ba": "#cbd2d9", "askonc": "#2f855a"}
_OTHERS: Final = "#c05621"
_LONG: Final = 120


def publish(found: Found, folder: Path, page: Path) -> None:
    """Write the figures of this run over those of earlier ones, the picture, and the page."""
    path = folder / "speed.json"
    known = {figure.name: figure for figure in (figures.read(path) if path.exists() else ())}
    known |= {figure.name: figure for figure in found.figures}
    figures.write(list(known.values()), path)
    if not found.peers:
        return
    (folder / "speed.svg").write_text(_picture(found), "utf-8")
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = Path("figures") / "speed.svg"
    page.write_text("\n".join(_lines(found, known, picture)) + "\n", "utf-8")


def _picture(found: Found) -> str:
    """Requests a second at 16 connections, of each kind and each server."""
    made = found.figures[0]
    bars: list[Bar] = []
    for way in WAYS:
        for peer in found.peers:
            cell = peer.cells.get(way.said)
            if way.at_once > 1 and cell is not None and cell.rounds:
                figure = Figure("", cell.per_second, "1/s", made.command, made.machine, made.date)
                bars.append(Bar(figure, f"{way.name} · {peer.name}", _COLOURS.get(peer.name[:6], _OTHERS)))
    return chart.drawn(
        "Requests a second, 16 connections; each line is ten times the one before", bars, logarithmic=True
    )


def _lines(found: Found, known: dict[str, Figure], picture: Path) -> Iterator[str]:
    made = found.figures[0]
    yield "# Benchmarks"
    yield ""
    yield f"Written by `{made.command}` on {made.date[:10]}: {made.machine}."
    yield ""
    yield (
        "Everything is on: keys, tenants, metrics, the ledger, Redis and Postgres. All servers are measured in turn in"
        " every round, each pinned to the same core, the load generator to another; values are medians of the rounds."
    )
    yield ""
    yield f"![Requests a second]({picture.as_posix()})"
    yield ""
    yield "## Bars"
    yield ""
    yield from _table(("figure", "value", "bar", "", "how it is measured"), _bars(known))
    yield ""
    for way in WAYS:
        yield f"## {way.said[0].upper()}{way.said[1:]}"
        yield ""
        rows = [(peer.name, *_told(cell)) for peer in found.peers if (cell := peer.cells.get(way.said)) is not None]
        yield from _table(("", "1/s", "p50 ms", "p99 ms", "first byte ms", "reached the backend"), rows)
        yield ""
    yield "## Each by itself"
    yield ""
    heads = ("", "version", "cold start s", "RSS MB", f"calls for {IDENTICAL} equal questions at once", "seen")
    yield from _table(heads, [_alone(peer) for peer in found.peers])
    if rest := [figure for name, figure in known.items() if name not in NAMES]:
        yield ""
        yield "## As it grows"
        yield ""
        yield from _table(("figure", "value", "how it is measured"), [(f.name, _value(f), f.note) for f in rest])


def _bars(known: dict[str, Figure]) -> Iterator[Sequence[str]]:
    for figure in (known[name] for name in NAMES if name in known):
        bar = f"{'≥' if figure.at_least else '≤'} {figure.bar:g}" if figure.bar is not None else ""
        yield f"`{figure.name}`", _value(figure), bar, "met" if figure.met else "**missed**", figure.note


def _value(figure: Figure) -> str:
    return f"{figure.value:g} {figure.unit}".strip()


def _told(cell: Cell) -> list[str]:
    if cell.failed:
        return [f"failed: {cell.failed[:_LONG]}", "", "", "", ""]
    reached = "" if cell.reached is None else f"{cell.reached:.0%}"
    return [f"{value:.4g}" for value in (cell.per_second, cell.p50_ms, cell.p99_ms, cell.first_ms)] + [reached]


def _alone(peer: Peer) -> Sequence[str]:
    identical = "" if peer.identical is None else f"{peer.identical:g}"
    start, weight = (f"{value:.3g}" if value else "" for value in (peer.cold_start_s, peer.rss_mb))
    return peer.name, peer.version, start, weight, identical, peer.lacks


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(heads)
    yield f"|{'---|' * len(heads)}"
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
