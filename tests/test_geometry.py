from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blurgate import geometry
from blurgate.errors import ConfigError, ShapeError
from blurgate.geometry import (
    ARCFACE_TEMPLATE,
    align_faces,
    fit_canvas,
    fit_long_side,
    iou,
    nms,
    similarity,
)


def textured(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """A picture with structure at the scale of a crop's pixels, as photographs have."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


def placed(angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray[Any, Any]:
    """The template turned, scaled and shifted into a picture, as (5, 2) float32 landmarks."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    points = ARCFACE_TEMPLATE @ np.array([[cos, sin], [-sin, cos]]) + shift
    return points.astype(np.float32)


def jittered(n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """(n, 5, 2) float32 landmarks of faces of many sizes and angles, no perfect template."""
    rng = np.random.default_rng(seed)
    faces = [
        placed(rng.uniform(-1, 1), rng.uniform(0.3, 3), rng.uniform(20, 200, 2)) for _ in range(n)
    ]
    return (np.stack(faces) + rng.normal(0, 2, (n, 5, 2))).astype(np.float32)


def least_squares(src: np.ndarray[Any, Any], dst: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same fit as a linear system in (a, b, tx, ty), solved by NumPy."""
    rows, values = [], []
    for (x, y), (u, v) in zip(src.astype(float), dst.astype(float), strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


def bilinear(image: np.ndarray[Any, Any], matrix: np.ndarray[Any, Any], size: int) -> Any:
    """Warp in float64, black outside."""
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)))
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    v, u = np.mgrid[:size, :size]
    x, y, _ = np.einsum("ij,jhw->ihw", inverse, np.stack([u, v, np.ones_like(u)]))
    h, w = image.shape[:2]
    x, y = x.clip(-1, w) + 1, y.clip(-1, h) + 1
    x0, y0 = np.floor(x).astype(int).clip(0, w), np.floor(y).astype(int).clip(0, h)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    top = padded[y0, x0] * (1 - fx) + padded[y0, x0 + 1] * fx
    bottom = padded[y0 + 1, x0] * (1 - fx) + padded[y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy


# --- similarity ---


def test_the_fit_equals_a_linear_least_squares_solver() -> None:
    faces = jittered(200)
    expected = np.stack([least_squares(face, ARCFACE_TEMPLATE) for face in faces])
    got = similarity(faces, ARCFACE_TEMPLATE)
    assert got.shape == (200, 2, 3)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


@settings(deadline=None)
@given(
    st.floats(-3.1, 3.1),
    st.floats(0.01, 100),
    st.floats(-5000, 5000),
    st.floats(-5000, 5000),
)
def test_the_fit_undoes_a_known_transform(angle: float, scale: float, x: float, y: float) -> None:
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    known = np.array([[cos, -sin, x], [sin, cos, y]])
    src = ARCFACE_TEMPLATE.astype(np.float64)
    np.testing.assert_allclose(
        similarity(src, src @ known[:, :2].T + known[:, 2]), known, rtol=1e-9, atol=1e-8
    )


def test_a_mirrored_face_is_fitted_without_reflection() -> None:
    mirrored = (ARCFACE_TEMPLATE * [-1, 1]).astype(np.float32)
    matrix = similarity(mirrored, ARCFACE_TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_skimage_agrees() -> None:
    transform = pytest.importorskip("skimage.transform", reason="an independent implementation")
    faces = jittered(50, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases deprecate the method
        for face, got in zip(faces, similarity(faces, ARCFACE_TEMPLATE), strict=True):
            reference = transform.SimilarityTransform()
            reference.estimate(face, ARCFACE_TEMPLATE)
            np.testing.assert_allclose(got, reference.params[:2], rtol=0, atol=2e-4)


@pytest.mark.parametrize("where", [0.0, 17.5, 4000.0, -1e6])
def test_points_that_coincide_are_only_shifted(where: float) -> None:
    face = np.full((5, 2), where, np.float32)
    expected = np.eye(2, 3)
    expected[:, 2] = ARCFACE_TEMPLATE.astype(np.float64).mean(axis=0) - where
    np.testing.assert_allclose(similarity(face, ARCFACE_TEMPLATE), expected, atol=1e-9)


def test_a_degenerate_face_does_not_touch_the_others() -> None:
    faces = jittered(3)
    faces[1] = 5
    got = similarity(faces, ARCFACE_TEMPLATE)
    np.testing.assert_array_equal(got[[0, 2]], similarity(faces[[0, 2]], ARCFACE_TEMPLATE))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_landmarks_that_are_not_numbers_are_refused(bad: float) -> None:
    faces = jittered(3)
    faces[1, 2, 0] = bad
    with pytest.raises(ShapeError, match="landmarks must be finite numbers"):
        similarity(faces, ARCFACE_TEMPLATE)
    with pytest.raises(ShapeError, match="landmarks must be finite numbers"):
        align_faces(textured(50, 50), faces)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (4, 2), (2, 4, 2)])
def test_points_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"points must be \(\.\.\., p, 2\) twice, got"):
        similarity(np.zeros(shape), ARCFACE_TEMPLATE)


def test_the_template_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ARCFACE_TEMPLATE[0, 0] = 0


# --- align_faces ---


def test_crops_equal_a_slow_bilinear_warp() -> None:
    image = textured(300, 400)
    faces = jittered(12, seed=1)  # some reach over the picture's edge
    crops = align_faces(image, faces)
    assert crops.shape == (12, 112, 112, 3)
    assert crops.dtype == np.uint8
    for face, crop in zip(faces, crops, strict=True):
        expected = bilinear(image, least_squares(face, ARCFACE_TEMPLATE), 112)
        error = np.abs(crop - expected)
        # OpenCV 4 interpolates in steps of 1/32 pixel, and treats the half pixel at the edge apart.
        assert np.median(error) < 1
        assert (error > 8).mean() < 0.02


def test_crops_equal_norm_crop() -> None:
    face_align = pytest.importorskip(
        "insightface.utils.face_align", reason="the reference implementation"
    )
    image = textured(720, 1280)
    faces = np.concatenate([jittered(30, seed=2), jittered(30, seed=4) + np.float32([900, 400])])
    crops = align_faces(image, faces)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls a deprecated method of skimage
        expected = np.stack([face_align.norm_crop(image, face) for face in faces])
        double = np.stack([face_align.norm_crop(image, face, image_size=224) for face in faces[:5]])
    difference = np.abs(crops.astype(int) - expected)
    assert (difference > 1).mean() < 1e-4
    assert np.abs(align_faces(image, faces[:5], size=224).astype(int) - double).mean() < 0.01


def test_the_same_face_gives_the_same_crop_wherever_it_is() -> None:
    image = textured(150, 150)
    crop = align_faces(image, placed(0.2, 1.0, (20, 10))[None])
    big = np.zeros((600, 800, 3), np.uint8)
    big[301:451, 502:652] = image
    moved = align_faces(big, placed(0.2, 1.0, (522, 311))[None])
    assert np.abs(crop.astype(int) - moved).max() <= 1


def test_landmarks_land_on_the_template() -> None:
    for angle, scale in [(0, 1.0), (0.7, 2.5), (-2.0, 1.4)]:
        image = np.zeros((600, 600, 3), np.uint8)
        face = placed(angle, scale, (300, 250))
        for x, y in face:
            cv2.circle(
                image, (round(x * 16), round(y * 16)), round(48 * scale), (255,) * 3, -1, shift=4
            )
        crop = align_faces(image, face[None])[0, :, :, 0].astype(float)
        for x, y in ARCFACE_TEMPLATE:
            v, u = np.mgrid[round(y) - 7 : round(y) + 8, round(x) - 7 : round(x) + 8]
            weight = crop[v, u]
            assert abs((u * weight).sum() / weight.sum() - x) < 0.3
            assert abs((v * weight).sum() / weight.sum() - y) < 0.3


@pytest.mark.parametrize("size", [1, 56, 112, 160])
def test_the_template_scales_with_the_crop(size: int) -> None:
    image = textured(300, 300)
    face = placed(0.1, 1.5, (60, 50))[None]
    crop = align_faces(image, face, size=size)
    assert crop.shape == (1, size, size, 3)
    expected = bilinear(image, least_squares(face[0], ARCFACE_TEMPLATE * (size / 112)), size)
    assert np.abs(crop[0] - expected).mean() < 1


def test_no_faces_give_no_crops() -> None:
    assert align_faces(textured(9, 9), np.zeros((0, 5, 2), np.float32)).shape == (0, 112, 112, 3)


def test_a_view_and_a_read_only_picture_are_read() -> None:
    image = textured(200, 300)
    face = placed(0, 1, (30, 40))[None]
    mirrored = np.ascontiguousarray(image[:, ::-1])
    np.testing.assert_array_equal(align_faces(image[:, ::-1], face), align_faces(mirrored, face))
    image.setflags(write=False)
    align_faces(image, face)


@pytest.mark.parametrize("border", geometry.BORDERS)
def test_borders_reach_the_crop(border: int) -> None:
    image = np.full((60, 60, 3), 200, np.uint8)
    crop = align_faces(image, placed(0, 1, (-40, -40))[None], border=border)[0]
    outside = 0 if border == cv2.BORDER_CONSTANT else 200
    assert (crop[:35, :35] == outside).all()  # the picture begins at crop pixel (40, 40)
    assert (crop[45:95, 45:95] == 200).all()


@pytest.mark.parametrize("border", geometry.BORDERS)
@pytest.mark.parametrize("spread", [1e-30, 1e-5, 1.0, 1e5, 1e9, 1e30])
@pytest.mark.parametrize("far", [0.0, -1e5, 1e9, 1e30])
@pytest.mark.timeout(5)  # OpenCV's reflection of a far coordinate takes minutes
def test_absurd_landmarks_give_a_crop_at_once(border: int, spread: float, far: float) -> None:
    face = (ARCFACE_TEMPLATE * spread + far).astype(np.float32)[None]
    assert align_faces(textured(80, 60), face, border=border).shape == (1, 112, 112, 3)


def test_a_face_far_outside_is_black() -> None:
    assert not align_faces(textured(80, 60), placed(0, 1, (1e6, 1e6))[None]).any()


@pytest.mark.parametrize("border", geometry.BORDERS)
def test_pictures_longer_than_opencv_warps_are_cut_first(
    border: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = textured(300, 400, seed=5)
    shifts = [(150, 100), (250, 140), (200, 60)]
    if border in (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE):
        shifts += [(-20, -30), (350, 250), (390, -60), (-90, 100)]
    faces = np.stack([placed(0.3, 0.9, shift) for shift in shifts])
    whole = align_faces(image, faces, border=border)
    cuts: list[tuple[int, ...]] = []
    warp: Callable[..., None] = geometry._warp_affine

    def spy(part: Any, *rest: Any) -> None:
        cuts.append(part.shape)
        warp(part, *rest)

    monkeypatch.setattr(geometry, "_WARP_LIMIT", 200)
    monkeypatch.setattr(geometry, "_warp_affine", spy)
    cut = align_faces(image, faces, border=border)
    assert len(cuts) == len(faces)
    assert max(max(shape[:2]) for shape in cuts) < 160  # the face alone, at its size of 130 pixels
    assert np.abs(cut.astype(int) - whole).max() <= 1


def test_a_picture_of_forty_thousand_columns() -> None:
    strip = np.zeros((120, 40_000, 3), np.uint8)
    image = textured(120, 200)
    strip[:, -200:] = image
    face = placed(0, 0.8, (30, 10))
    moved = face + np.float32([39_800, 0])
    crop, expected = align_faces(strip, moved[None]), align_faces(image, face[None])
    assert np.abs(crop.astype(int) - expected).mean() < 0.5


@pytest.mark.parametrize(
    ("image", "kps", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((1, 5, 2), np.float32), r"image must be uint8"),
        (np.zeros((4, 4, 3)), np.zeros((1, 5, 2), np.float32), r"image must be uint8"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((5, 2), np.float32), r"kps must be float32"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 2), np.float32), r"kps must be float32"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((1, 5, 2), np.float32), "has no pixels"),
    ],
)
def test_wrong_arrays_are_refused(image: Any, kps: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        align_faces(image, kps)


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": 40_000}, {"border": cv2.BORDER_WRAP}, {"border": 99}]
)
def test_impossible_crops_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="cannot align to size"):
        align_faces(textured(9, 9), np.zeros((1, 5, 2), np.float32), **options)


# --- letterbox ---


@pytest.mark.parametrize(
    ("size", "canvas", "inner"),
    [
        ((1080, 1920), (384, 640), (360, 640)),
        ((1920, 1080), (640, 384), (640, 360)),
        ((480, 640), (480, 640), (480, 640)),
        ((512, 512), (640, 640), (640, 640)),
        ((886, 1280), (448, 640), (443, 640)),
        ((667, 1000), (448, 640), (426, 640)),  # 426.88: rounded down as insightface does
        ((1000, 667), (640, 448), (640, 426)),
        ((10, 1), (640, 64), (640, 64)),
        ((1, 5000), (32, 640), (1, 640)),
        ((5000, 1), (640, 32), (640, 1)),
    ],
)
def test_the_canvas_follows_the_picture(
    size: tuple[int, int], canvas: tuple[int, int], inner: tuple[int, int]
) -> None:
    box = fit_long_side(size, 640, multiple=32)
    assert box.canvas == canvas
    assert box.inner == inner
    assert box.scale == (inner[1] / size[1], inner[0] / size[0])


@settings(deadline=None)
@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([33, 96, 192, 640, 1000]))
def test_the_small_canvas_places_the_picture_as_a_square_one_does(
    height: int, width: int, long_side: int
) -> None:
    # Not as it would lie in the small canvas by itself: 39x58 on 64x96 would be 95 wide, not 96.
    box = fit_long_side((height, width), long_side, multiple=32)
    square = fit_canvas((height, width), (long_side, long_side))
    assert (box.inner, box.scale) == (square.inner, square.scale)
    assert all(side % 32 == 0 for side in box.canvas)
    assert all(0 <= c - i < 32 for c, i in zip(box.canvas, box.inner, strict=True))


@pytest.mark.parametrize("size", [(0, 10), (10, 0)])
def test_a_picture_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="has no pixels"):
        fit_canvas(size, (64, 64))


# --- iou and nms ---


def random_boxes(n: int, seed: int, *, whole: bool = False) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (n, 2))], axis=1)
    return (boxes.round() if whole else boxes).astype(np.float32)


def test_overlap_equals_counted_pixels() -> None:
    a, b = random_boxes(25, 1, whole=True), random_boxes(20, 2, whole=True)

    def painted(box: np.ndarray[Any, Any], extra: int) -> np.ndarray[Any, Any]:
        canvas = np.zeros((140, 140), bool)
        x1, y1, x2, y2 = box.astype(int)
        canvas[y1 : y2 + extra, x1 : x2 + extra] = True
        return canvas

    for inclusive in (False, True):
        got = iou(a, b, inclusive=inclusive)
        assert got.shape == (25, 20)
        for i, j in np.ndindex(got.shape):
            one, two = painted(a[i], inclusive), painted(b[j], inclusive)
            assert got[i, j] == pytest.approx((one & two).sum() / (one | two).sum(), abs=1e-6)


def test_empty_boxes_overlap_nothing() -> None:
    empty = np.array([[3, 3, 3, 3]], np.float32)
    assert iou(empty, empty).tolist() == [[0.0]]
    assert iou(empty[:0], empty).shape == (0, 1)


def greedy(boxes: Any, scores: Any, threshold: float, inclusive: bool) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        overlaps = [iou(boxes[[i]], boxes[[j]], inclusive=inclusive)[0, 0] for j in kept]
        if all(overlap <= np.float32(threshold) for overlap in overlaps):
            kept.append(i)
    return kept


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(0, 999), st.floats(0.05, 0.95), st.booleans())
def test_suppression_equals_the_plain_loop(
    n: int, seed: int, threshold: float, inclusive: bool
) -> None:
    boxes = random_boxes(n, seed)
    scores = np.random.default_rng(seed).integers(0, 8, n).astype(np.float32)  # with ties
    assert nms(boxes, scores, threshold, inclusive=inclusive).tolist() == greedy(
        boxes, scores, threshold, inclusive
    )


def test_suppression_is_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = random_boxes(700, 5)
    scores = np.random.default_rng(5).random(700).astype(np.float32)
    monkeypatch.setattr(geometry, "_NMS_BLOCK", 10_000)
    whole = nms(boxes, scores, 0.3).tolist()
    assert 20 < len(whole) < 600
    for block in (1, 7, 128):
        monkeypatch.setattr(geometry, "_NMS_BLOCK", block)
        assert nms(boxes, scores, 0.3).tolist() == whole


def test_a_box_dropped_for_a_better_one_suppresses_nothing() -> None:
    chain = np.array([[0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]], np.float32)
    assert nms(chain, np.array([0.9, 0.8, 0.7], np.float32), 0.4).tolist() == [0, 2]


def test_no_boxes_give_no_indices() -> None:
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.4).tolist() == []
