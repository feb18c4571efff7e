"""The contract of synthesizers, run over every registered name, and what each one promises."""

from __future__ import annotations

import json
from itertools import pairwise

import cv2
import numpy as np
import pytest

from blurgate.errors import ConfigError, ShapeError, UnknownNameError
from blurgate.host import Host, get_host
from blurgate.training import colour
from blurgate.training.blur import Iterated
from blurgate.training.streams import Streams

NAMES = [entry.name for entry in Host(outside=False).registry("synthesizer")]
KERNELS = ["deblurgan", "defocus", "gaussian", "linear"]


def make(name, **options):
    return get_host().registry("synthesizer")[name].factory(**options)


def pictures(n, side, seed=0):
    """Dead leaves: discs of all sizes that hide each other, with the statistics of photographs."""
    rng = np.random.default_rng(seed)
    out = np.empty((n, side, side, 3), np.uint8)
    for image in out:
        image[:] = rng.integers(40, 200, 3)
        for _ in range(150):
            centre = tuple(int(v) for v in rng.integers(0, side, 2))
            radius = int(side * 0.4 * rng.random() ** 3) + 1
            cv2.circle(image, centre, radius, [int(v) for v in rng.integers(10, 245, 3)], -1)
    return out


def light(n, side, seed=0):
    return colour.to_linear(pictures(n, side, seed))


def to_torch(images):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def from_torch(images):
    return images.numpy().transpose(0, 2, 3, 1)


def energy(images):
    """Mean squared gradient."""
    images = images.astype(float)
    return (np.diff(images, axis=1) ** 2).mean() + (np.diff(images, axis=2) ** 2).mean()


def levels(n):
    return np.linspace(0, 1, n, dtype=np.float32)


# --- the contract ----------------------------------------------------------------------------


def test_the_promised_names_are_registered():
    assert NAMES == ["deblurgan", "defocus", "gaussian", "linear", "lowres", "random"]
    assert all(make(name).name == name for name in NAMES)


@pytest.mark.parametrize(("side", "times"), [(96, 2), (112, 1), (225, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_torch_agrees_with_numpy(name, side, times):
    synthesizer = Iterated(make(name), times)
    images = light(6, side)
    params = synthesizer.sample(Streams(side, range(6)), levels(6))
    wanted = synthesizer.apply(images, params, px=side / 112)
    got = from_torch(synthesizer.apply(to_torch(images), params, px=side / 112))
    assert got.shape == images.shape
    assert got.dtype == np.float32
    assert np.abs(got - wanted).max() < 1e-4  # 1e-3 is promised


@pytest.mark.parametrize("name", NAMES)
def test_torch_agrees_with_numpy_on_coded_pictures(name):
    synthesizer = make(name)
    images = pictures(6, 112)
    params = synthesizer.sample(Streams(0, range(6)), levels(6))
    wanted = synthesizer.apply(images, params, px=1)
    got = from_torch(synthesizer.apply(to_torch(images), params, px=1))
    assert got.dtype == wanted.dtype == np.uint8
    difference = np.abs(got.astype(int) - wanted)
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_severity_zero_leaves_the_picture_alone(name):
    synthesizer = make(name)
    images = light(12, 112)
    params = synthesizer.sample(Streams(0, range(12)), np.zeros(12, np.float32))
    assert np.abs(synthesizer.apply(images, params, px=1) - images).max() < 1e-5
    coded = pictures(12, 112)
    assert np.array_equal(synthesizer.apply(coded, params, px=1), coded)
    twice = Iterated(synthesizer, 2)
    params = twice.sample(Streams(0, range(12)), np.zeros(12, np.float32))
    assert np.abs(twice.apply(images, params, px=2) - images).max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_more_severity_never_sharpens(name):
    synthesizer = make(name)
    images = light(24, 112, seed=3)
    energies = []
    for level in (0, 0.1, 0.25, 0.5, 0.75, 1):
        severity = np.full(24, level, np.float32)
        params = synthesizer.sample(Streams(9, range(24)), severity)
        energies.append(energy(synthesizer.apply(images, params, px=1)))
    assert all(a > b for a, b in pairwise(energies))
    assert energies[-1] < 0.12 * energies[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_light_is_kept_and_stays_in_range(name):
    synthesizer = make(name)
    images = light(24, 112)
    params = synthesizer.sample(Streams(1, range(24)), levels(24))
    out = synthesizer.apply(images, params, px=1)
    change = out.mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert np.abs(change).max() < 0.03  # what crosses the borders
    assert abs(change.mean()) < 0.003
    assert out.min() >= 0
    assert out.max() <= 1
    assert out.dtype == np.float32
    # A flat picture has nothing to lose: zeros from outside the borders would show here.
    flat = np.full((24, 64, 64, 3), 0.6, np.float32)
    assert np.abs(synthesizer.apply(flat, params, px=64 / 112) - 0.6).max() < 1e-5


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_its_batch(name, times):
    synthesizer = Iterated(make(name), times)
    images = light(64, 48)
    whole = synthesizer.sample(Streams(4, range(64)))
    wanted = synthesizer.apply(images, whole, px=0.5)
    for size in (1, 7, 64):
        got = np.empty_like(images)
        for at in range(0, 64, size):
            index = np.arange(at, min(at + size, 64))
            params = synthesizer.sample(Streams(4, index))
            assert params == [whole[i] for i in index]
            got[index] = synthesizer.apply(images[index], params, px=0.5)
        assert np.array_equal(got, wanted)
    for part in (slice(0, 1), slice(7, 14)):
        got = from_torch(synthesizer.apply(to_torch(images[part]), whole[part], px=0.5))
        assert np.abs(got - wanted[part]).max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_rows_survive_json_exactly_and_name_their_method(name):
    synthesizer = make(name)
    params = synthesizer.sample(Streams(0, range(20)))
    assert json.loads(json.dumps(params, allow_nan=False)) == params
    methods = {row["method"] for row in params}
    assert methods == {name} if name != "random" else methods <= set(NAMES) - {"random"}


@pytest.mark.parametrize("name", NAMES)
def test_severity_moves_nothing_else(name):
    # Calibration asks for the severity that gives a label: the rest of the draw has to stand still.
    synthesizer = make(name)
    one = synthesizer.sample(Streams(0, range(20)), np.full(20, 0.2, np.float32))
    two = synthesizer.sample(Streams(0, range(20)), np.full(20, 0.9, np.float32))
    for a, b in zip(one, two, strict=True):
        changed = [key for key in a if a[key] != b[key]]
        assert len(changed) == 1
        assert b[changed[0]] == pytest.approx(4.5 * a[changed[0]])


@pytest.mark.parametrize("name", NAMES)
def test_blur_is_measured_in_crop_pixels(name):
    # Blurring at 224 px and halving is about the same as halving and blurring at 112 px.
    synthesizer = make(name)
    fine = light(12, 224)
    coarse = np.stack([cv2.resize(i, (112, 112), interpolation=cv2.INTER_AREA) for i in fine])
    params = synthesizer.sample(Streams(0, range(12)), np.full(12, 0.4, np.float32))
    first = synthesizer.apply(fine, params, px=2)
    first = np.stack([cv2.resize(i, (112, 112), interpolation=cv2.INTER_AREA) for i in first])
    second = synthesizer.apply(coarse, params, px=1)
    # lowres: the nearest of other pixels, and the grid's phase is that of another grid.
    share = 0.3 if name in ("lowres", "random") else 0.1
    assert np.abs(first - second).mean() < share * np.abs(second - coarse).mean()


@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_is_refused(name):
    synthesizer = make(name)
    images = light(2, 32)
    params = synthesizer.sample(Streams(0, range(2)))
    with pytest.raises(ShapeError, match="2 rows of parameters for 1 images"):
        synthesizer.apply(images[:1], params, px=1)
    with pytest.raises(ShapeError, match=r"uint8 or float32 \(n, h, w, 3\), got float64"):
        synthesizer.apply(images.astype(float), params, px=1)
    with pytest.raises(ShapeError, match=r"\(n, 3, h, w\), got float32 of \(2, 32, 32, 3\)"):
        synthesizer.apply(to_torch(images).permute(0, 2, 3, 1), params, px=1)
    with pytest.raises(ConfigError, match="working pixels per crop pixel"):
        synthesizer.apply(images, params, px=0)
    for bad in ([0.5], [0.5, 1.1], [-0.1, 0], [float("nan"), 0]):
        with pytest.raises(ShapeError, match=r"severity must be 2 numbers in \[0, 1\]"):
            synthesizer.sample(Streams(0, range(2)), np.array(bad, np.float32))


def test_a_broken_backend_would_be_seen():
    # The comparison above, held against a torch path that correlates instead of convolving.
    synthesizer = make("deblurgan")
    images = light(4, 96)
    params = synthesizer.sample(Streams(0, range(4)), np.full(4, 0.7, np.float32))
    wanted = synthesizer.apply(images, params, px=1)
    turned = synthesizer.apply(images[:, ::-1, ::-1], params, px=1)[:, ::-1, ::-1]
    assert np.abs(turned - wanted).max() > 0.05


# --- each of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("px", [0.7, 1.0, 2.0])
def test_kernels_sum_to_one(name, px):
    synthesizer = make(name)
    params = synthesizer.sample(Streams(0, range(30)), levels(30))
    kernels = synthesizer.kernels(params, px)
    assert kernels.dtype == np.float32
    assert kernels.shape[0] == 30
    assert kernels.shape[1] == kernels.shape[2]
    assert kernels.shape[1] % 2 == 1
    assert np.abs(kernels.sum((1, 2), dtype=float) - 1).max() < 1e-6
    assert kernels.min() >= 0
    # Centred: blur must not move the face.
    offset = np.arange(kernels.shape[1]) - kernels.shape[1] // 2
    assert np.abs((kernels.sum(1) * offset).sum(1)).max() < 0.02
    assert np.abs((kernels.sum(2) * offset).sum(1)).max() < 0.02


def test_linear_draws():
    rows = make("linear").sample(Streams(0, range(4000)))
    length = np.array([row["length_px"] for row in rows])
    angle = np.array([row["angle_deg"] for row in rows])
    assert (length.min() >= 0, length.max() <= 100) == (True, True)
    assert length.mean() == pytest.approx(50, abs=2)
    assert angle.std() == pytest.approx(180 / np.sqrt(12), rel=0.05)
    fixed = make("linear", angle=30, max_length=200).sample(Streams(0, range(100)), levels(100))
    assert {row["angle_deg"] for row in fixed} == {30.0}
    assert fixed[-1]["length_px"] == 200
    normal = make("linear", draw="normal", max_length=200).sample(Streams(0, range(4000)))
    length = np.array([row["length_px"] for row in normal])
    assert (length.mean(), length.std()) == (pytest.approx(100, abs=3), pytest.approx(40, abs=2))


def test_linear_blurs_along_its_angle():
    image = np.zeros((1, 41, 41, 3), np.float32)
    image[0, 20, 20] = 1
    rising = {"method": "linear", "length_px": 20.0, "angle_deg": 45.0}
    out = make("linear").apply(image, [rising], px=1)[0, :, :, 0]
    assert out[15, 25] > 0.02  # up and to the right
    assert out[25, 15] > 0.02
    assert out[15, 15] == pytest.approx(0, abs=1e-6)


def test_deblurgan_draws_the_published_settings():
    rows = make("deblurgan").sample(Streams(0, range(3000)))
    assert {row["expl"] for row in rows} == {0.003, 0.001, 0.0007, 0.0005, 0.0003, 0.0001}
    assert {row["exposure"] for row in rows} == {0.1, 0.5, 1.0}
    assert all(row["path_px"] == 60 * row["exposure"] for row in rows)
    for key, top in (("centripetal", 0.7), ("shake", 0.2), ("jitter", 10)):
        values = np.array([row[key] for row in rows])
        assert values.min() >= 0
        assert values.max() <= top
        assert values.mean() == pytest.approx(top / 2, rel=0.05)


def test_lowres_draws_and_small_severities():
    rows = make("lowres").sample(Streams(0, range(3000)))
    assert {row["down"] for row in rows} == {"area", "bicubic", "bilinear", "nearest"}
    assert {row["up"] for row in rows} == {"bicubic", "bilinear", "nearest"}
    factor = np.array([row["factor"] for row in rows])
    assert (factor.min() >= 1, factor.max() <= 14) == (True, True)
    # A sensor finer than the working pixels changes nothing.
    images = light(4, 112)
    synthesizer = make("lowres")
    params = synthesizer.sample(Streams(0, range(4)), np.full(4, 0.07, np.float32))
    assert np.abs(synthesizer.apply(images, params, px=1) - images).max() < 1e-6


def test_random_mixes_by_weight():
    rows = make("random").sample(Streams(0, range(4000)))
    names = [row["method"] for row in rows]
    wanted = {"deblurgan": 0.25, "linear": 0.2, "defocus": 0.15, "gaussian": 0.15, "lowres": 0.25}
    assert {n: names.count(n) / 4000 for n in wanted} == pytest.approx(wanted, abs=0.03)
    only = make("random", weights={"gaussian": 2, "linear": 0})
    assert {row["method"] for row in only.sample(Streams(0, range(50)))} == {"gaussian"}


def test_random_does_what_its_parts_do():
    images = light(30, 64)
    mix = make("random")
    params = mix.sample(Streams(2, range(30)), levels(30))
    out = mix.apply(images, params, px=1)
    for image, row, got in zip(images, params, out, strict=True):
        wanted = make(row["method"]).apply(image[None], [row], px=1)[0]
        assert np.array_equal(got, wanted)


def test_random_refuses_what_it_cannot_mix():
    with pytest.raises(ConfigError, match="other than itself"):
        make("random", weights={"random": 1})
    with pytest.raises(ConfigError, match="0 or more"):
        make("random", weights={"linear": -1})
    with pytest.raises(ConfigError, match="above 0"):
        make("random", weights={"linear": 0})
    with pytest.raises(UnknownNameError, match="did you mean 'gaussian'"):
        make("random", weights={"gausian": 1})
    row = make("linear").sample(Streams(0, [0]))
    with pytest.raises(ShapeError, match="'linear', which is not part of it"):
        make("random", weights={"gaussian": 1}).apply(light(1, 32), row, px=1)


def test_iterating_is_applying_in_turn():
    synthesizer = make("random")
    twice = Iterated(synthesizer, 3)
    images = light(10, 64)
    params = twice.sample(Streams(0, range(10)), levels(10))
    assert all(len(row["steps"]) == 3 for row in params)
    assert params[9]["steps"][0] != params[9]["steps"][1]
    wanted = images
    for i in range(3):
        wanted = synthesizer.apply(wanted, [row["steps"][i] for row in params], px=1)
    assert np.array_equal(twice.apply(images, params, px=1), wanted)
    with pytest.raises(ConfigError, match="0 times"):
        Iterated(synthesizer, 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("linear", {"max_length": 0}, "max_length must be a number above 0"),
        ("linear", {"draw": "even"}, "'uniform' or 'normal', not 'even'"),
        ("defocus", {"max_radius": float("inf")}, "max_radius must be a number above 0"),
        ("defocus", {"blades": (2,)}, "blades must be numbers from 3 to 12, or 0"),
        ("gaussian", {"max_sigma": -1}, "max_sigma must be a number above 0"),
        ("lowres", {"max_factor": 1}, "max_factor - 1 must be a number above 0"),
        ("deblurgan", {"max_path": float("nan")}, "max_path must be a number above 0"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make(name, **options)


def test_coded_pictures_are_blurred_in_linear_light():
    # Half black and half white is half the light, code 188; the mean of the codes would be 128.
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[:, :, ::2] = 255
    row = {"method": "linear", "length_px": 32.0, "angle_deg": 0.0}
    out = make("linear").apply(image, [row], px=1)
    assert np.abs(out[0, :, 20:44].astype(int) - 188).max() <= 1


def test_kernels_larger_than_the_picture():
    images = light(3, 112)
    synthesizer = make("linear", max_length=240.0)
    params = synthesizer.sample(Streams(0, range(3)), np.ones(3, np.float32))
    wanted = synthesizer.apply(images, params, px=1)
    got = from_torch(synthesizer.apply(to_torch(images), params, px=1))
    assert np.abs(got - wanted).max() < 1e-4
    assert wanted.min() >= images.min() - 1e-5


def test_colour_tables():
    codes = np.arange(256, dtype=np.uint8)
    assert np.array_equal(colour.to_srgb(colour.to_linear(codes)), codes)
    assert colour.LINEAR[[0, 255]].tolist() == [0, 1]
    assert colour.LINEAR[188] == pytest.approx(0.5029, abs=1e-4)
    assert np.abs(colour.decode((codes / 255).astype(np.float32)) - colour.LINEAR).max() < 1e-6
    torch = pytest.importorskip("torch")
    other = torch.from_numpy(codes)
    assert np.array_equal(colour.to_srgb(colour.to_linear(other)).numpy(), codes)
