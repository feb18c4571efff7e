from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blurgate.assignment import pair_up
from blurgate.errors import ShapeError


def best_by_trying(likeness):
    n, m = likeness.shape
    if n > m:
        return best_by_trying(likeness.T)
    gain = np.maximum(likeness, 0)
    return max(
        sum(gain[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(m), n)
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_no_other_pairing_is_better(n, m, seed):
    rng = np.random.default_rng(seed)
    likeness = np.round(rng.uniform(-0.5, 1, (n, m)), 1)  # ties and forbidden pairs
    pairs = pair_up(likeness)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(likeness[pair] > 0 for pair in pairs)
    assert pairs == sorted(pairs)
    assert sum(likeness[pair] for pair in pairs) == pytest.approx(best_by_trying(likeness))


def test_agrees_with_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    for k in range(200):
        likeness = rng.random(rng.integers(1, 25, 2))
        if k % 2:
            likeness[rng.random(likeness.shape) < 0.6] = 0
        rows, columns = optimize.linear_sum_assignment(likeness, maximize=True)
        got = sum(likeness[pair] for pair in pair_up(likeness))
        assert got == pytest.approx(likeness[rows, columns].sum())


@pytest.mark.parametrize("bad", [np.zeros(3), np.array([[np.nan]]), np.array([[np.inf]])])
def test_bad_input(bad):
    with pytest.raises(ShapeError, match="likeness must be a matrix of finite numbers"):
        pair_up(bad)
