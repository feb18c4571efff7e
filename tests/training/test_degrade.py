"""The chain from crop to picture: what it does, and that nothing in it gives the label away."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from blurgate.errors import ConfigError, ShapeError
from blurgate.host import get_host
from blurgate.training import compress
from blurgate.training.arrays import normals, on_numpy
from blurgate.training.degrade import Chain, sensor_noise
from blurgate.training.streams import Streams, keys_of


def make(name="random", **options):
    return get_host().registry("synthesizer")[name].factory(**options)


def pictures(n, side, seed=0):
    """Dead leaves of many contrasts and exposures; few touch black or white."""
    rng = np.random.default_rng(seed)
    out = np.empty((n, side, side, 3), np.uint8)
    for image in out:
        low, high = sorted(rng.integers(5, 250, 2))
        low, high = min(low, 120), max(high, 140)
        image[:] = rng.integers(low, high, 3)
        for _ in range(100):
            centre = tuple(int(v) for v in rng.integers(0, side, 2))
            radius = int(side * 0.4 * rng.random() ** 3) + 1
            cv2.circle(image, centre, radius, [int(v) for v in rng.integers(low, high, 3)], -1)
    return out


def to_torch(images):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def from_torch(images):
    return images.numpy().transpose(0, 2, 3, 1)


def area(images):
    return np.stack([cv2.resize(i, (112, 112), interpolation=cv2.INTER_AREA) for i in images])


def blur_only(params):
    """Rows that blur alike and leave noise and compression out."""
    off = dict.fromkeys(("photons", "read_noise", "noise_seed", "codec", "strength"))
    return [{**row, **off} for row in params]


def levels(n):
    return np.linspace(0, 1, n, dtype=np.float32)


# --- what it does ----------------------------------------------------------------------------


@pytest.mark.parametrize("side", [112, 160, 224])
def test_the_clean_twin_is_the_resampled_crop_whatever_happens_to_the_other(side):
    crops = pictures(6, side)
    chain = Chain(make())
    mild = chain.apply(crops, chain.sample(Streams(0, range(6)), np.zeros(6, np.float32)))
    hard = chain.apply(crops, chain.sample(Streams(1, range(6)), np.ones(6, np.float32)))
    assert mild.clean.shape == mild.degraded.shape == (6, 112, 112, 3)
    assert mild.clean.dtype == mild.degraded.dtype == np.uint8
    assert np.array_equal(mild.clean, hard.clean)
    assert np.array_equal(mild.clean, area(crops))


def test_without_noise_and_compression_severity_zero_is_the_clean_twin():
    crops = pictures(8, 224)
    chain = Chain(make(), noise=False, compression=False)
    pair = chain.apply(crops, chain.sample(Streams(0, range(8)), np.zeros(8, np.float32)))
    assert np.array_equal(pair.clean, pair.degraded)


def test_a_share_of_poor_cameras():
    streams = Streams(5, range(400))
    usual = Chain(make()).sample(streams)
    mixed = Chain(make(), harsh=0.3).sample(streams)
    dark = [row["photons"] < 500 for row in mixed]
    coarse = [row != at for row, at in zip(mixed, usual, strict=True)]
    assert 90 < sum(dark) < 150
    assert 130 < sum(coarse) < 260  # dark, or coarse where anything is compressed, or both
    for row, before, is_dark in zip(mixed, usual, dark, strict=True):
        assert row["blur"] == before["blur"]
        assert row["noise_seed"] == before["noise_seed"]
        assert row["codec"] == before["codec"]
        if is_dark:
            assert 30 <= row["photons"] < 500
            assert 0.002 <= row["read_noise"] < 0.01
        else:
            assert (row["photons"], row["read_noise"]) == (before["photons"], before["read_noise"])
        if row["strength"] != before["strength"]:
            low, high = {"jpeg": (8, 30), "h264": (34, 44)}[row["codec"]]
            assert low <= row["strength"] <= high
    compressed = [i for i, row in enumerate(usual) if row["codec"]]
    changed = sum(mixed[i]["strength"] != usual[i]["strength"] for i in compressed)
    assert 0.22 < changed / len(compressed) < 0.38
    with pytest.raises(ConfigError, match=r"harsh is a share from 0 to 1, got 1\.5"):
        Chain(make(), harsh=1.5)


def test_noise_and_compression_do_not_depend_on_the_blur():
    camera = ("photons", "read_noise", "noise_seed", "codec", "strength", "light")

    def drawn(name, severity):
        rows = Chain(make(name)).sample(Streams(0, range(300)), severity)
        return [{key: row[key] for key in camera} for row in rows]

    none = drawn("linear", np.zeros(300, np.float32))
    assert none == drawn("linear", levels(300)) == drawn("random", None)
    assert {row["codec"] for row in none} == {"jpeg", "h264", None}
    quality = [row["strength"] for row in none if row["codec"] == "jpeg"]
    qp = [row["strength"] for row in none if row["codec"] == "h264"]
    assert (min(quality) >= 30, max(quality) <= 95, len(set(quality)) > 40) == (True, True, True)
    assert (min(qp), max(qp)) == (18, 34)
    # Switching a part off moves none of the others.
    quiet = Chain(make("linear"), noise=False).sample(Streams(0, range(300)))
    assert [(r["codec"], r["strength"]) for r in quiet] == [
        (r["codec"], r["strength"]) for r in none
    ]
    assert {row["photons"] for row in quiet} == {None}


def test_an_unblurred_picture_is_noisy_and_compressed_too():
    crops = pictures(16, 224)
    chain = Chain(make())
    params = chain.sample(Streams(0, range(16)), np.zeros(16, np.float32))
    pair = chain.apply(crops, params)
    change = np.abs(pair.clean.astype(float) - pair.degraded).mean((1, 2, 3))
    assert change.min() > 0.05
    assert change.max() < 8


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_picture_belongs_to_its_crop_and_not_to_its_batch(size):
    crops = pictures(70, 64)
    chain = Chain(make())
    streams = Streams(3, range(70))
    whole = chain.sample(streams, levels(70) / 4)
    wanted = chain.apply(crops, whole)
    for at in range(0, 70, size):
        some = Streams(3, np.arange(at, min(at + size, 70)))
        part = chain.sample(some, levels(70)[at : at + size] / 4)
        assert part == whole[at : at + size]
        pair = chain.apply(crops[at : at + size], part)
        assert np.array_equal(pair.degraded, wanted.degraded[at : at + size])
        assert np.array_equal(pair.clean, wanted.clean[at : at + size])
    # Each picture is most like its own clean twin.
    flat = [p.reshape(70, -1) - p.reshape(70, -1).mean(1, keepdims=True) for p in
            (wanted.clean.astype(float), wanted.degraded.astype(float))]  # fmt: skip
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in flat]
    assert ((unit[0] @ unit[1].T).argmax(1) == np.arange(70)).all()


def test_rows_make_the_same_picture_again():
    crops = pictures(5, 150)
    chain = Chain(make())
    params = chain.sample(Streams(0, range(5)))
    again = json.loads(json.dumps(params, allow_nan=False))
    assert again == params
    first, second = chain.apply(crops, params), Chain(make()).apply(crops, again)
    assert np.array_equal(first.degraded, second.degraded)


def test_without_noise_and_compression_the_blur_is_left():
    crops = pictures(5, 112)
    chain = Chain(make(), noise=False, compression=False)
    params = chain.sample(Streams(0, range(5)), levels(5))
    assert params == blur_only(Chain(make()).sample(Streams(0, range(5)), levels(5)))
    wanted = make().apply(crops, [row["blur"] for row in params], px=1)
    assert np.array_equal(chain.apply(crops, params).degraded, wanted)


@pytest.mark.parametrize("side", [90, 112, 200])
def test_torch_agrees(side):
    crops = pictures(8, side)
    chain = Chain(make())
    params = chain.sample(Streams(side, range(8)), levels(8))
    for rows in (blur_only(params), [{**row, "codec": None, "strength": None} for row in params]):
        wanted, got = chain.apply(crops, rows), chain.apply(to_torch(crops), rows)
        assert np.abs(from_torch(got.clean).astype(int) - wanted.clean).max() <= 1
        difference = np.abs(from_torch(got.degraded).astype(int) - wanted.degraded)
        assert difference.max() <= 1
        # OpenCV enlarges bytes with coefficients of 11 bits.
        assert difference.mean() < (0.15 if side < 112 else 0.01)
    # With compression a coefficient may fall on the other side of a rounding.
    wanted, got = chain.apply(crops, params), chain.apply(to_torch(crops), params)
    assert got.degraded.dtype == to_torch(wanted.degraded).dtype
    difference = np.abs(from_torch(got.degraded).astype(int) - wanted.degraded)
    assert difference.mean() < 0.25
    assert (difference > 4).mean() < 0.01


def test_blur_in_codes_when_linear_light_is_switched_off():
    crops = np.zeros((1, 112, 112, 3), np.uint8)
    crops[:, :, ::2] = 255
    for linear, wanted in ((True, 188), (False, 128)):
        chain = Chain(make("linear", angle=0), linear=linear, noise=False, compression=False)
        params = chain.sample(Streams(0, [0]), np.full(1, 0.32, np.float32))
        for got in (
            chain.apply(crops, params).degraded,
            from_torch(chain.apply(to_torch(crops), params).degraded),
        ):
            assert np.abs(got[:, :, 20:92].astype(int) - wanted).max() <= 1


def test_a_margin_brings_in_what_is_really_around_the_crop():
    scene = pictures(1, 312)
    scene[:, :, :100] = 250  # something bright just outside the crop
    scene[:, :, 100:] //= 4
    chain = Chain(make("linear", angle=0), noise=False, compression=False, margin=100)
    params = chain.sample(Streams(0, [0]), np.full(1, 0.6, np.float32))
    pair = chain.apply(scene, params)
    assert np.array_equal(pair.clean[0], scene[0, 100:212, 100:212])
    assert pair.degraded[0, :, 0].mean() > pair.clean[0, :, :30].mean() + 80
    whole = make("linear").apply(scene, [params[0]["blur"]], px=1)
    assert np.array_equal(pair.degraded[0], whole[0, 100:212, 100:212])
    other = from_torch(chain.apply(to_torch(scene), params).degraded)
    assert np.abs(other.astype(int) - pair.degraded).max() <= 1


def test_an_empty_batch():
    chain = Chain(make())
    pair = chain.apply(np.empty((0, 150, 150, 3), np.uint8), [])
    assert pair.degraded.shape == (0, 112, 112, 3)
    pair = chain.apply(to_torch(np.empty((0, 150, 150, 3), np.uint8)), [])
    assert tuple(pair.degraded.shape) == (0, 3, 112, 112)


def test_wrong_input_is_refused():
    chain = Chain(make(), margin=20)
    params = chain.sample(Streams(0, range(2)))
    crops = pictures(2, 64)
    with pytest.raises(ShapeError, match=r"uint8 \(n, s, s, 3\) with n = 2 rows, got float32"):
        chain.apply(crops.astype(np.float32), params)
    with pytest.raises(ShapeError, match=r"got uint8 of \(2, 60, 64, 3\)"):
        chain.apply(crops[:, :60], params)
    with pytest.raises(ShapeError, match=r"n = 2 rows, got uint8 of \(1, 64"):
        chain.apply(crops[:1], params)
    with pytest.raises(ShapeError, match=r"uint8 \(n, 3, s, s\)"):
        chain.apply(to_torch(crops).permute(0, 2, 3, 1), params)
    with pytest.raises(ShapeError, match="40 pixels have no room for margins of 20"):
        chain.apply(crops[:, :40, :40], params)
    with pytest.raises(ConfigError, match="from 0, got -1"):
        Chain(make(), margin=-1)
    mixed = [{**params[0], "light": "srgb"}, params[1]]
    with pytest.raises(ConfigError, match="not both"):
        chain.apply(crops, mixed)


# --- noise and codecs ------------------------------------------------------------------------


@pytest.mark.parametrize(("light", "photons"), [(0.02, 1000), (0.5, 300), (0.9, 5000)])
def test_sensor_noise_has_the_moments_of_poisson_and_gauss(light, photons):
    n = 400_000
    z = normals(on_numpy(), keys_of([1], "sensor"), n)[0]
    got = sensor_noise(np.full(n, light, np.float32), z, photons, 0.002).astype(float)
    rng = np.random.default_rng(0)
    wanted = rng.poisson(light * photons, n) / photons + rng.normal(0, 0.002, n)
    spread = wanted.std()
    assert got.mean() == pytest.approx(wanted.mean(), abs=0.01 * spread)
    assert got.std() == pytest.approx(spread, rel=0.01)
    skew = [(((v - v.mean()) / v.std()) ** 3).mean() for v in (got, wanted)]
    assert skew[0] == pytest.approx(skew[1], abs=0.03)


@pytest.mark.parametrize(
    ("light", "photons", "read_noise"),
    [
        (0.0, 30, 0.002),
        (0.0, 500, 0.0002),
        (0.0005, 30, 0.002),
        (0.002, 100, 0.01),
        (0.01, 30, 0.002),
    ],
)
def test_the_dark_is_as_noisy_as_few_photons_make_it(light, photons, read_noise):
    n = 400_000
    z = normals(on_numpy(), keys_of([2], "sensor"), n)[0]
    # What lies below black is cut off here and there, after the noise.
    got = sensor_noise(np.full(n, light, np.float32), z, photons, read_noise).astype(float)
    rng = np.random.default_rng(0)
    wanted = rng.poisson(light * photons, n) / photons + rng.normal(0, read_noise, n)
    wanted = wanted.clip(0, 1)
    assert got.std() == pytest.approx(wanted.std(), rel=0.2)
    assert got.mean() == pytest.approx(wanted.mean(), abs=0.3 * wanted.std())


@pytest.mark.parametrize("side", [224, 203])
@pytest.mark.parametrize("quality", [30, 60, 95])
def test_the_model_of_jpeg_follows_libjpeg(side, quality):
    # Noise keeps the coefficients away from ties that a picture coded before would have.
    rng = np.random.default_rng(0)
    images = np.clip(pictures(3, side) + rng.normal(0, 2, (3, side, side, 3)), 0, 255)
    images = images.astype(np.uint8)
    wanted = np.stack([compress.compress_image(i, "jpeg", quality) for i in images])
    got = from_torch(compress.compress_batch(to_torch(images), ["jpeg"] * 3, [quality] * 3))
    difference = np.abs(got.astype(int) - wanted)
    loss = np.abs(images.astype(int) - wanted).mean()
    assert difference.mean() < 0.15 * loss
    assert (difference > 3).mean() < 0.01


def test_the_model_of_h264_is_the_same_everywhere_and_loses_with_qp():
    images = pictures(3, 203)
    losses = []
    for qp in (18, 26, 34):
        wanted = np.stack([compress.compress_image(i, "h264", qp) for i in images])
        got = from_torch(compress.compress_batch(to_torch(images), ["h264"] * 3, [qp] * 3))
        difference = np.abs(got.astype(int) - wanted)
        assert (difference > 1).mean() < 1e-3
        losses.append(np.abs(images.astype(int) - wanted).mean())
    assert losses[0] < losses[1] < losses[2]
    grey = np.full((1, 64, 64, 3), 128, np.uint8)
    assert np.array_equal(compress.compress_image(grey[0], "h264", 34), grey[0])


def test_codecs_mix_in_a_batch():
    images = to_torch(pictures(3, 96))
    whole = compress.compress_batch(images, ["jpeg", "h264", "jpeg"], [40, 30, 90])
    for i, (codec, strength) in enumerate((("jpeg", 40), ("h264", 30), ("jpeg", 90))):
        alone = compress.compress_batch(images[i : i + 1], [codec], [strength])
        assert (whole[i].int() - alone[0].int()).abs().max() <= 1


# --- nothing tells the label -----------------------------------------------------------------


def statistics(images):
    """Mean, min, max and a 16-bin histogram of each picture's grey values."""
    grey = images.astype(float).mean(3).reshape(len(images), -1)
    bins = [np.bincount(g.astype(int) // 16, minlength=16) / len(g) for g in grey]
    return np.column_stack([grey.mean(1), grey.min(1), grey.max(1), np.array(bins)])


def ridge(x, y, strength=1.0):
    """Fit standardised linear weights; gives a function of new rows."""
    mean, std = x.mean(0), x.std(0) + 1e-9
    z = (x - mean) / std
    w = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    return lambda new: (new - mean) / std @ w + y.mean()


def told_apart(first, second):
    """Held-out accuracy of a probe that says which of two pictures of a crop is the first."""
    change = statistics(first) - statistics(second)
    sign = np.where(np.arange(len(change)) % 2, 1.0, -1.0)
    x = change * sign[:, None]
    half = len(x) // 2
    return float((np.sign(ridge(x[:half], sign[:half])(x[half:])) == sign[half:]).mean())


class Altered:
    """A synthesizer with something done to what it blurred."""

    def __init__(self, inner, change):
        self.name, self.sample, self._inner, self._change = inner.name, inner.sample, inner, change

    def apply(self, images, params, *, px):
        return self._change(images, self._inner.apply(images, params, px=px), params, px)


def stretched(before, after, params, px):
    """What the original system does: only the blurred picture is stretched to the whole range."""
    low = after.min((1, 2, 3), keepdims=True)
    return (after - low) / (after.max((1, 2, 3), keepdims=True) - low)


def zero_padded(before, after, params, px):
    """Darkness from outside the borders."""
    out = []
    for image, row in zip(before, params, strict=True):
        (kernel,) = make(row["method"]).kernels([row], px)
        flipped = kernel[::-1, ::-1].copy()
        out.append(cv2.filter2D(image, -1, flipped, borderType=cv2.BORDER_CONSTANT))
    return np.stack(out).clip(0, 1)


def darkened(before, after, params, px):
    """A contrast that follows the severity."""
    level = [row.get("length_px", 0) / 100 + row.get("sigma_px", 0) / 7 for row in params]
    return after * (1 - 0.5 * np.array(level, np.float32)[:, None, None, None])


def untouched(before, after, params, px):
    """No synthesizer at all."""
    return before


def by_the_book(before, after, params, px):
    """The same blur, done here from its kernel: mirrored borders, and nothing else."""
    out = np.empty_like(before)
    for i, row in enumerate(params):
        (kernel,) = make(row["method"]).kernels([row], px)
        r, side = len(kernel) // 2, before.shape[1]
        padded = np.pad(before[i], ((r, r), (r, r), (0, 0)), mode="symmetric")
        size = (side + 2 * r,) * 2
        spectrum = np.fft.rfft2(kernel, size)[:, :, None] * np.fft.rfft2(padded, size, axes=(0, 1))
        out[i] = np.fft.irfft2(spectrum, size, axes=(0, 1))[2 * r :, 2 * r :]
    return out.clip(0, 1)


PROBED = 180
CROPS = pictures(PROBED, 112, seed=8)
CHANCE = (0.34, 0.66)  # 90 held-out pairs: three standard deviations around a half


def photographed(synthesizer, severity, seed, crops=CROPS):
    """Take the probe's crops: the camera is drawn by `seed`, the blur is always the same."""
    chain = Chain(synthesizer)
    rows = chain.sample(Streams(seed, range(PROBED)))
    blur = synthesizer.sample(Streams(99, range(PROBED)), severity)
    rows = [{**row, "blur": b} for row, b in zip(rows, blur, strict=True)]
    return chain.apply(crops, rows).degraded


def test_the_blur_branch_leaves_no_trace_at_severity_zero():
    zero = np.zeros(PROBED, np.float32)
    without = photographed(Altered(make(), untouched), zero, seed=1)
    accuracy = told_apart(photographed(make(), zero, seed=2), without)
    assert CHANCE[0] < accuracy < CHANCE[1]
    # The probe is able to see it: the original's stretching.
    assert told_apart(photographed(Altered(make(), stretched), zero, seed=2), without) > 0.9


@pytest.mark.shared
def test_the_blur_branch_leaves_no_trace_on_faces(shared):
    files = sorted((shared / "data" / "faces_train" / "generated").glob("*.jpg"))
    files = files[:: len(files) // PROBED][:PROBED]
    faces = area([cv2.imread(str(file)) for file in files])
    zero, some = np.zeros(PROBED, np.float32), np.full(PROBED, 0.1, np.float32)
    bare = photographed(Altered(make(), untouched), zero, 1, faces)
    assert CHANCE[0] < told_apart(photographed(make(), zero, 2, faces), bare) < CHANCE[1]
    kernels = make(weights={"deblurgan": 1, "linear": 1, "defocus": 1, "gaussian": 1})
    bare = photographed(Altered(kernels, by_the_book), some, 1, faces)
    assert CHANCE[0] < told_apart(photographed(kernels, some, 2, faces), bare) < CHANCE[1]
    assert told_apart(photographed(Altered(kernels, stretched), some, 2, faces), bare) > 0.8


@pytest.mark.parametrize("severity", [0.08, 0.3])
def test_a_blurred_picture_differs_by_its_blur_only(severity):
    # Degree-matched pairs: the same crop and the same kernel, once through the chain and once
    # through a bare convolution; the camera is drawn afresh for both.
    mix = make(weights={"deblurgan": 1, "linear": 1, "defocus": 1, "gaussian": 1})
    level = np.full(PROBED, severity, np.float32)
    bare = photographed(Altered(mix, by_the_book), level, seed=1)
    accuracy = told_apart(photographed(mix, level, seed=2), bare)
    assert CHANCE[0] < accuracy < CHANCE[1]
    assert told_apart(photographed(Altered(mix, stretched), level, seed=2), bare) > 0.9
    assert told_apart(photographed(Altered(mix, zero_padded), level, seed=2), bare) > 0.8


def test_statistics_foretell_the_severity_no_better_than_blur_alone():
    mix = make(weights={"linear": 1, "gaussian": 1})
    severity = Streams(5, range(PROBED)).uniform("severity").astype(np.float32)
    halves = [np.arange(PROBED) % 2 == i for i in (0, 1)]

    def skill(images):  # from the change against the clean twin: contents differ more than blurs
        x, guess = statistics(images) - statistics(CROPS), np.empty(PROBED)
        for seen, rest in (halves, halves[::-1]):
            guess[rest] = ridge(x[seen], severity[seen], 30.0)(x[rest])
        return np.corrcoef(guess, severity)[0, 1]

    chain = Chain(mix, noise=False, compression=False)
    alone = chain.apply(CROPS, blur_only(chain.sample(Streams(99, range(PROBED)), severity)))
    chained = photographed(mix, severity, seed=2)
    assert skill(chained) < skill(alone.degraded) + 0.25
    assert skill(photographed(Altered(mix, darkened), severity, seed=2)) > skill(chained) + 0.25
