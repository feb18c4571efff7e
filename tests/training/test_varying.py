from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')

import torch

from blurgate.training.config import TrainConfig
from blurgate.training.varying import varied


def vary(pictures, seed=0, **what):
    """Vary (n, h, w, 3) uint8 arrays."""
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    config = TrainConfig(**{"flip": False, **what})
    got = varied(tensor, config, torch.Generator().manual_seed(seed))
    return got.permute(0, 2, 3, 1).numpy()


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (200, 12, 14, 3), np.uint8)


def moved(picture, down, right):
    """Move a picture, its border repeated."""
    most = max(abs(down), abs(right))
    wide = np.pad(picture, ((most, most), (most, most), (0, 0)), "edge")
    h, w = picture.shape[:2]
    return wide[most - down : most - down + h, most - right : most - right + w]


def test_nothing_is_varied_without_being_asked(pictures):
    np.testing.assert_array_equal(vary(pictures), pictures)


def test_pictures_move_by_whole_pixels_each_its_own_way(pictures):
    got = vary(pictures, shift=2)
    assert got.dtype == np.uint8
    ways = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    seen = set()
    for before, after in zip(pictures, got, strict=True):
        fitting = [way for way in ways if np.array_equal(moved(before, *way), after)]
        assert len(fitting) == 1
        seen.update(fitting)
    assert seen == set(ways)


def test_tones_change_and_what_is_brighter_stays_brighter():
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, None, :, None], (300, 1, 1, 3))
    got = vary(ramp, tone=0.4)[:, 0]
    assert (got.min(), got.max()) == (0, 255)
    assert (np.diff(got, axis=1) >= 0).all()
    # Grey is tinted by factors of at most e^(2 x 0.3 x 0.4) between two channels.
    dark = got[:, 60]
    ratios = dark.max(1) / dark.min(1)
    assert 1.2 < ratios.max() <= np.exp(0.24) + 1e-4
    assert 1 <= ratios.min() < 1.02
    # Brightness goes both ways, and by nothing in the mean.
    middle = got[:, 128].mean(1)
    assert middle.min() < 100 < 150 < middle.max()
    assert middle.mean() == pytest.approx(128, abs=6)


def test_colours_fade_and_deepen():
    red = np.full((300, 2, 2, 3), (60, 60, 160), np.uint8)
    got = vary(red, tone=0.2)[:, 0, 0]
    spread = (got[:, 2] - got[:, 0]) / got.mean(1)
    plain = 100 / (280 / 3)
    assert spread.min() < 0.8 * plain < 1.2 * plain < spread.max()


def test_what_is_drawn_depends_on_the_generator_alone(pictures):
    what = {"flip": True, "shift": 3, "tone": 0.3}
    first = vary(pictures, **what)
    np.testing.assert_array_equal(first, vary(pictures, **what))
    assert not np.array_equal(first, vary(pictures, seed=1, **what))
    # Mirroring is drawn first, so that runs from before the others came are what they were.
    mirrored = vary(pictures, flip=True)
    np.testing.assert_array_equal(vary(mirrored, shift=0), mirrored)
    drawn = torch.rand(len(pictures), generator=torch.Generator().manual_seed(0)) < 0.5
    for before, after, turned in zip(pictures, mirrored, drawn, strict=True):
        np.testing.assert_array_equal(after, before[:, ::-1] if turned else before)
