"""A report -> a picture of it as SVG: for each threshold the share of false hits with its interval, and of hits."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from gateway.trials.report import Line

_WIDTH: Final = 760
_HEIGHT: Final = 360
_LEFT: Final = 60
_TOP: Final = 60
_PLOT_WIDTH: Final = 660
_PLOT_HEIGHT: Final = 240
_FIRST: Final = 0.5
_FALSE: Final = "#c05621"
_SERVED: Final = "#2b6cb0"
_GREY: Final = "#e2e8f0"
_TEXT: Final = "#4a5568"


def svg(title: str, lines: Sequence[Line], bar: float) -> str:
    """Drawn on one scale, from nothing to all. `bar` is the most false hits that anybody should live with."""
    parts = [*_frame(title), *_bar(bar), *_served(lines), *_false(lines)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _frame(title: str) -> Iterator[str]:
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">'
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
    yield f'<text x="12" y="22" font-size="15" fill="#1a202c">{escape(title)}</text>'
    yield f'<text x="12" y="42" font-size="11" fill="{_FALSE}">of what would be given, wrong, with 95 % interval</text>'
    yield f'<text x="330" y="42" font-size="11" fill="{_SERVED}">of what was asked, would be given</text>'
    for tenth in range(0, 11, 2):
        y, at = _y(tenth / 10), _FIRST + tenth / 20
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _PLOT_WIDTH}" y2="{y:.1f}" stroke="{_GREY}"/>'
        yield _word(_LEFT - 24, y + 4, f"{tenth * 10} %", 10)
        yield _word(_x(at), _TOP + _PLOT_HEIGHT + 18, f"{at:.1f}", 10)
    yield _word(_LEFT + _PLOT_WIDTH / 2, _TOP + _PLOT_HEIGHT + 38, "threshold (cosine)", 11)


def _word(x: float, y: float, text: str, size: int) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="middle" fill="{_TEXT}">{text}</text>'


def _bar(bar: float) -> Iterator[str]:
    y = _y(bar)
    ends = f'x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _PLOT_WIDTH}" y2="{y:.1f}"'
    yield f'<line {ends} stroke="{_FALSE}" stroke-dasharray="4 3"><title>at most {100 * bar:g} %</title></line>'


def _served(lines: Sequence[Line]) -> Iterator[str]:
    points = [(_x(line.threshold), _y(line.served / line.asked)) for line in lines if line.asked]
    if points:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{_SERVED}" stroke-width="1.5"/>'


def _false(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        if line.rate is None or line.low is None or line.high is None:
            continue
        x, told = _x(line.threshold), f"{line.threshold:g}: {line.false} of {line.judged}"
        ends = f'x1="{x:.1f}" y1="{_y(line.low):.1f}" x2="{x:.1f}" y2="{_y(line.high):.1f}"'
        yield f'<line {ends} stroke="{_FALSE}" stroke-width="2"/>'
        yield f'<circle cx="{x:.1f}" cy="{_y(line.rate):.1f}" r="4" fill="{_FALSE}"><title>{told}</title></circle>'


def _x(threshold: float) -> float:
    return _LEFT + _PLOT_WIDTH * (threshold - _FIRST) / (1 - _FIRST)


def _y(share: float) -> float:
    return _TOP + _PLOT_HEIGHT * (1 - share)
