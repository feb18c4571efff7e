"""The families that are for evaluation only, against closed forms and independent computations."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from blurgate.errors import UnknownNameError
from blurgate.evaluation import heldout, second_order
from blurgate.evaluation.families import DEFAULT, HELD_OUT, clean_twins, known_families, make_family
from blurgate.host import get_host


def crops(n=3, side=112, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(20, 236, (n, 28, 28, 3), np.uint8)
    return [cv2.resize(p, (side, side), interpolation=cv2.INTER_CUBIC) for p in small]


def dot(side):
    image = np.zeros((side, side, 3), np.uint8)
    image[side // 2, side // 2] = 255
    return image


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_the_disc_is_a_disc(scale):
    kernel = heldout.disc_kernel(8, 0.1, scale)
    radius = 8 * scale
    assert kernel.sum() == pytest.approx(1)
    reach = len(kernel) // 2
    # the mean of x**2 over a disc of radius r is r**2 / 4, and the edge adds sigma**2
    x = np.arange(-reach, reach + 1)
    variance = (kernel.sum(0) * x**2).sum()
    # a pixel's own width adds 1/12
    assert variance == pytest.approx(radius**2 / 4 + 1 / 12 + (0.1 * scale) ** 2, rel=0.01)
    assert kernel[reach, reach] == pytest.approx(1 / (np.pi * radius**2), rel=0.02)


@pytest.mark.parametrize("angle", [-45.0, 0.0, 30.0])
def test_the_trail_is_half_a_gaussian_along_its_angle(angle):
    sigma = 8.0
    kernel = heldout.motion_kernel(40, sigma, angle)
    reach = len(kernel) // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    assert kernel.sum() == pytest.approx(1)
    # the mean of a half-normal is sigma * sqrt(2 / pi), its mean square sigma**2
    length = sigma * np.sqrt(2 / np.pi)
    direction = np.cos(np.radians(angle)), -np.sin(np.radians(angle))
    assert (kernel * x).sum() == pytest.approx(length * direction[0], abs=0.15)
    assert (kernel * y).sum() == pytest.approx(length * direction[1], abs=0.15)
    along = x * direction[0] + y * direction[1]
    assert (kernel * along**2).sum() == pytest.approx(sigma**2, rel=0.03)
    across = x * direction[1] - y * direction[0]
    assert (kernel * across**2).sum() < 0.5  # a line, as thin as two pixels


def test_motion_moves_a_dot_along_the_trail():
    picture, params = heldout.motion(dot(225), np.random.default_rng(3), 4)
    y, x = np.nonzero(picture[..., 0])
    assert x.min() == 112  # one-sided
    slope = np.polyfit(x, y, 1)[0]
    assert np.degrees(np.arctan(-slope)) == pytest.approx(params["angle"], abs=2)
    assert -45 <= params["angle"] <= 45


def test_zoom_is_the_mean_of_zoomed_pictures():
    (image,) = crops(1, 96)
    picture, _ = heldout.zoom(image, np.random.default_rng(0), 5)
    # an independent zoom: map coordinates by hand
    factors = np.arange(1, 1.31, 0.03)
    centre = (96 - 1) / 2
    total = image.astype(np.float64)
    for factor in factors:
        at = (np.arange(96) - centre) / factor + centre
        x0 = np.floor(at).astype(int)
        f = at - x0
        x1 = np.minimum(x0 + 1, 95)
        rows = image[x0] * (1 - f)[:, None, None] + image[x1] * f[:, None, None]
        total += rows[:, x0] * (1 - f)[None, :, None] + rows[:, x1] * f[None, :, None]
    np.testing.assert_allclose(picture, total / (len(factors) + 1), atol=1.5)


def test_glass_takes_pixels_from_nearby_only():
    ramp = np.repeat(np.arange(0, 224, dtype=np.uint8)[None, :, None], 224, 0).repeat(3, 2)
    _, reach, rounds = heldout.GLASS[4]
    picture, _ = heldout.glass(ramp, np.random.default_rng(0), 5)
    moved = picture[20:-20, 20:-20, 0].astype(int) - ramp[20:-20, 20:-20, 0]
    assert np.abs(moved).max() <= rounds * (reach + 0.5) + 1
    assert 0.3 < moved.std() < reach * np.sqrt(rounds)
    flat = np.full((112, 112, 3), 90, np.uint8)
    assert (heldout.glass(flat, np.random.default_rng(0), 5)[0] == 90).all()


@pytest.mark.parametrize("name", heldout.CORRUPTIONS)
def test_higher_severities_take_more_detail(name):
    image = crops(1, 160)[0]
    detail = []
    for severity in heldout.SEVERITIES:
        picture, params = heldout.CORRUPTIONS[name](image, np.random.default_rng(7), severity)
        assert picture.shape == image.shape
        assert picture.dtype == np.uint8
        assert (params["method"], params["severity"]) == (name, severity)
        detail.append(cv2.Laplacian(picture, cv2.CV_64F).var())
    assert detail[-1] < detail[0]
    assert abs(float(picture.mean()) - float(image.mean())) < 3


@pytest.mark.parametrize("name", ["c-motion", "c-defocus"])
def test_a_severity_does_the_same_at_any_size(name):
    # blurred at 224 and shrunk, or shrunk and blurred at 112: the same picture
    large = cv2.GaussianBlur(crops(1, 224)[0], (0, 0), 2)
    small = cv2.resize(large, (112, 112), interpolation=cv2.INTER_AREA)
    ways = [
        clean_twins([heldout.CORRUPTIONS[name](image, np.random.default_rng(5), 4)[0]])[0]
        for image in (large, small)
    ]
    error = np.abs(ways[0].astype(int) - ways[1])[8:-8, 8:-8]
    change = np.abs(ways[0].astype(int) - small)[8:-8, 8:-8]
    assert error.mean() < 0.15 * change.mean()


def test_bessel_equals_scipy():
    special = pytest.importorskip("scipy.special")
    x = np.linspace(0, 60, 500)
    np.testing.assert_allclose(second_order.bessel_j1(x), special.j1(x), atol=1e-12)


def test_sinc_is_a_low_pass():
    cutoff = np.pi / 4
    spectrum = np.abs(np.fft.fft2(second_order.sinc_kernel(cutoff, 31), (256, 256)))
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256))) * 2 * np.pi
    assert np.abs(spectrum[f < 0.7 * cutoff] - 1).max() < 0.15
    assert spectrum[(f > 1.3 * cutoff) & (f < np.pi)].max() < 0.15
    assert spectrum[np.abs(f - cutoff) < 0.01].mean() == pytest.approx(0.5, abs=0.05)


def test_kernels_have_their_shapes():
    gaussian = second_order.kernel_of("gaussian", (2.0, 2.0), 0.3, 1.0, 10)
    np.testing.assert_allclose(gaussian, np.outer(*[cv2.getGaussianKernel(21, 2.0)[:, 0]] * 2))
    same = second_order.kernel_of("generalised", (2.0, 2.0), 0.3, 1.0, 10)
    np.testing.assert_allclose(same, gaussian)
    plateau = second_order.kernel_of("plateau", (2.0, 2.0), 0.0, 2.0, 10)
    assert plateau[10, 12] / plateau[10, 10] == pytest.approx(0.5)  # q = 1
    wide = second_order.kernel_of("gaussian", (4.0, 1.0), np.pi / 2, 1.0, 12)
    assert wide.sum(1)[12] < wide.sum(0)[12]  # stretched along y
    assert sum(second_order.KINDS.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", DEFAULT)
def test_a_picture_depends_on_its_index_alone(name):
    batch = crops(3, 128)
    whole = make_family(name, seed=4).make(batch, [5, 6, 7])
    assert whole.pictures.shape == (3, 112, 112, 3)
    one = make_family(name, seed=4).make(batch[1:2], [6])
    np.testing.assert_array_equal(one.pictures[0], whole.pictures[1])
    assert one.params == whole.params[1:2]
    other = make_family(name, seed=5).make(batch[1:2], [6])
    # defocus and zoom have no more to draw than their severity
    if name not in ("c-defocus", "c-zoom"):
        assert not np.array_equal(other.pictures, one.pictures)


def test_distance_shrinks_and_sharp_does_not_blur():
    batch = crops(40, 112)
    far = make_family("distance", seed=1).make(batch, range(40))
    assert 24 <= min(far.sides) < 35
    assert 90 < max(far.sides) <= 112
    still = make_family("sharp", seed=1).make(batch, range(40))
    assert still.sides == [0.0] * 40
    error = np.abs(still.pictures.astype(int) - clean_twins(batch)).mean()
    assert 0 < error < 12  # noise and compression


def test_held_out_families_are_no_synthesizers():
    registry = get_host().registry("synthesizer")
    assert not [name for name in HELD_OUT if name in registry]
    assert all(make_family(name).held_out for name in HELD_OUT)
    assert not any(make_family(name).held_out for name in DEFAULT if name not in HELD_OUT)
    assert set(DEFAULT) <= set(known_families())


def test_unknown_families_name_the_near_ones():
    with pytest.raises(UnknownNameError, match=r"no blur family is called 'c-motio'.*'c-motion'"):
        make_family("c-motio")
