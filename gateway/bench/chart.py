"""Figures in, a bar chart as SVG out."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

from gateway.bench.figures import Figure

_WIDTH, _ROW, _LEFT, _TOP = 760, 20, 230, 56
_LONGEST = _WIDTH - _LEFT - 70
_COLOURS = {"bare": "#9aa5b1", "hit": "#2f855a", "backend": "#9aa5b1", "miss": "#2b6cb0"}


class Bar(NamedTuple):
    """One figure, what it is called, and its colour."""

    figure: Figure
    name: str
    colour: str


def svg(found: Sequence[Figure]) -> str:
    """One bar a cell; requests a second on a linear scale."""
    suffix = ": throughput"
    cells = [f for f in found if f.name.endswith(suffix) and f.name.split()[0] in _COLOURS]
    bars = [Bar(figure, figure.name.removesuffix(suffix), _COLOURS[figure.name.split()[0]]) for figure in cells]
    return drawn("Requests a second, by what was asked and how many were asked at once", bars)


def drawn(title: str, bars: Sequence[Bar], *, logarithmic: bool = False) -> str:
    """All `bars` on one scale; with `logarithmic`, each line is ten times the one before."""
    first = bars[0].figure if bars else None
    scale = _Logarithmic(bars) if logarithmic else _Linear(bars)
    height = _TOP + _ROW * len(bars) + 12
    said = f"{first.command} · {first.date[:10]} · {first.machine.partition(';')[0]}" if first else ""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n'
        f'<text x="12" y="22" font-size="15" fill="#1a202c">{escape(title)}</text>\n'
        f'<text x="12" y="40" font-size="10" fill="#4a5568">{escape(said)}</text>\n'
    )
    lines = (_line(scale.width(value), value, height) for value in scale.lines)
    rows = (_bar(place, bar, scale.width(bar.figure.value)) for place, bar in enumerate(bars))
    return head + "".join(lines) + "".join(rows) + "</svg>\n"


class _Linear:
    """From zero to the largest."""

    def __init__(self, bars: Sequence[Bar]) -> None:
        self._most = max((bar.figure.value for bar in bars), default=1.0)
        self.lines: Sequence[float] = ()

    def width(self, value: float) -> float:
        """How long a bar of this value is."""
        return _LONGEST * value / self._most


class _Logarithmic:
    """From the power of ten below the smallest to the largest."""

    def __init__(self, bars: Sequence[Bar]) -> None:
        values = [bar.figure.value for bar in bars if bar.figure.value > 0] or [1.0]
        self._first = floor(log10(min(values))) - 1
        self._span = max(log10(max(values)) - self._first, 1.0)
        self.lines = [10.0**power for power in range(self._first, ceil(self._first + self._span))]

    def width(self, value: float) -> float:
        """How long a bar of this value is."""
        return _LONGEST * max(0.0, log10(value) - self._first) / self._span if value > 0 else 0.0


def _line(width: float, value: float, height: int) -> str:
    x = _LEFT + width
    return (
        f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{height - 8}" stroke="#e2e8f0"/>'
        f'<text x="{x:.1f}" y="{_TOP - 4}" font-size="9" text-anchor="middle" fill="#718096">{value:,.10g}</text>\n'
    )


def _bar(place: int, bar: Bar, width: float) -> str:
    figure, y = bar.figure, _TOP + place * _ROW
    value = f"{figure.value:g} %" if figure.unit == "%" else f"{figure.value:,.0f}"
    return (
        f'<text x="{_LEFT - 8}" y="{y + 13}" font-size="11" text-anchor="end" fill="#1a202c">{escape(bar.name)}</text>'
        f'<rect x="{_LEFT}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}" fill="{bar.colour}"/>'
        f'<text x="{_LEFT + width + 6:.1f}" y="{y + 13}" font-size="11" fill="#1a202c">{value}</text>\n'
    )
