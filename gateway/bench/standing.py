"""What was measured of each server that is compared, and the table it makes."""

import statistics
from collections.abc import Generator, Sequence
from typing import Final

import msgspec
from rich.console import Group
from rich.table import Table

from gateway.bench.load import Result

HIT: Final = "hit JSON"
MISS: Final = "miss JSON"
SSE_HIT: Final = "hit SSE"
SSE_MISS: Final = "miss SSE"
IDENTICAL: Final = 50
"""How many ask the same new question at once."""
_FAILED_SHOWN: Final = 160


class Way(msgspec.Struct, frozen=True):
    """One kind of request."""

    name: str
    new: bool
    stream: bool
    at_once: int

    @property
    def said(self) -> str:
        """As it is called in tables."""
        return f"{self.name}, {self.at_once} at once"


WAYS: Final = (
    Way(HIT, new=False, stream=False, at_once=1),
    Way(HIT, new=False, stream=False, at_once=16),
    Way(MISS, new=True, stream=False, at_once=1),
    Way(MISS, new=True, stream=False, at_once=16),
    Way(SSE_HIT, new=False, stream=True, at_once=1),
    Way(SSE_HIT, new=False, stream=True, at_once=16),
    Way(SSE_MISS, new=True, stream=True, at_once=1),
    Way(SSE_MISS, new=True, stream=True, at_once=16),
)


class Cell(msgspec.Struct, frozen=True):
    """What came of one kind of request, round by round."""

    rounds: tuple[Result, ...]
    reached: float | None = None
    """How much of it the backend was asked; None where nobody counts."""
    failed: str = ""
    """Why there are no figures."""

    @property
    def per_second(self) -> float:
        """Throughput."""
        return self._median([result.per_second for result in self.rounds])

    @property
    def p50_ms(self) -> float:
        """Half of all replies took at most so long."""
        return self._median([result.p50_ms for result in self.rounds])

    @property
    def p99_ms(self) -> float:
        """Ninety-nine of a hundred."""
        return self._median([result.p99_ms for result in self.rounds])

    @property
    def first_ms(self) -> float:
        """Half of all bodies began within so long."""
        return self._median([result.first_p50_ms for result in self.rounds])

    def _median(self, values: Sequence[float]) -> float:
        return statistics.median(values) if values else 0.0


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one of them."""

    name: str
    version: str = ""
    cold_start_s: float = 0.0
    rss_mb: float = 0.0
    """After the load, of all its processes; 0 for one that is not weighed."""
    cells: dict[str, Cell] = {}
    """By `Way.said`."""
    identical: float | None = None
    """How often the backend was asked when `IDENTICAL` asked the same; None where nobody counts."""
    note: str = ""

    @property
    def lacks(self) -> str:
        """What it was seen not to do."""
        return "; ".join(self._lacks())

    def _lacks(self) -> Generator[str]:
        for name in (HIT, SSE_HIT):
            of_name = [cell for said, cell in self.cells.items() if said.startswith(name)]
            if any((cell.reached or 0) > 0.5 for cell in of_name):
                yield f"{name}: never stored"
        if self.identical is not None and self.identical > IDENTICAL / 2:
            yield "equal questions at the same time are not made one"
        if self.note:
            yield self.note


def table(peers: Sequence[Peer]) -> Group:
    """Every kind of request to every one of them; then each by itself."""
    cells = Table("asked", "of", "1/s", "p50 ms", "p99 ms", "first byte ms", "reached the backend")
    for way in WAYS:
        for peer in peers:
            if (cell := peer.cells.get(way.said)) is not None:
                cells.add_row(way.said, peer.name, *_told(cell))
        cells.add_section()
    alone = Table("peer", "version", "cold start s", "RSS MB", f"asked when {IDENTICAL} ask the same", "seen")
    for peer in peers:
        identical = "" if peer.identical is None else f"{peer.identical:g}"
        alone.add_row(peer.name, peer.version, f"{peer.cold_start_s:.1f}", f"{peer.rss_mb:.0f}", identical, peer.lacks)
    for each in (cells, alone):
        for column in each.columns[2:-1]:
            column.justify = "right"
    return Group(cells, alone)


def _told(cell: Cell) -> list[str]:
    if cell.failed:
        return [cell.failed[:_FAILED_SHOWN]]
    reached = "" if cell.reached is None else f"{cell.reached:.0%}"
    values = (f"{value:.4g}" for value in (cell.per_second, cell.p50_ms, cell.p99_ms, cell.first_ms))
    return [*values, reached]
