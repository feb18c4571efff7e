"""The curves of `blurgate train --viz`."""

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from blurgate.training.labels import Labeller
from blurgate.training.viz import LENGTHS, Curves


@pytest.fixture(scope="module")
def curves(tiny):
    clean = np.stack([tiny.draw(112, i) for i in range(4)])
    return Curves(clean, Labeller(tiny.TinyEmbedder()), seed=2)


def test_true_degrees_begin_at_nothing_and_the_fixed_angle_is_horizontal(curves, tiny):
    for true in curves.true.values():
        assert true.shape == (len(LENGTHS), 4)
        np.testing.assert_allclose(true[0], 0, atol=1e-6)
        assert true[-1].mean() > true[1].mean() > 0
    # A horizontal line of 21 px is a box filter along the rows, away from the borders.
    clean = tiny.draw(112, 0)
    kernel = np.full((1, 21), 1 / 21, np.float32)
    wanted = cv2.filter2D(clean.astype(np.float32), -1, kernel)
    four = list(LENGTHS).index(20)
    got = curves._pictures["fixed angle"][four][0].astype(np.float32)
    inside = np.s_[5:-5, 20:-20]
    assert np.abs(got - wanted)[inside].mean() < 0.6 * np.abs(clean - wanted)[inside].mean()


def test_the_errors_are_those_of_the_mean_curves(curves, tmp_path):
    known = {
        picture.tobytes(): value
        for way, pictures in curves._pictures.items()
        for some, values in zip(pictures, curves.true[way], strict=True)
        for picture, value in zip(some, values, strict=True)
    }

    def right(pictures):
        return np.array([known[picture.tobytes()] for picture in pictures], np.float32)

    errors = curves.draw(right, "right", tmp_path / "a" / "right.png")
    assert max(errors.values()) < 1e-12
    offset = curves.draw(lambda pictures: right(pictures) + 0.1, "off", tmp_path / "off.png")
    assert list(offset.values()) == pytest.approx([0.01, 0.01], abs=1e-6)
    # Errors that cancel over people do not show in the mean curve; the figure shows the spread.
    swing = np.array([0.2, -0.2, 0.2, -0.2])
    cancelled = curves.draw(lambda pictures: right(pictures) + swing, "s", tmp_path / "s.png")
    assert max(cancelled.values()) < 1e-12
    assert cv2.imread(str(tmp_path / "a" / "right.png")).shape[1] > 900
