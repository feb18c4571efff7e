"""Error-versus-discard curves against a re-computation by brute force and hand-worked cases."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blurgate.errors import InputError, ShapeError
from blurgate.evaluation.edc import best_edc, edc, pair_degree

COMPARISONS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=25)


def brute(errors, degrees):
    """Points (discarded, error) as exact fractions: what is left below each degree in turn."""
    pairs = list(zip(errors, degrees, strict=True))
    points = {Fraction(0): Fraction(sum(errors), len(pairs))}
    for limit in set(degrees):
        left = [wrong for wrong, degree in pairs if degree < limit]
        share = Fraction(len(pairs) - len(left), len(pairs))
        points[share] = Fraction(sum(left), len(left)) if left else Fraction(0)
    return sorted(points.items())


def brute_area(points, limit):
    """Area below the steps: every interval keeps the error of its left end."""
    area = Fraction(0)
    for i, (share, error) in enumerate(points):
        end = points[i + 1][0] if i + 1 < len(points) else Fraction(1)
        area += error * max(min(end, limit) - share, 0)
    return area


@given(COMPARISONS)
@settings(max_examples=200, deadline=None)
def test_a_curve_is_what_brute_force_gives(comparisons):
    errors, degrees = zip(*comparisons, strict=True)
    curve = edc(errors, degrees)
    points = brute(errors, degrees)
    np.testing.assert_allclose(curve.discard, [float(share) for share, _ in points], atol=1e-12)
    np.testing.assert_allclose(curve.error, [float(error) for _, error in points], atol=1e-12)
    for limit in (Fraction(0), Fraction(1, 5), Fraction(3, 10), Fraction(1)):
        assert curve.pauc(float(limit)) == pytest.approx(float(brute_area(points, limit)))
    half = Fraction(sum(errors), 2 * len(errors))
    reached = [share for share, error in points if share < 1 and error <= half]
    wanted = float(reached[0]) if reached and any(errors) else None
    assert curve.discard_to_halve() == (wanted if wanted is None else pytest.approx(wanted))


@given(COMPARISONS, st.randoms())
@settings(max_examples=100, deadline=None)
def test_properties(comparisons, random):
    errors, degrees = map(np.array, zip(*comparisons, strict=True))
    curve = edc(errors, degrees)
    assert curve.error[0] == curve.start == errors.mean()  # nothing discarded: the plain rate
    assert curve.discard[-1] == 1
    assert curve.error[-1] == 0
    assert (np.diff(curve.discard) > 0).all()
    assert ((curve.error >= 0) & (curve.error <= 1)).all()
    # Neither the order of the comparisons nor a rising map of the degrees matters.
    order = list(range(len(errors)))
    random.shuffle(order)
    other = edc(errors[order], np.exp(degrees[order] / 3.0))
    np.testing.assert_allclose(other.error, curve.error)
    np.testing.assert_allclose(other.discard, curve.discard)
    # Who knows the errors is never beaten, at no share.
    shares = np.linspace(0, 1, 41)
    best = best_edc(errors)
    assert (best.at(shares) <= curve.at(shares) + 1e-12).all()
    assert best.pauc(0.3) <= curve.pauc(0.3) + 1e-12
    np.testing.assert_allclose(curve.at(curve.discard), curve.error)


def test_ties_leave_together():
    #         two of 0.8 leave at once; one of them is an error
    curve = edc([True, False, True, False, False], [0.8, 0.8, 0.5, 0.3, 0.1])
    assert curve.discard.tolist() == [0, 0.4, 0.6, 0.8, 1]
    assert curve.error.tolist() == pytest.approx([2 / 5, 1 / 3, 0, 0, 0])
    # 0.4 * 2/5 up to the first step, then 0.1 * 1/3
    assert curve.pauc(0.5) == pytest.approx(0.4 * 0.4 + 0.1 / 3)
    assert curve.pauc(0.3) == pytest.approx(0.3 * 0.4)  # inside the first group: nobody has left
    assert curve.at([0.39, 0.4, 0.41]).tolist() == pytest.approx([0.4, 1 / 3, 1 / 3])
    assert curve.discard_to_halve() == 0.6


def test_all_equal_degrees_order_nothing():
    curve = edc([True, False, False, True], [0.5] * 4)
    assert curve.discard.tolist() == [0, 1]
    assert curve.error.tolist() == [0.5, 0]
    assert curve.pauc(0.3) == pytest.approx(0.15)
    assert curve.discard_to_halve() is None


def test_no_errors():
    curve = edc([False, False], [0.1, 0.2])
    assert curve.error.tolist() == [0, 0, 0]
    assert curve.pauc(1) == 0
    assert curve.discard_to_halve() is None


def test_one_comparison():
    curve = edc([True], [0.7])
    assert (curve.discard.tolist(), curve.error.tolist()) == ([0, 1], [1, 0])


def test_the_best_possible_curve():
    # 3 of 10 wrong: (0.3 - x) / (1 - x) until x = 0.3
    curve = best_edc([True] * 3 + [False] * 7)
    assert curve.at([0, 0.1, 0.2, 0.3]).tolist() == pytest.approx([0.3, 2 / 9, 1 / 8, 0])


def test_a_pair_is_as_bad_as_its_worse_picture():
    worse = pair_degree(np.float32([0.1, 0.9]), np.float32([0.4, 0.2]))
    np.testing.assert_allclose(worse, [0.4, 0.9], rtol=1e-6)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="at least one comparison"):
        edc([], [])
    with pytest.raises(ShapeError, match=r"errors of \(2,\) and degrees of \(3,\) are not pairs"):
        edc([True, False], [0.1, 0.2, 0.3])
    with pytest.raises(ShapeError, match="not a finite number"):
        edc([True], [float("nan")])
    with pytest.raises(ShapeError, match=r"share in \[0, 1\], got 1.5"):
        edc([True], [0.5]).pauc(1.5)
