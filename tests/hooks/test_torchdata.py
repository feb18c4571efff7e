"""Datasets and samplers without blurred faces."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from blurgate import blur_degree
from blurgate.errors import ConfigError, ShapeError
from blurgate.hooks.torchdata import crop_of, measure, skip_blurred, weigh_blurred
from blurgate.io.images import read_image


def crops(n):
    """Each is blurred more than the one before."""
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    return np.stack([cv2.GaussianBlur(noise, (0, 0), 0.1 + i) for i in range(n)])


def test_items_of_every_kind_are_the_same_picture():
    (crop,) = crops(1)
    photo = Image.fromarray(crop[..., ::-1])
    for item in (crop, photo, (photo, 7), [crop], {"image": photo, "label": 1}):
        np.testing.assert_array_equal(crop_of(item), crop)
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(crop[..., ::-1].transpose(2, 0, 1).copy())
    shares = tensor / 255
    for item in (tensor, shares, (shares.half(), 3), shares.bfloat16(), shares.requires_grad_()):
        np.testing.assert_array_equal(crop_of(item), crop)


def test_pictures_of_pillow_are_what_their_files_would_be(tmp_path):
    """Deep greys are scaled and not clipped, and what is transparent is white."""
    grey = crops(1)[0, :, :, 0]
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    see_through = Image.merge("LA", [Image.fromarray(grey), Image.new("L", deep.size, 128)])
    for name, item in (("a.png", deep), ("b.tif", deep.convert("I")), ("c.png", see_through)):
        item.save(tmp_path / name)
        np.testing.assert_array_equal(crop_of(item), read_image(tmp_path / name))
    for item in (deep, deep.convert("I")):
        assert item.mode.startswith("I")
        np.testing.assert_array_equal(crop_of(item), np.dstack([grey] * 3))
        degrees = measure([Image.fromarray(grey), item], model="laplacian")
        assert degrees[0] == degrees[1] < 0.1


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("a.jpg", "cannot find a picture in str; give a function as `crop`"),
        ((), "cannot find a picture in NoneType"),
        (np.zeros((5, 5), np.uint8), r"\(h, w, 3\) uint8 BGR, got uint8 of \(5, 5\)"),
        (np.zeros((5, 5, 3)), "got float64"),
        (np.zeros((0, 5, 3), np.uint8), r"a picture has no pixels: \(0, 5, 3\)"),
        (Image.new("I", (0, 5)), "a picture has no pixels"),
        (Image.new("F", (5, 5)), "mode F has no known range; give a function as `crop`"),
    ],
)
def test_other_items_are_refused(item, message):
    with pytest.raises(ShapeError, match=message):
        crop_of(item)
    with pytest.raises(ShapeError, match=f"item 1: .*{message}"):
        measure([crops(1)[0], item], model="laplacian")


def test_normalised_tensors_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(ShapeError, match="before it is normalised"):
        crop_of(torch.randn(3, 112, 112))


def test_degrees_are_the_gates_in_batches():
    faces = crops(10)
    many = [(face, i) for i in range(15) for face in faces]  # more than two batches
    got = measure(many, model="laplacian")
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.tile(blur_degree(faces, model="laplacian"), 15), rtol=1e-5)
    swapped = measure(many[:3], crop=lambda item: 255 - item[0], model="laplacian")
    np.testing.assert_allclose(swapped, got[:3], atol=1e-3)
    assert measure([], model="laplacian").shape == (0,)


def test_blurred_items_are_skipped():
    pytest.importorskip("torch")
    subset = skip_blurred(["a", "b", "c"], [0.4, 0.41, 0.0], 0.4)
    assert list(subset) == ["a", "c"]
    assert subset.indices == [0, 2]
    # float32, as `measure` gives degrees: 0.4 is 0.4000000059604645 there.
    assert list(skip_blurred(["a"], np.float32([0.4]), 0.4)) == ["a"]


def test_blurred_items_are_drawn_as_rarely_as_their_weight_says():
    torch = pytest.importorskip("torch")
    sampler = weigh_blurred(
        [0.0, 0.5, 1.0], num_samples=50_000, generator=torch.Generator().manual_seed(0)
    )
    shares = np.bincount(list(sampler), minlength=3) / 50_000
    np.testing.assert_allclose(shares, np.array([1, 0.5, 0.05]) / 1.55, atol=0.01)
    assert len(weigh_blurred([0.1, 0.2])) == 2
    loader = torch.utils.data.DataLoader(list("ab"), sampler=weigh_blurred([0.0, 1.0], floor=0))
    assert [batch[0] for batch in loader] == ["a", "a"]


def test_what_cannot_be_is_said():
    with pytest.raises(ShapeError, match="2 degrees for a dataset of 3 items"):
        skip_blurred([1, 2, 3], [0.1, 0.2], 0.4)
    with pytest.raises(ConfigError, match=r"every item is above the threshold 0.4; raise it"):
        skip_blurred([1], [0.9], 0.4)
    with pytest.raises(ConfigError, match="threshold must lie"):
        skip_blurred([1], [0.9], 4)
    for wrong in ([1.5], [[0.5]], [np.nan]):
        with pytest.raises(ShapeError, match=r"numbers in \[0, 1\]"):
            weigh_blurred(wrong)
    with pytest.raises(ConfigError, match="floor must lie"):
        weigh_blurred([0.5], floor=-1)
    with pytest.raises(ConfigError, match="all items weigh 0"):
        weigh_blurred([1.0], floor=0)


def test_without_torch_measuring_works_and_the_rest_says_what_to_do(printed):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['torch.utils'] = None\n"
        "import numpy as np\n"
        "from blurgate.errors import EnvironmentLackError\n"
        "from blurgate.hooks.torchdata import measure, skip_blurred\n"
        "flat = [np.zeros((112, 112, 3), np.uint8)]\n"
        "print(measure(flat, model='laplacian'))\n"
        "try: skip_blurred(flat, [0.1], 0.4)\n"
        "except EnvironmentLackError as error: print(error)\n"
    )
    assert printed(code).splitlines() == [
        "[1.]",
        'this needs torch, which is not installed; run: pip install "blurgate[train]"',
    ]
