"""Random streams, kernels, convolution and resampling against independent references."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.training import convolve, psf, resample
from blurgate.training.arrays import mix, normals, on_numpy, on_torch
from blurgate.training.streams import Streams, keys_of

NP = on_numpy()


def torch_cpu():
    torch = pytest.importorskip("torch")
    return on_torch(torch.device("cpu"))


@pytest.fixture
def loop(load):
    """The slow loop, one path at a time."""
    return load(Path(__file__).parents[2] / "benchmarks" / "plain_deblurgan.py")


def brute_splat(x, y, weight, radius):
    """Bilinear splat point by point, written without psf.splat."""
    k = 2 * radius + 1
    out = np.zeros((k, k))
    for i in range(k):
        for j in range(k):
            near_x = np.maximum(0, 1 - np.abs(x - (j - radius)))
            near_y = np.maximum(0, 1 - np.abs(y - (i - radius)))
            out[i, j] = (near_x * near_y).sum() * weight
    return out


def shake_rows(n, seed=1, **fixed):
    streams = Streams(seed, range(n))
    columns = {
        "expl": streams.choice("expl", [0.003, 0.001, 0.0003]),
        "centripetal": streams.uniform("c", 0, 0.7).tolist(),
        "shake": streams.uniform("s", 0, 0.2).tolist(),
        "jitter": streams.uniform("j", 0, 10).tolist(),
        "angle_deg": streams.uniform("a", 0, 360).tolist(),
        "seed": streams.seeds("seed"),
        "exposure": streams.choice("e", [0.1, 0.5, 1.0]),
    }
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return [{**row, "path_px": 60 * row["exposure"], **fixed} for row in rows]


# --- streams ---------------------------------------------------------------------------------


def test_streams_belong_to_the_image_and_not_to_the_batch():
    whole = Streams(5, range(100))
    some = Streams(5, [3, 77, 20])
    rows = [3, 77, 20]
    assert np.array_equal(whole.uniform("x")[rows], some.uniform("x"))
    assert np.array_equal(whole[rows].fold("y").normal("z", 0, 1), some.fold("y").normal("z", 0, 1))
    assert [whole.seeds("s")[i] for i in rows] == some.seeds("s")
    assert not np.array_equal(whole.uniform("x"), Streams(6, range(100)).uniform("x"))
    assert not np.array_equal(whole.uniform("x"), whole.uniform("y"))
    assert not np.array_equal(whole.uniform("x"), whole.fold("f").uniform("x"))


def test_streams_are_pinned():
    # A data set is named by its seed: these numbers may not change with a version.
    streams = Streams(2026, [0, 1, 10**6])
    assert streams.uniform("angle").tolist() == [
        0.8099194995851551,
        0.7943931912868053,
        0.23147878652920462,
    ]
    assert streams.seeds("path") == [4842124423956800, 7891657517176561, 3650478416175323]


def test_stream_distributions():
    streams = Streams(1, range(20000))
    u = streams.uniform("u", 2, 5)
    assert u.min() >= 2
    assert u.max() < 5
    assert u.mean() == pytest.approx(3.5, abs=0.03)
    assert u.std() == pytest.approx(3 / math.sqrt(12), abs=0.02)
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.03
    z = streams.normal("z", 50, 20)
    assert (z.mean(), z.std()) == (pytest.approx(50, abs=0.6), pytest.approx(20, abs=0.5))
    picks = streams.choice("c", ["a", "b", "c"], [1, 0, 3])
    assert picks.count("b") == 0
    assert picks.count("c") / 20000 == pytest.approx(0.75, abs=0.015)
    logs = np.log(streams.log_uniform("l", 1, 14))
    assert logs.mean() == pytest.approx(math.log(14) / 2, abs=0.03)
    assert max(streams.seeds("s")) < 2**53
    assert len(set(streams.seeds("s"))) == 20000


def test_mix_is_splitmix64():
    # The first outputs of the published generator seeded with 1234567.
    step = np.uint64(0x9E3779B97F4A7C15)
    state = np.uint64(1234567) + step * np.arange(1, 4, dtype=np.uint64)
    assert mix(state).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_normals_are_normal_and_alike_on_torch():
    keys = keys_of([1, 2, 2**53 - 1], "noise")
    z = normals(NP, keys, 100001)
    assert z.shape == (3, 100001)
    assert z.dtype == np.float32
    for moment, wanted in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert (z.astype(float) ** moment).mean() == pytest.approx(wanted, abs=0.05)
    assert np.array_equal(normals(NP, keys[1:2], 100001)[0], z[1])
    other = normals(torch_cpu(), keys, 100001).numpy()
    assert np.abs(other - z).max() < 2e-5


# --- kernels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [1, 9])
def test_points_are_spread_alike_in_batches_of_any_size(weights):
    rng = np.random.default_rng(8)
    x, y = rng.uniform(-4, 4, (2, 2 * NP.block + 3, 9))
    weight = rng.uniform(0, 1, (len(x), weights))
    kernels = psf.splat(NP, x, y, weight, 4)
    for i, kernel in enumerate(kernels):
        weighed = np.broadcast_to(weight[i], 9)
        slow = sum(brute_splat(*p[:2], p[2], 4) for p in zip(x[i], y[i], weighed, strict=True))
        np.testing.assert_allclose(kernel, slow, rtol=0, atol=1e-12)
    assert len(kernels) == len(x)


LENGTHS = np.array([0, 0.3, 1, 2.5, 7.3, 20, 50.5, 100])
ANGLES = np.deg2rad([0, 30, 90, 45, 133.3, 179.9, 60, 12.5])


def test_lines_match_a_fine_sum_over_the_motion():
    kernels = psf.lines(NP, LENGTHS, ANGLES)
    radius = kernels.shape[1] // 2
    for kernel, length, angle in list(zip(kernels, LENGTHS, ANGLES, strict=True))[:6]:
        along = ((np.arange(20000) + 0.5) / 20000 - 0.5) * length
        reach = int(length / 2) + 1
        fine = brute_splat(along * math.cos(angle), -along * math.sin(angle), 1 / 20000, reach)
        inner = kernel[radius - reach : radius + reach + 1, radius - reach : radius + reach + 1]
        assert np.abs(inner - fine).max() < 1e-7
        assert inner.sum() == pytest.approx(1, abs=1e-12)


def test_lines_have_the_moments_of_a_line():
    kernels = psf.lines(NP, LENGTHS, ANGLES)
    offset = np.arange(kernels.shape[1]) - kernels.shape[1] // 2
    for kernel, length, angle in zip(kernels, LENGTHS, ANGLES, strict=True):
        assert kernel.sum() == pytest.approx(1, abs=1e-12)
        assert np.abs(kernel - kernel[::-1, ::-1]).max() < 1e-12
        # y points down in the picture: a line that rises to the right has a negative moment.
        mixed = (kernel * np.outer(offset, offset)).sum()
        assert mixed == pytest.approx(
            -(length**2) / 12 * math.sin(angle) * math.cos(angle), abs=0.02 * length + 1e-9
        )


def test_a_short_line_already_blurs():
    (kernel,) = psf.lines(NP, np.array([0.4]), np.array([0.0]))
    assert kernel[1].tolist() == pytest.approx([0.05, 0.9, 0.05])


@pytest.mark.parametrize("blades", [0, 3, 5, 6, 9])
@pytest.mark.parametrize("radius", [0.7, 2.0, 5.3])
def test_apertures_match_64_by_64_samples_a_pixel(radius, blades):
    rotation = 0.0 if blades == 3 else 0.37
    (kernel,) = psf.apertures(NP, np.array([radius]), [blades], np.array([rotation]))
    half = len(kernel) // 2
    fine = (np.arange(len(kernel) * 64) + 0.5) / 64 - half - 0.5
    x, y = np.meshgrid(fine, fine)
    if blades == 0:
        inside = x * x + y * y <= radius * radius
    else:
        inner = radius * math.sqrt(math.pi / (blades * math.tan(math.pi / blades)))
        turns = [rotation + 2 * math.pi * i / blades for i in range(blades)]
        inside = np.all([x * math.cos(t) + y * math.sin(t) <= inner for t in turns], axis=0)
    n = len(kernel)
    share = inside.reshape(n, 64, n, 64).mean((1, 3))
    assert kernel.sum() == pytest.approx(math.pi * radius**2, rel=1e-9)
    # The samples stand for areas of 1/4096: an edge that runs along them is off by up to 1/128.
    assert np.abs(kernel - share).max() < 0.8 / 64
    assert np.abs(kernel - share).mean() < 1e-3


def test_gaussians_are_integrals_over_pixels():
    sigma = np.array([0, 0.4, 1.7, 6.0])
    kernels = psf.gaussians(NP, sigma)
    offset = np.arange(kernels.shape[1]) - kernels.shape[1] // 2
    fine = (np.arange(-40 * 64, 40 * 64) + 0.5) / 64
    for kernel, s in zip(kernels, sigma, strict=True):
        profile = kernel.sum(0) / kernel.sum()
        if s == 0:
            assert profile.max() == 1
            continue
        bell = np.exp(-0.5 * (fine / s) ** 2)
        pixel = np.array([bell[np.abs(fine - o) < 0.5].sum() for o in offset])
        assert np.abs(profile - pixel / pixel.sum()).max() < 2e-4
        if s > 1:  # Sheppard's correction
            assert (profile * offset**2).sum() == pytest.approx(s * s + 1 / 12, rel=0.01)


@pytest.mark.parametrize("exposure", [0.1, 0.5, 1.0])
def test_shakes_equal_the_plain_loop_fed_with_the_same_draws(loop, exposure):
    (row,) = shake_rows(1, seed=int(exposure * 10), exposure=exposure, expl=0.003, shake=0.2)
    # Enough of these turn back: take a seed of which one does within this exposure.
    while not any(step < 200 for step in psf.sudden_turns([row])):
        row["seed"] += 1
    row["path_px"] = 60 * exposure
    noise = normals(NP, keys_of([row["seed"]], "jitter"), 2 * psf.STEPS)[0].astype(float)
    turns = {
        step: math.atan2(sin, cos)
        for step, found in psf.sudden_turns([row]).items()
        for _, cos, sin in found
    }
    path = loop.walk(
        row, lambda t: complex(noise[t], noise[psf.STEPS + t]), lambda t, chance: turns.get(t)
    )
    ours = psf.trajectories(NP, [row])[:, :, 0] * (psf.PATH_PX / psf.STEPS)
    theirs = np.array(path[1:])
    assert np.abs(ours[:, 0] + 1j * ours[:, 1] - theirs).max() < 1e-6

    # The plain loop leaves the path where it lies in the canvas; ours goes by its centre of mass.
    last = min(round(exposure * loop.POSITIONS), psf.STEPS)
    canvas = 129
    shift = complex(canvas // 2, canvas // 2) - theirs[:last].mean()
    fractions = [f for f in loop.FRACTIONS if f <= exposure]
    wanted = loop.gather([p + shift for p in path], canvas, fractions)[-1]
    (kernel,) = psf.shakes(NP, [row], 1.0)
    rim = (canvas - len(kernel)) // 2
    assert np.abs(np.pad(kernel, rim) - wanted / wanted.sum()).max() < 1e-6


def test_plain_loop_places_a_path_inside_its_canvas(loop):
    np.random.seed(4)  # noqa: NPY002
    path = np.array(loop.place(loop.walk(loop.random_settings())))
    assert path.real.min() > 0
    assert path.real.max() < 64
    assert path.imag.min() > 0
    assert path.imag.max() < 64
    assert (path[0].real % 1, path[0].imag % 1) == (pytest.approx(0, abs=1e-9),) * 2
    assert np.abs(np.diff(path)) == pytest.approx(60 / 1999)


def test_shakes_are_batch_independent_to_the_bit_and_alike_on_torch():
    rows = shake_rows(40)
    for px in (1.0, 2.0):
        whole = [psf.normalised(k) for k in psf.shakes(NP, rows, px)]
        for n in (1, 7):
            parts = [
                psf.normalised(kernel)
                for at in range(0, 14, n)
                for kernel in psf.shakes(NP, rows[at : at + n], px)
            ]
            assert all(np.array_equal(a, b) for a, b in zip(parts[:14], whole[:14], strict=True))
    other = psf.shakes(torch_cpu(), rows, 1.0).numpy()
    assert np.abs(other - psf.shakes(NP, rows, 1.0)).max() < 1e-4


def test_shakes_have_the_published_step_and_frequency_of_turns():
    rows = shake_rows(300, expl=0.003, shake=0.2)
    found = psf.sudden_turns(rows)
    counts = np.bincount([row for hits in found.values() for row, _, _ in hits], minlength=300)
    chance = 0.2 * 0.003
    assert counts.mean() == pytest.approx(psf.STEPS * chance, rel=0.15)
    assert counts.var() == pytest.approx(psf.STEPS * chance, rel=0.3)  # binomial, nearly Poisson
    steps = np.array([step for step, hits in found.items() for _ in hits])
    assert steps.mean() == pytest.approx(psf.STEPS / 2, rel=0.1)
    cosines = [cos for hits in found.values() for _, cos, _ in hits]
    assert max(cosines) <= math.cos(math.pi - 0.5) + 1e-6
    path = np.moveaxis(psf.trajectories(NP, rows[:20]), 2, 0)
    assert np.hypot(*np.diff(path, axis=1).transpose(2, 0, 1)) == pytest.approx(1, abs=1e-9)


def test_kernels_are_alike_on_torch():
    torch = pytest.importorskip("torch")
    arrays = torch_cpu()
    pairs = [
        (psf.lines, (LENGTHS, ANGLES)),
        (psf.gaussians, (np.array([0, 0.3, 5.0]),)),
        (psf.apertures, (np.array([0, 3, 9.5]), [0, 5, 8], np.array([0, 1, 0.0]))),
    ]
    for make, args in pairs:
        moved = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]
        other = make(arrays, *moved).numpy()
        assert np.abs(other - make(NP, *args)).max() < 1e-9


def test_normalised_cuts_and_sums_to_one():
    kernel = np.zeros((9, 9))
    kernel[4, 5] = kernel[3, 4] = 2
    cut = psf.normalised(kernel)
    assert cut.shape == (3, 3)
    assert cut.dtype == np.float32
    assert cut[1, 2] == cut[0, 1] == 0.5


# --- convolution -----------------------------------------------------------------------------


def direct(image, kernel):
    """Convolution with mirrored borders, pixel by pixel."""
    h, w, _ = image.shape
    r = len(kernel) // 2
    padded = np.pad(image, ((r, r), (r, r), (0, 0)), mode="symmetric")
    out = np.zeros_like(image, dtype=float)
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):
            moved = padded[r - dy : r - dy + h, r - dx : r - dx + w]
            out += kernel[dy + r, dx + r] * moved
    return out


@pytest.mark.parametrize(("size", "k"), [((20, 17), 5), ((20, 17), 15), ((16, 16), 31)])
def test_convolution_matches_the_definition(size, k):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images = rng.random((5, *size, 3), dtype=np.float32)
    kernels = rng.random((5, k, k), dtype=np.float32)
    kernels[1:3, : k // 2] = 0
    kernels /= kernels.sum((1, 2), keepdims=True)
    batch = convolve.convolve_batch(
        torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(kernels)
    ).numpy()
    for i in range(5):
        wanted = direct(images[i], kernels[i])
        assert np.abs(convolve.convolve_image(images[i], kernels[i]) - wanted).max() < 1e-5
        assert np.abs(batch[i].transpose(1, 2, 0) - wanted).max() < 1e-5


def test_convolution_moves_the_picture_where_the_kernel_has_its_mass():
    image = np.zeros((21, 21, 3), np.float32)
    image[10, 10] = 1
    kernel = np.zeros((13, 13), np.float32)
    kernel[6 + 2, 6 + 5] = 1
    moved = convolve.convolve_image(image, kernel)
    assert moved[12, 15] == pytest.approx(1, abs=1e-6)


def test_the_gpu_path_of_the_convolution():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((3, 3, 30, 26), dtype=np.float32))
    kernels = torch.from_numpy(rng.random((3, 9, 9), dtype=np.float32))
    whole = convolve._through_fft(images, kernels)
    assert (whole - convolve.convolve_batch(images, kernels)).abs().max() < 1e-4


@pytest.mark.parametrize("source", [113, 150, 224, 256, 448])
def test_box_matrix_is_area_averaging(source):
    image = np.random.default_rng(0).random((source, source), dtype=np.float32)
    matrix = convolve.box_matrix(source, 112)
    assert matrix.sum(1) == pytest.approx(1)
    wanted = cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA)
    assert np.abs(matrix @ image @ matrix.T - wanted).max() < 1e-4


def test_box_matrix_enlarges_bilinearly():
    image = np.random.default_rng(0).random((60, 60), dtype=np.float32)
    matrix = convolve.box_matrix(60, 112)
    wanted = cv2.resize(image, (112, 112), interpolation=cv2.INTER_LINEAR)
    assert np.abs(matrix @ image @ matrix.T - wanted).max() < 1e-5


# --- resampling ------------------------------------------------------------------------------


def pair(side, pitch, shift, down, up):
    plans = resample.axis(
        NP, side, np.array([float(pitch)]), np.array([float(shift)]), [down], [up]
    )
    return [plan.matrices(NP)[0] for plan in plans]


@pytest.mark.parametrize("down", resample.FILTERS)
@pytest.mark.parametrize("up", resample.FILTERS)
def test_resampling_keeps_flat_pictures_and_is_the_identity_at_pitch_one(down, up):
    lower, upper = pair(40, 3.7, 1.1, down, up)
    assert lower.sum(1) == pytest.approx(1)
    assert upper.sum(1) == pytest.approx(1)
    lower, upper = pair(40, 1, 0, down, up)
    assert np.abs(upper @ lower - np.eye(40)).max() < 1e-12


def test_down_by_area_is_the_mean_of_blocks_and_up_by_nearest_repeats_them():
    ramp = np.random.default_rng(0).random(40)
    lower, upper = pair(40, 4, 0, "area", "nearest")
    wanted = ramp.reshape(10, 4).mean(1).repeat(4)
    assert upper @ lower @ ramp == pytest.approx(wanted)


@pytest.mark.parametrize("down", ["area", "bicubic", "bilinear"])
@pytest.mark.parametrize("up", ["bicubic", "bilinear"])
def test_resampling_keeps_a_ramp_where_it_was(down, up):
    # No filter and no phase of the coarse grid may move the face.
    ramp = np.arange(120.0)
    lower, upper = pair(120, 5.3, 2.0, down, up)
    assert (upper @ lower @ ramp)[30:90] == pytest.approx(ramp[30:90], abs=0.15)


def test_bicubic_up_is_keys_interpolation():
    # Keys' cubic with a = -1/2 goes through every quadratic.
    _, upper = pair(80, 4, 0, "nearest", "bicubic")
    centre = 4 * (np.arange(upper.shape[1]) - resample._MARGIN) + 1.5
    at = np.arange(80.0)
    assert upper @ centre**2 == pytest.approx(at**2, abs=1e-9)


def test_mirror_continues_beyond_one_reflection():
    assert convolve.mirror(np.array([-7, -1, 0, 2, 3, 5, 6, 11]), 3).tolist() == [
        0, 0, 0, 2, 2, 0, 0, 0,
    ]  # fmt: skip
