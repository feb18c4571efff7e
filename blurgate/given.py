"""Faces that another program has found: its arrays, checked, as `Detections`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import ShapeError
from blurgate.geometry import ARCFACE_TEMPLATE, similarity
from blurgate.types import F32, Detections, Frame

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_YUNET: Final = 15
_ROWS: Final = (
    "boxes must be (n, 4) x1 y1 x2 y2, (n, 5) with the score behind, or the (n, 15) rows of "
    "OpenCV's FaceDetectorYN"
)
_POINTS: Final = (
    "landmarks must be (n, 5, 2) x y: left eye, right eye, nose, left and right mouth corner as "
    "seen, or (n, 2, 2): the two eyes"
)


def given_faces(
    frame: Frame,
    boxes: ArrayLike | None,
    kps: ArrayLike | None = None,
    scores: ArrayLike | None = None,
) -> Detections:
    """Take over faces that were found elsewhere.

    Args:
        frame: The picture they were found in.
        boxes: (n, 4) x1 y1 x2 y2 in pixels; (n, 5) with the detector's score behind; or the (n, 15)
            rows of OpenCV's FaceDetectorYN, which hold landmarks and score too. None: no faces.
        kps: (n, 5, 2) or (n, 10) x y: left eye, right eye, nose, left and right mouth corner as
            seen in the picture; or (n, 2, 2), the eyes alone, for detectors that find no more: the
            other three are put where the ArcFace template has them, which suits frontal faces. None
            with FaceDetectorYN rows, or where there are no faces.
        scores: (n,) confidences in [0, 1]; without them those of the boxes, or 1.

    Returns:
        The faces in the order in which they were given.

    Raises:
        ShapeError: An array has another shape, or a value is not a finite number.

    >>> import numpy as np
    >>> frame = Frame(np.zeros((99, 99, 3), np.uint8), "", 0, None)
    >>> given_faces(frame, [[10, 10, 60, 70]], [[[20, 30], [50, 30]]]).kps.round().astype(int)[0, 2]
    array([35, 47])
    """
    rows = _array(boxes, _ROWS)
    if not rows.ndim:
        raise ShapeError(f"{_ROWS}; got one number")
    n = len(rows)
    if not n:
        empty = np.empty((0, 5, 2), np.float32)
        return Detections(frame, empty[:, :4, 0], empty[:, 0, 0], empty)
    if rows.ndim != 2 or rows.shape[1] not in (4, 5, _YUNET):
        raise ShapeError(f"{_ROWS}; got {rows.shape}")
    found = np.ones(n, np.float32) if rows.shape[1] == 4 else rows[:, -1]
    if rows.shape[1] == _YUNET:
        if kps is not None:
            raise ShapeError("rows of FaceDetectorYN hold their landmarks; give no others")
        # Its "right eye" is the person's, so the order is ours: left to right as seen.
        points = rows[:, 4:14].reshape(n, 5, 2)
        rows = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    else:
        points = _points(_array(kps, _POINTS), n)
    confidence = found if scores is None else _array(scores, "scores must be numbers")
    if confidence.shape != (n,):
        raise ShapeError(f"scores must be one number for each of {n} faces: {confidence.shape}")
    return Detections(
        frame,
        np.ascontiguousarray(rows[:, :4]),
        np.ascontiguousarray(confidence),
        np.ascontiguousarray(points),
    )


def _array(values: Any, wanted: str) -> F32:
    if values is None:
        return np.empty(0, np.float32)
    if hasattr(values, "detach"):  # a tensor; NumPy takes none of a GPU, and no bfloat16
        values = values.detach().cpu().float()
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of tensors in a list
        raise ShapeError(f"{wanted}; got something else: {error}") from error
    if not np.isfinite(array).all():
        raise ShapeError(f"{wanted}; leave out faces with values that are not finite")
    return array


def _points(points: F32, n: int) -> F32:
    if not points.size:
        raise ShapeError(f"{_POINTS}; got none. Leave the boxes out to let the gate detect")
    if points.shape == (n, 10):
        points = points.reshape(n, 5, 2)
    if points.shape == (n, 2, 2):
        matrix = similarity(np.broadcast_to(ARCFACE_TEMPLATE[:2], points.shape), points)
        turned = ARCFACE_TEMPLATE @ matrix[:, :, :2].transpose(0, 2, 1) + matrix[:, None, :, 2]
        points = turned.astype(np.float32)
    if points.shape != (n, 5, 2):
        raise ShapeError(f"{_POINTS}; got {points.shape} for {n} boxes")
    return points
