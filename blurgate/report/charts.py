"""Line charts as SVG for pages, drawn to be read in light and dark and without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from blurgate.report.page import Html, element, safe, table

COLOURS: Final = 8
"""Colours there are before they come again, dashed otherwise; see `blurgate.report.style`."""
_WIDTH: Final = 380
_HEIGHT: Final = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 26, 40
_ROWS: Final = 120  # of the table below a chart


@dataclass(frozen=True, slots=True)
class Line:
    """One line."""

    name: str
    x: Sequence[float]
    """n numbers; points that are not finite break the line."""
    y: Sequence[float]
    colour: int | None = None
    """Which of the `COLOURS`, from 0; None: black, or white in the dark."""
    dashed: bool = False
    dots: bool = False
    """Mark the points."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over two axes."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] | None = (0.0, 1.0)
    """None: from 0, or the least value if it is below, to a little above the largest."""
    diagonal: bool = False
    """Draw the line on which x and y are equal."""


def lines(chart: Chart, *, legend: bool = True) -> Html:
    """Draw a chart as SVG, with its numbers as a table that folds out."""
    low, high = chart.y_range or _range(chart.lines)
    left, right = chart.x_range
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(x: float) -> float:
        return _LEFT + width * (x - left) / (right - left)

    def up(y: float) -> float:
        return _TOP + height * (1 - (y - low) / (high - low))

    parts = []
    for tick in _ticks(low, high):
        parts.append(f'<path class="grid" d="M{_LEFT} {up(tick):.2f}H{_LEFT + width}"/>')
        parts.append(f'<text class="y" x="{_LEFT - 6}" y="{up(tick):.2f}">{tick:g}</text>')
    for tick in _ticks(left, right):
        parts.append(f'<path class="axis" d="M{across(tick):.2f} {_TOP + height}v4"/>')
        place = f'x="{across(tick):.2f}" y="{_TOP + height + 16}"'
        parts.append(f'<text class="x" {place}>{tick:g}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{_TOP + height}H{_LEFT + width}"/>')
    if chart.diagonal:
        a, b = max(left, low), min(right, high)
        ends = f"M{across(a):.2f} {up(a):.2f}L{across(b):.2f} {up(b):.2f}"
        parts.append(f'<path class="line faint dashed" d="{ends}"/>')
    for line in chart.lines:
        kind = _kind(line)
        points = [
            (across(min(max(x, left), right)), up(min(max(y, low), high)), x, y)
            if math.isfinite(x) and math.isfinite(y)
            else None
            for x, y in zip(line.x, line.y, strict=True)
        ]
        parts.append(f'<path class="line {kind}" d="{_outline(points)}"/>')
        if line.dots:
            for point in filter(None, points):
                about = safe(f"{line.name}: {point[2]:.3g}, {point[3]:.3g}")
                parts.append(
                    f'<circle class="dot {kind}" cx="{point[0]:.2f}" cy="{point[1]:.2f}" r="2.6">'
                    f"<title>{about}</title></circle>"
                )
    middle = f'x="{_LEFT + width / 2}" y="{_HEIGHT - 6}"'
    parts.append(f'<text class="x" {middle}>{safe(chart.x_label)}</text>')
    parts.append(f'<text class="unit" x="0" y="12">{safe(chart.y_label)}</text>')
    svg = Html(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{safe(chart.title)}">{"".join(parts)}</svg>'
    )
    named = [(line.name, line) for line in chart.lines]
    keys = [key(name, line) for name, line in named] if legend and len(named) > 1 else []
    below = [element("p", *keys, class_="keys")] if keys else []
    folded = element("details", element("summary", "numbers"), _numbers(chart))
    title = element("figcaption", chart.title)
    return element("figure", title, svg, *below, folded, class_="chart")


def key(name: str, line: Line) -> Html:
    """Make the entry of a legend."""
    stroke = Html(
        f'<svg viewBox="0 0 22 10" class="key"><path class="line {_kind(line)}" d="M1 5H21"/></svg>'
    )
    return element("span", stroke, name)


def _kind(line: Line) -> str:
    if line.colour is None:
        return "plain dashed" if line.dashed else "plain"
    # Beyond the colours there are, the pattern tells lines apart.
    again = line.dashed != bool(line.colour // COLOURS % 2)
    return f"s{line.colour % COLOURS}" + (" dashed" if again else "")


def _outline(points: Sequence[tuple[float, float, float, float] | None]) -> str:
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
        else:
            parts.append(f"{pen}{point[0]:.2f} {point[1]:.2f}")
            pen = "L"
    return "".join(parts)


def _numbers(chart: Chart) -> Html:
    rows = [
        (line.name, f"{x:.4g}", float(y) if math.isfinite(y) else "")
        for line in chart.lines
        for x, y in _thinned(list(zip(line.x, line.y, strict=True)), len(chart.lines))
    ]
    return table(("line", chart.x_label, chart.y_label), rows)


def _thinned(points: Sequence[tuple[float, float]], n_lines: int) -> Sequence[tuple[float, float]]:
    """Leave points out where there are more than anybody reads; the figures' data are in JSON."""
    step = max(1, -(-len(points) * n_lines // _ROWS))
    return points[::step]


def _range(drawn: Sequence[Line]) -> tuple[float, float]:
    values = [y for line in drawn for y in line.y if math.isfinite(y)]
    low, high = min([0.0, *values]), max([*values, 1e-9])
    return low, high + 0.06 * (high - low)


def _ticks(low: float, high: float) -> list[float]:
    """Give three to six round numbers between two: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]
