"""The classical peers: Tenengrad against a direct computation, blurdetect against FFmpeg's own."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from blurgate import blur_degree
from blurgate.errors import EnvironmentLackError, ShapeError
from blurgate.interfaces import Runtime
from blurgate.plugins.scorers import blurdetect, tenengrad
from blurgate.plugins.scorers.measures import half_at


def noise(n=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 112, 112, 3), np.uint8)


def edges(width):
    """A picture of vertical edges that rise and fall over `width` pixels."""
    x = np.arange(112) % 56
    level = np.clip((14 - np.abs(x - 28)) / width + 0.5, 0, 1)
    grey = (40 + 180 * level).astype(np.uint8)
    return np.repeat(np.repeat(grey[None, :, None], 112, 0), 3, 2)


def test_energy_equals_a_direct_computation():
    crop = noise()[0]
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY).astype(np.float64)
    above, here, below = grey[:-2], grey[1:-1], grey[2:]
    gx = sum(w * (r[:, 2:] - r[:, :-2]) for w, r in ((1, above), (2, here), (1, below)))
    down = below - above
    gy = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    expected = (gx**2 + gy**2).mean()
    assert tenengrad.mean_squared_gradient(crop) == pytest.approx(expected, rel=1e-12)


def test_energy_of_a_ramp():
    ramp = np.repeat(np.arange(0, 224, 2, dtype=np.uint8)[None, :, None], 112, 0).repeat(3, 2)
    # 2 codes per pixel, times 8, the sum of the Sobel filter's weights
    assert tenengrad.mean_squared_gradient(ramp) == pytest.approx((2 * 8) ** 2, rel=1e-9)


def test_wider_edges_are_wider():
    widths = blurdetect.edge_widths(np.stack([edges(w) for w in (2, 6, 12)]))
    assert (np.diff(widths) > 1).all()


def test_no_edge_is_degree_one():
    flat = np.full((2, 112, 112, 3), 128, np.uint8)
    assert np.isinf(blurdetect.edge_widths(flat)).all()
    assert blur_degree(flat, model="blurdetect").tolist() == [1.0, 1.0]
    assert blur_degree(flat, model="tenengrad").tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["tenengrad", "blurdetect"])
def test_more_blur_is_a_higher_degree(name):
    face = cv2.GaussianBlur(noise()[0], (0, 0), 2)
    face = cv2.normalize(face, None, 0, 255, cv2.NORM_MINMAX)
    blurred = np.stack([face, *(cv2.GaussianBlur(face, (0, 0), s) for s in (1, 2, 4))])
    degrees = blur_degree(blurred, model=name)
    assert degrees.dtype == np.float32
    assert (np.diff(degrees) > 0).all()
    assert ((degrees >= 0) & (degrees <= 1)).all()


@pytest.mark.parametrize("name", ["tenengrad", "blurdetect"])
def test_a_batch_gives_what_single_crops_give(name):
    crops = np.stack([cv2.GaussianBlur(c, (0, 0), 1 + i) for i, c in enumerate(noise(5))])
    many = blur_degree(crops, model=name)
    for crop, degree in zip(crops, many, strict=True):
        assert blur_degree(crop[None], model=name)[0] == degree
    assert blur_degree(crops[:0], model=name).shape == (0,)


def test_blurdetect_may_be_called_from_several_threads():
    crops = np.stack([cv2.GaussianBlur(c, (0, 0), 1 + i / 4) for i, c in enumerate(noise(24))])
    alone = blurdetect.edge_widths(crops)
    seen = {}

    def work(number):
        seen[number] = blurdetect.edge_widths(crops)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for widths in seen.values():
        np.testing.assert_array_equal(widths, alone)
    assert len(seen) == 4


def test_the_maps_are_half_at_their_middles_and_monotone():
    e = np.float32([0, 1, tenengrad.E0, 1e5, 1e12])
    falling = half_at(tenengrad.E0, tenengrad.P)(e)
    assert falling[0] == 1
    assert falling[2] == pytest.approx(0.5)
    assert (np.diff(falling) < 0).all()
    w = np.float32([0, 1, blurdetect.W0, 30, 1e30, np.inf])
    rising = blurdetect.degree_of_width(w)
    assert rising[[0, 2, 4, 5]] == pytest.approx([0, 0.5, 1, 1])
    assert (np.diff(rising) >= 0).all()


@pytest.mark.parametrize("name", ["tenengrad", "blurdetect"])
def test_wrong_shapes_are_refused(name):
    with pytest.raises(ShapeError, match=r"crops must be uint8 of shape \(n, 112, 112, 3\)"):
        blur_degree(np.zeros((112, 112, 3), np.uint8), model=name)


def test_an_ffmpeg_without_the_filter_is_one_line(monkeypatch):
    monkeypatch.setattr("av.filter.filters_available", {"scale"})
    with pytest.raises(EnvironmentLackError, match="no blurdetect filter"):
        blurdetect._make(None, Runtime())
