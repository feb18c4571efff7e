"""Even labels by drawing severities, on labels whose curves are known."""

from __future__ import annotations

import numpy as np
import pytest

from blurgate.errors import ConfigError
from blurgate.training import even


def curves(n, rng):
    """Labels that saturate: each face has its own floor, slope and ceiling."""
    ceiling = 0.85 + 0.1 * rng.random(n)
    floor = 0.02 * rng.random(n)
    slope = 4 * np.exp(0.3 * rng.normal(size=n))

    def label(severity):
        rise = 1 - np.exp(-((slope * severity) ** 1.5))
        return floor + (ceiling - floor) * rise

    return label


def counts(labels, curve):
    return np.histogram(labels, even.BINS, (curve.low, curve.high))[0]


@pytest.fixture(scope="module")
def fitted():
    label = curves(64, np.random.default_rng(0))
    return even.fit(np.stack([label(s) for s in even.LADDER], 1).astype(np.float32))


def test_drawn_severities_give_even_labels_on_other_faces(fitted):
    n = 20_000
    label = curves(n, np.random.default_rng(1))
    severity = fitted.severity(even.draws(3, 0, range(n)))
    got = counts(label(severity), fitted)
    plain = counts(label(np.random.default_rng(2).random(n)), fitted)
    # A severity that is drawn evenly gives labels most of which are high.
    assert plain.max() / plain.min() > 10
    assert got.max() / got.min() < 2
    middle = got[1:14]  # below where faces saturate
    assert middle.max() / middle.min() < 1.15
    assert got.sum() > 0.9 * n


@pytest.mark.parametrize("faces", [10, 233, 240, 987])
def test_every_face_has_even_draws_over_few_epochs(faces):
    number = np.tile(np.arange(faces), 6)
    epoch = np.repeat(np.arange(6), faces)
    drawn = even.draws(3, 0, number, epoch).reshape(6, faces)
    assert np.ptp(drawn, axis=0).min() > 0.6
    spread = np.sort(drawn, axis=1) - (np.arange(faces) + 0.5) / faces  # of each epoch's faces
    assert np.abs(spread).max() < 2.5 / faces


def test_the_reach_is_what_the_median_face_reaches(fitted):
    label = curves(64, np.random.default_rng(0))
    assert fitted.low == pytest.approx(np.median(label(0)), abs=1e-6)
    assert fitted.high == pytest.approx(np.median(label(1)), abs=1e-6)
    assert fitted.shares[0] == 0
    assert fitted.shares[-1] == 1
    assert np.all(np.diff(fitted.shares) >= 0)


def test_severities_are_in_range_and_rise_with_the_draw(fitted):
    severity = fitted.severity(np.linspace(0, 1, 1000, endpoint=False))
    assert severity.dtype == np.float32
    assert severity.min() >= 0
    assert severity.max() <= 1
    assert np.all(np.diff(severity) >= 0)


def test_a_method_that_does_nothing_has_a_flat_curve():
    curve = even.fit(np.full((5, len(even.LADDER)), 0.25, np.float32))
    assert curve.low == curve.high == 0.25
    assert curve.severity(np.array([0.0, 0.5])).tolist() == [0.0, 0.5]
    stays = even.selection(np.full(10, 0.25, np.float32), np.arange(10), curve, 0)
    assert stays.all()


def test_a_curve_survives_its_facts(fitted):
    again = even.Curve.of(fitted.facts())
    assert again.facts() == fitted.facts()
    for broken in ({}, None, {**fitted.facts(), "shares": [0, 0.5, 0.4]}, {"low": "x"}):
        with pytest.raises(ConfigError, match="curve of an even dataset is damaged"):
            even.Curve.of(broken)


def test_draws_fill_the_range_and_belong_to_seed_and_series():
    got = even.draws(0, 0, range(1000))
    assert np.histogram(got, 20, (0, 1))[0].tolist() == pytest.approx([50] * 20, abs=2)
    assert even.draws(0, 0, [7])[0] == got[7]
    assert even.draws(1, 0, [7])[0] != got[7]
    assert even.draws(0, 1, [7])[0] != got[7]


def test_the_selection_cuts_what_stands_out_and_nothing_else(fitted):
    rng = np.random.default_rng(0)
    low, width = fitted.low, (fitted.high - fitted.low) / even.BINS
    wanted = np.full(even.BINS, 100)
    wanted[3], wanted[17] = 300, 90
    at = np.repeat(np.arange(even.BINS), wanted)
    labels = (low + (at + rng.random(len(at))) * width).astype(np.float32)
    labels = np.append(labels, np.full(400, 0.999, np.float32))  # beyond what most reach
    labels = np.append(labels, np.full(5, max(low - 1e-3, 0), np.float32))
    index = rng.permutation(len(labels)) * 3
    stays = even.selection(labels, index, fitted, 0)
    got = counts(labels[stays], fitted)
    assert got.tolist() == [90] * even.BINS
    assert (labels[stays] > 0.998).sum() == 90
    assert stays[-5:].all()
    # The same rows, whatever their order; others for another seed.
    turned = even.selection(labels[::-1], index[::-1], fitted, 0)[::-1]
    assert np.array_equal(turned, stays)
    assert not np.array_equal(even.selection(labels, index, fitted, 1), stays)


def test_one_poor_bin_does_not_cost_the_others(fitted):
    low, width = fitted.low, (fitted.high - fitted.low) / even.BINS
    at = np.repeat(np.arange(even.BINS), [100] * 19 + [1])
    labels = (low + (at + 0.5) * width).astype(np.float32)
    stays = even.selection(labels, np.arange(len(labels)), fitted, 0)
    level = int(np.ceil(0.8 * len(labels) / even.BINS))
    assert counts(labels[stays], fitted).tolist() == [level] * 19 + [1]


def test_more_pictures_earn_more_curves():
    assert [even.n_tracks(n) for n in (1, 1000, 100_000)] == [16, 31, 128]
