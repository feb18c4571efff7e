"""The classical scorer against SciPy-free closed forms and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from blurgate import blur_degree
from blurgate.errors import ShapeError
from blurgate.plugins.scorers.laplacian import V0, P, variance_of_laplacian
from blurgate.plugins.scorers.measures import half_at


def noise(n=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 112, 112, 3), np.uint8)


def test_variance_equals_a_direct_computation():
    crop = noise()[0]
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY).astype(np.float64)
    inner = (
        grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    )
    assert variance_of_laplacian(crop) == pytest.approx(inner.var(), rel=1e-12)


def test_the_border_does_not_count():
    crop = np.full((112, 112, 3), 128, np.uint8)
    crop[0] = 255  # row 0 reaches the inner pixels of row 1 only
    assert variance_of_laplacian(crop) > 0
    flat = np.full((112, 112, 3), 128, np.uint8)
    assert variance_of_laplacian(flat) == 0


def test_the_map_falls_from_one_to_zero_and_is_half_at_v0():
    v = np.float32([0, 1, V0, 100, 1e4, 1e9])
    degrees = half_at(V0, P)(v)
    assert (np.diff(degrees) < 0).all()
    assert degrees[0] == 1
    assert degrees[2] == pytest.approx(0.5)
    assert degrees[3] == pytest.approx(1 / (1 + (100 / V0) ** P), rel=1e-6)


def test_more_blur_is_a_higher_degree():
    crop = noise()[0]
    blurred = [crop, *(cv2.GaussianBlur(crop, (0, 0), s) for s in (1, 2, 4, 8))]
    degrees = blur_degree(np.stack(blurred), model="laplacian")
    assert (np.diff(degrees) > 0).all()


def test_a_batch_gives_what_single_crops_give():
    crops = noise(5)
    many = blur_degree(crops, model="laplacian")
    assert many.dtype == np.float32
    for crop, degree in zip(crops, many, strict=True):
        assert blur_degree(crop[None], model="laplacian")[0] == degree
    assert blur_degree(crops[:0], model="laplacian").shape == (0,)


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"crops must be uint8 of shape \(n, 112, 112, 3\)"):
        blur_degree(np.zeros((112, 112, 3), np.uint8), model="laplacian")
    with pytest.raises(ShapeError, match="got float32"):
        blur_degree(np.zeros((1, 112, 112, 3), np.float32), model="laplacian")
