"""Line charts: points lie where their numbers say."""

from __future__ import annotations

import math
import re

import pytest

from blurgate.report.charts import COLOURS, Chart, Line, lines


def paths(markup, kind):
    return re.findall(rf'<path class="line {kind}" d="([^"]*)"', markup)


def test_points_lie_where_they_should():
    chart = Chart("t", "x", "y", [Line("a", [0, 0.5, 1], [0, 1, 0.25], 0)])
    (outline,) = paths(lines(chart), "s0")
    points = [tuple(map(float, p.split())) for p in re.findall(r"[ML]([\d. ]+)", outline)]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.02)  # the middle is in the middle
    assert (y0 - y2) / (y0 - y1) == pytest.approx(0.25, abs=0.001)
    # the axis is drawn from the top of the y range down to the left end of the x range
    axis = re.search(r'class="axis" d="M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)"', lines(chart))
    left, top, bottom, right = map(float, axis.groups())
    assert (x0, x2) == pytest.approx((left, right))
    assert (y0, y1) == pytest.approx((bottom, top))


def test_what_is_not_finite_breaks_the_line():
    chart = Chart("t", "x", "y", [Line("a", [0, 1, 2, 3], [0.1, math.nan, 0.2, 0.3], 1)], (0, 3))
    (outline,) = paths(lines(chart), "s1")
    assert outline.count("M") == 2
    assert outline.count("L") == 1
    assert "nan" not in lines(chart)


def test_values_outside_the_range_stay_in_the_picture():
    chart = Chart("t", "x", "y", [Line("a", [-1, 2], [5, -5], 2)])
    (outline,) = paths(lines(chart), "s2")
    numbers = [float(v) for v in re.findall(r"[\d.]+", outline)]
    assert min(numbers) >= 0
    assert max(numbers) <= 380


def test_a_free_range_starts_at_zero():
    markup = lines(Chart("t", "x", "y", [Line("a", [0, 1], [0.02, 0.05], 0)], y_range=None))
    ticks = re.findall(r'<text class="y"[^>]*>([^<]*)<', markup)
    assert [float(t) for t in ticks] == [0, 0.02, 0.04]


def test_names_are_text_and_every_line_has_a_key():
    drawn = [Line(f"<b>{i}", [0, 1], [0, 1], i) for i in range(COLOURS + 1)]
    markup = lines(Chart("<i>", "x", "y", [*drawn, Line("true", [0], [0], dashed=True)]))
    assert "<b>" not in markup
    assert "<i>" not in markup
    assert markup.count('class="key"') == COLOURS + 2
    # colours come again, dashed
    assert paths(markup, "s0 dashed")
    assert paths(markup, "plain dashed")
