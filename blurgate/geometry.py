"""Boxes, canvases and the ArcFace alignment: pure functions of arrays.

Points are (x, y) and sizes (h, w) in pixels, boxes x1 y1 x2 y2; the centre of the top-left pixel
is (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from blurgate.errors import ConfigError, ShapeError
from blurgate.profiling import timed
from blurgate.types import CROP_SIZE, F32, F64, U8, Frame, Pixels, check_array

ARCFACE_TEMPLATE: Final[F32] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float32,
)
"""(5, 2) float32: where the five landmarks lie in an aligned crop of 112 x 112 pixels."""
ARCFACE_TEMPLATE.setflags(write=False)

BORDERS: Final = (
    cv2.BORDER_CONSTANT,
    cv2.BORDER_REPLICATE,
    cv2.BORDER_REFLECT,
    cv2.BORDER_REFLECT_101,
)
"""What `align_faces` can put where a crop lies outside the picture; constant is black."""

_WARP_LIMIT: Final = 32_000
"""Longest side in pixels that every supported OpenCV warps (4.x stops at 32,767)."""
_COINCIDENT: Final = 1e-6
"""Points closer to their mean than this many pixels, as a root mean square, have no direction."""
_NMS_BLOCK: Final = 128


def similarity(src: NDArray[Any], dst: NDArray[Any]) -> F64:
    """Fit the similarity transforms that map points onto points with the least squared error.

    A transform is a rotation, one scale and a shift, without reflection (Umeyama, "Least-squares
    estimation of transformation parameters between two point patterns", 1991). In the plane the
    closed form needs no SVD: with points as complex numbers the matrix is one complex factor.

    Points that coincide have no size or direction: the transform then only shifts their mean onto
    the mean of `dst`. It is never NaN.

    Args:
        src: Points to map.
        dst: Where they should go; leading dimensions broadcast against those of `src`.

    Returns:
        Matrices [R | t] with `dst ~ src @ R.T + t`, as OpenCV's warpAffine takes them.

    Raises:
        ShapeError: The shapes do not fit each other, or a coordinate is NaN or infinite.

    Shape:
        src (..., p, 2), dst (..., p, 2) -> (..., 2, 3) float64

    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> bool(np.allclose(similarity(square, 2 * square + 5), [[2, 0, 5], [0, 2, 5]]))
    True
    """
    if src.ndim < 2 or dst.ndim < 2 or src.shape[-1] != 2 or src.shape[-2:] != dst.shape[-2:]:
        raise ShapeError(f"points must be (..., p, 2) twice, got {src.shape} and {dst.shape}")
    if not (np.isfinite(src).all() and np.isfinite(dst).all()):
        raise ShapeError("landmarks must be finite numbers; leave such faces out")
    src, dst = src.astype(np.float64), dst.astype(np.float64)
    src_mean, dst_mean = src.mean(axis=-2), dst.mean(axis=-2)
    s, d = src - src_mean[..., None, :], dst - dst_mean[..., None, :]
    spread = (s**2).sum(axis=(-2, -1))
    coincident = spread < s.shape[-2] * _COINCIDENT**2
    spread = np.where(coincident, 1.0, spread)
    real = np.where(coincident, 1.0, (s * d).sum(axis=(-2, -1)) / spread)
    cross = (s[..., 0] * d[..., 1] - s[..., 1] * d[..., 0]).sum(axis=-1)
    imaginary = np.where(coincident, 0.0, cross / spread)
    turn = np.stack([real, -imaginary, imaginary, real], axis=-1).reshape(*real.shape, 2, 2)
    shift = dst_mean - (turn @ src_mean[..., None])[..., 0]
    return np.concatenate([turn, shift[..., None]], axis=-1)


def align_faces(
    image: U8, kps: F32, *, size: int = CROP_SIZE, border: int = cv2.BORDER_CONSTANT
) -> U8:
    """Cut faces out of a picture, turned and scaled onto the ArcFace template.

    Equals insightface's `norm_crop` at 112 pixels and its multiples. Reflecting borders repeat the
    picture's edge instead where a crop reaches further than the picture's own size beyond it.

    Args:
        image: The picture.
        kps: The five landmarks of each face.
        size: Side of a crop in pixels; the template is scaled with it.
        border: One of `BORDERS`.

    Raises:
        ShapeError: An array has the wrong shape or dtype, the picture is empty, or a landmark is
            NaN or infinite.
        ConfigError: `size` or `border` is not possible.

    Shape:
        image (H, W, 3) uint8, kps (n, 5, 2) float32 -> (n, size, size, 3) uint8; n may be 0
    """
    check_array("image", image, (None, None, 3), "uint8")
    check_array("kps", kps, (None, 5, 2), "float32")
    if image.size == 0:
        raise ShapeError(f"the image has no pixels: {image.shape}")
    if not 1 <= size <= _WARP_LIMIT or border not in BORDERS:
        raise ConfigError(f"cannot align to size {size} with border {border}")
    matrices = similarity(kps, ARCFACE_TEMPLATE * np.float32(size / CROP_SIZE))
    crops: U8 = np.empty((len(kps), size, size, 3), np.uint8)
    for matrix, crop in zip(matrices, crops, strict=True):
        _warp(image, matrix, crop, border)
    return crops


def align_frame(frame: Frame, kps: F32) -> U8:
    """Cut faces out of a frame, making no more of its pixels than they need.

    Gives what `align_faces` gives on the whole picture, up to one grey level in one value of ten
    thousand: OpenCV rounds coordinates differently in a part of a picture than in the whole. Where
    the frame has a coarser picture that a crop does not enlarge, that is taken (`Pixels.view`).

    Args:
        frame: The frame.
        kps: (n, 5, 2) float32, the five landmarks of each face.

    Returns:
        (n, 112, 112, 3) uint8 BGR.
    """
    pixels = frame.pixels
    if not isinstance(pixels, Pixels) or max(frame.size) > _WARP_LIMIT:
        return align_faces(frame.image, kps)
    h, w = frame.size
    crops: U8 = np.empty((len(kps), CROP_SIZE, CROP_SIZE, 3), np.uint8)
    for matrix, crop in zip(similarity(kps, ARCFACE_TEMPLATE), crops, strict=True):
        x1, y1, x2, y2 = _source_box(matrix, CROP_SIZE)
        left, right = _cut(x1, x2, w)
        top, bottom = _cut(y1, y2, h)
        scale = math.hypot(matrix[0, 0], matrix[1, 0])
        with timed("convert"):
            view = pixels.view((left, top, right, bottom), scale)
        shifted = np.empty_like(matrix)
        shifted[:, :2] = matrix[:, :2] * view.step
        shifted[:, 2] = matrix[:, :2] @ view.origin + matrix[:, 2]
        _warp_affine(view.image, shifted, crop, cv2.BORDER_CONSTANT)
    return crops


def _warp(image: U8, matrix: F64, out: U8, border: int) -> None:
    """Warp the part of `image` that `matrix` maps onto the square `out`."""
    h, w = image.shape[:2]
    if max(h, w) <= _WARP_LIMIT and border in (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE):
        _warp_affine(image, matrix, out, border)
        return
    x1, y1, x2, y2 = _source_box(matrix, len(out))
    if x1 < -w or y1 < -h or x2 > 2 * w or y2 > 2 * h:
        # OpenCV walks a reflected coordinate back into the picture one picture length at a time,
        # which takes for ever from far outside.
        border = cv2.BORDER_CONSTANT if border == cv2.BORDER_CONSTANT else cv2.BORDER_REPLICATE
    if max(h, w) > _WARP_LIMIT:
        # Cut at whole pixels, with two to spare for interpolation, so that no result changes: the
        # cut ends where the picture does wherever the crop reaches beyond it.
        left, right = _cut(x1, x2, w)
        top, bottom = _cut(y1, y2, h)
        image = image[top:bottom, left:right]
        matrix = matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ (left, top)
    _warp_affine(image, matrix, out, border)


def _warp_affine(image: U8, matrix: F64, out: U8, border: int) -> None:
    cv2.warpAffine(image, matrix, out.shape[:2], dst=out, borderMode=border, borderValue=0)


def _source_box(matrix: F64, size: int) -> tuple[float, float, float, float]:
    """Bound the pixels that a crop is taken from; infinite where the transform has no inverse."""
    # Plain numbers: for four points NumPy's calls cost more than the sums.
    factor = complex(matrix[0, 0], matrix[1, 0])
    if abs(factor) < 1e-9:
        return -math.inf, -math.inf, math.inf, math.inf
    shift, end = complex(matrix[0, 2], matrix[1, 2]), size - 1
    points = [(z - shift) / factor for z in (0, end, end * 1j, end + end * 1j)]
    x, y = [z.real for z in points], [z.imag for z in points]
    return min(x), min(y), max(x), max(y)


def _cut(low: float, high: float, length: int) -> tuple[int, int]:
    """Clip a span to the picture, never empty and never longer than OpenCV can warp."""
    start = int(min(max(low - 2, 0), length - 1))
    stop = int(min(max(high + 3, start + 1), length))
    return start, min(stop, start + _WARP_LIMIT)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a picture is fitted into a canvas: at the top left, the rest of the canvas black."""

    canvas: tuple[int, int]
    """(h, w) of the canvas in pixels."""
    inner: tuple[int, int]
    """(h, w) of the resized picture within it."""
    scale: tuple[float, float]
    """Canvas pixels per picture pixel, (across, down); divide canvas coordinates (x, y) by it. They
    differ where whole pixels do not allow the picture's exact shape."""


def fit_canvas(size: tuple[int, int], canvas: tuple[int, int]) -> Letterbox:
    """Fit a picture of `size` into a canvas, keeping its shape; small pictures are enlarged.

    Sizes are rounded down as in insightface, so that networks see the same pixels there and here.

    >>> fit_canvas((1080, 1920), (640, 640))
    Letterbox(canvas=(640, 640), inner=(360, 640), scale=(0.3333333333333333, 0.3333333333333333))
    """
    height, width = size
    if height < 1 or width < 1:
        raise ShapeError(f"a picture of {height}x{width} has no pixels")
    ratio = float(height) / width
    if ratio > float(canvas[0]) / canvas[1]:
        inner = canvas[0], max(int(canvas[0] / ratio), 1)
    else:
        inner = max(int(canvas[1] * ratio), 1), canvas[1]
    return Letterbox(canvas, inner, (inner[1] / width, inner[0] / height))


def fit_long_side(size: tuple[int, int], long_side: int, *, multiple: int = 1) -> Letterbox:
    """Fit a picture into the smallest canvas that holds it with its longer side at `long_side`.

    The picture lies in it exactly as in a square canvas of `long_side`.

    Args:
        size: (h, w) of the picture.
        long_side: Its longer side on the canvas, in pixels.
        multiple: Both sides of the canvas are rounded up to multiples of this.

    >>> fit_long_side((1080, 1920), 640, multiple=32).canvas
    (384, 640)
    """
    fitted = fit_canvas(size, (long_side, long_side))
    height, width = (-(-side // multiple) * multiple for side in fitted.inner)
    return replace(fitted, canvas=(height, width))


def shorter_sides(boxes: F32) -> F32:
    """Give the shorter side of each of (n, 4) boxes."""
    sides: F32 = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    return sides


def area(boxes: F32) -> F32:
    """Give the areas of (n, 4) boxes; 0 where a side is negative."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides.prod(axis=1), np.float32)


def covered(boxes: F32, others: F32) -> F32:
    """Give the share of each of (n, 4) boxes that lies on each of (m, 4) others, (n, m)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    return np.asarray(shared / np.maximum(area(boxes), 1e-6)[:, None], np.float32)


def iou(a: F32, b: F32, *, inclusive: bool = False) -> F32:
    """Intersection over union of each box of `a` with each box of `b`.

    Args:
        a: Boxes.
        b: Boxes.
        inclusive: Whether x2 and y2 are the last pixel of a box and not its edge, which makes it
            one pixel larger; the reference implementations of SCRFD and RetinaFace count so.

    Shape:
        a (n, 4) float32, b (m, 4) float32 -> (n, m) float32 in [0, 1], 0 where both are empty

    >>> iou(np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
    [[0.3330000042915344, 0.0]]
    """
    one = np.float32(inclusive)
    area_a = (a[:, 2] - a[:, 0] + one) * (a[:, 3] - a[:, 1] + one)
    area_b = (b[:, 2] - b[:, 0] + one) * (b[:, 3] - b[:, 1] + one)
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    width_height = np.maximum(np.minimum(a[:, None, 2:], b[None, :, 2:]) - corner + one, 0)
    shared = width_height[..., 0] * width_height[..., 1]
    union = area_a[:, None] + area_b[None] - shared
    ratio: F32 = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def nms(boxes: F32, scores: F32, threshold: float, *, inclusive: bool = False) -> NDArray[np.intp]:
    """Greedy non-maximum suppression.

    Args:
        boxes: (n, 4) float32.
        scores: (n,) float32.
        threshold: A box is dropped when its IoU with a better one that stays exceeds this.
        inclusive: See `iou`.

    Returns:
        Indices of the boxes that stay, highest score first; of equal scores the first comes first.

    >>> boxes = np.float32([[0, 0, 9, 9], [1, 0, 10, 9], [20, 0, 29, 9]])
    >>> nms(boxes, np.float32([0.6, 0.9, 0.5]), 0.4).tolist()
    [1, 2]
    """
    waiting = np.argsort(-scores, kind="stable")
    kept = [waiting[:0]]
    while len(waiting):  # in blocks: the matrix of all pairs would grow with the square
        block, waiting = waiting[:_NMS_BLOCK], waiting[_NMS_BLOCK:]
        clashes = iou(boxes[block], boxes[block], inclusive=inclusive) > threshold
        alive = np.ones(len(block), bool)
        for i in range(len(block)):
            if alive[i]:
                alive[i + 1 :] &= ~clashes[i, i + 1 :]
        kept.append(block[alive])
        if len(waiting):
            clashes = iou(boxes[kept[-1]], boxes[waiting], inclusive=inclusive) > threshold
            waiting = waiting[~clashes.any(axis=0)]
    return np.concatenate(kept)
