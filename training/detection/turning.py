"""Turning a face out of the plane: profiles and bent heads from frontal photos.

Portraits look at the camera, people in a street do not, and a detector that has seen portraits only
misses the others. A face is put on a head made of three ellipsoids (skull, nose, and mouth with
chin) as a texture seen from the front, the head is turned, and what is then seen of it is drawn
over the photo. One shape for all heads was shown to be enough by Hassner et al. (Effective Face
Frontalization in Unconstrained Images, CVPR 2015); turning photos away from the camera to train on
is the face profiling of Zhu et al. (Face Alignment Across Large Poses, CVPR 2016), who fit a
morphable model for it, which needs data that may not be passed on.

What was not seen of a head is filled from its rim. Nothing here says where box and landmarks of a
turned face are: that is for a teacher to tell, as for any photo (`scripts/turn_faces.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from blurgate.types import check_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.types import F32, U8

_SKULL: Final = (0.54, 0.66, 0.64)
"""Half axes: across and in depth as shares of the box's width, upwards as one of its height."""
_LIFT: Final = 0.06  # of the height: the skull's centre lies above that of the box
_NOSE: Final = (0.10, 0.17, 0.17)
_CHIN: Final = (0.20, 0.20, 0.20)
_RIM: Final = 0.97  # of the skull's half axes: further out a photo shows the background
_HIDDEN: Final = 0.35  # how fast the texture of the unseen half runs back from the rim
_REACH: Final = 1.6  # box sizes around the face that are drawn anew


@dataclass(frozen=True, slots=True)
class _Ellipsoid:
    centre: NDArray[np.float64]
    half: NDArray[np.float64]

    def depth(self, points: NDArray[np.float64], sight: NDArray[np.float64]) -> Any:
        """How far towards the camera it reaches on each line of sight; -inf where it is missed.

        Args:
            points: (h, w, 3), one point of each line.
            sight: (3,), the direction towards the camera.
        """
        start, along = (points - self.centre) / self.half, sight / self.half
        a, b = float(along @ along), start @ along
        under = b**2 - a * ((start**2).sum(axis=-1) - 1)
        root = np.sqrt(np.maximum(under, 0))
        return np.where(under > 0, (root - b) / a, -np.inf)


def turned(image: U8, box: F32, kps: F32, *, yaw: float, pitch: float) -> U8:
    """Give a photo in which one face looks elsewhere.

    Args:
        image: (h, w, 3) uint8 BGR.
        box: (4,) xyxy of the face, roughly frontal; what it already turns is added to.
        kps: (5, 2) its landmarks.
        yaw: Degrees around the head's own vertical axis; above 0 the nose goes to the right of
            the picture.
        pitch: Degrees around the axis through the ears; above 0 the face looks down.

    Returns:
        (h, w, 3) uint8 BGR. The photo beside the head is unchanged.

    Raises:
        ShapeError: The picture is no such array.
    """
    check_array("image", image, (None, None, 3), "uint8")
    h, w = image.shape[:2]
    width, height = (box[2:] - box[:2]).astype(np.float64)
    eyes = (kps[1] - kps[0]).astype(np.float64)
    right = eyes / max(float(np.linalg.norm(eyes)), 1e-6)
    axes = np.stack([right, np.array([-right[1], right[0]])], axis=1)  # columns: right, down
    centre = (box[:2] + box[2:]).astype(np.float64) / 2 - axes[:, 1] * _LIFT * height
    size = np.array([width, height, width])
    parts = _head(size, (kps - centre) @ axes)

    reach = _REACH * max(width, height) / 2
    x1, y1 = (max(int(v), 0) for v in np.floor(centre - reach))
    x2, y2 = (int(v) for v in np.minimum(np.ceil(centre + reach), (w, h)))
    ys, xs = np.mgrid[y1:y2, x1:x2].astype(np.float64)
    flat = (np.stack([xs, ys], axis=-1) - centre) @ axes
    model = _rotation(yaw, pitch)
    points = np.concatenate([flat, np.zeros_like(flat[..., :1])], axis=-1) @ model
    sight = model[2]
    depth = np.stack([part.depth(points, sight) for part in parts]).max(axis=0)
    hit = np.isfinite(depth)
    at = points + np.where(hit, depth, 0)[..., None] * sight
    source = _seen_from_front(at, parts[0].half[:2]) @ axes.T + centre
    across, down = (np.ascontiguousarray(source[..., i], np.float32) for i in (0, 1))
    head = cv2.remap(image, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(hit.astype(np.float32), (0, 0), max(0.015 * width, 0.7))
    share = np.clip(2 * soft - 1, 0, 1)[..., None]
    out = image.copy()
    window = out[y1:y2, x1:x2]
    window[:] = np.rint(window * (1 - share) + head * share)
    return out


def _head(size: NDArray[np.float64], kps: NDArray[np.float64]) -> list[_Ellipsoid]:
    """Model a head by its landmarks (5, 2), in pixels right of and below its centre."""
    half = np.array(_SKULL) * size

    def placed(x: float, y: float, sunk: float, shares: tuple[float, ...]) -> _Ellipsoid:
        above = max(1 - (x / half[0]) ** 2 - (y / half[1]) ** 2, 0.05)
        z = half[2] * math.sqrt(above) - sunk * size[0]
        return _Ellipsoid(np.array([x, y, z]), np.array(shares) * size)

    nose, mouth = kps[2], kps[3:].mean(axis=0)
    return [
        _Ellipsoid(np.zeros(3), half),
        placed(float(nose[0]), float(nose[1]) - 0.05 * size[1], 0.03, _NOSE),
        placed(float(mouth[0]), float(mouth[1]) + 0.08 * size[1], 0.13, _CHIN),
    ]


def _rotation(yaw: float, pitch: float) -> NDArray[np.float64]:
    """Rotation from the head's own axes (right, down, towards the camera) to the camera's."""
    a, b = math.radians(yaw), math.radians(pitch)
    around_y = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    around_x = np.array([[1, 0, 0], [0, math.cos(b), math.sin(b)], [0, -math.sin(b), math.cos(b)]])
    return np.asarray(around_x @ around_y)


def _seen_from_front(at: NDArray[np.float64], half: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say where the photo shows points of the head: (h, w, 3) to (h, w, 2), in its own axes."""
    flat = at[..., :2]
    out = np.linalg.norm(flat / half, axis=-1)
    wanted = np.where(at[..., 2] < 0, _RIM * (1 - (1 - out) * _HIDDEN), np.minimum(out, _RIM))
    ratio = wanted / np.maximum(out, 1e-6)
    return np.asarray(flat * np.where(out > 1e-6, ratio, 1)[..., None])
