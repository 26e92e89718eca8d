"""Figures in, a bar chart as SVG out: throughput of each cell."""

from collections.abc import Sequence
from html import escape

from gateway.bench.figures import Figure

_WIDTH, _ROW, _LEFT, _TOP = 760, 20, 230, 56
_COLOURS = {"bare": "#9aa5b1", "hit": "#2f855a", "backend": "#9aa5b1", "miss": "#2b6cb0"}


def svg(found: Sequence[Figure]) -> str:
    """One bar a cell; requests a second on a linear scale."""
    suffix = ": throughput"
    bars = [f for f in found if f.name.endswith(suffix) and f.name.split()[0] in _COLOURS]
    most = max((figure.value for figure in bars), default=1.0)
    rows = [_bar(place, figure, figure.name.removesuffix(suffix), most) for place, figure in enumerate(bars)]
    height = _TOP + _ROW * len(bars) + 12
    title = "Requests a second, by what was asked and how many were asked at once"
    said = f"{found[0].command} · {found[0].date[:10]} · {found[0].machine.partition(';')[0]}" if found else ""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n'
        f'<text x="12" y="22" font-size="15" fill="#1a202c">{title}</text>\n'
        f'<text x="12" y="40" font-size="10" fill="#4a5568">{escape(said)}</text>\n'
    )
    return head + "".join(rows) + "</svg>\n"


def _bar(place: int, figure: Figure, name: str, most: float) -> str:
    y, width = _TOP + place * _ROW, (_WIDTH - _LEFT - 70) * figure.value / most
    colour = _COLOURS[figure.name.split()[0]]
    return (
        f'<text x="{_LEFT - 8}" y="{y + 13}" font-size="11" text-anchor="end" fill="#1a202c">{escape(name)}</text>'
        f'<rect x="{_LEFT}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}" fill="{colour}"/>'
        f'<text x="{_LEFT + width + 6:.1f}" y="{y + 13}" font-size="11" fill="#1a202c">{figure.value:,.0f}</text>\n'
    )
