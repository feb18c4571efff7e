"""The gate inside other people's pipelines.

    from blurgate.hooks import gate_faces

`gate_faces` takes what a detector found and says which faces a recogniser can use. The modules
beside it know one library each, and none of them imports it: `blurgate.hooks.insightface`,
`blurgate.hooks.torchdata` and `blurgate.hooks.fiftyone`. docs/hooks.md has recipes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from blurgate.gate import Gate
    from blurgate.types import U8, Verdict

__all__ = ["gate_faces"]


def gate_faces(
    image: U8,
    boxes: ArrayLike | None,
    kps: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    *,
    threshold: float | None = None,
    review: float = 0.0,
    min_face: float = 0.0,
    model: str | None = None,
    device: str = "auto",
) -> list[Verdict]:
    """Decide about faces that a detector found. No detector of blurgate's is needed.

    Args:
        image: (H, W, 3) uint8 BGR.
        boxes: (n, 4) x1 y1 x2 y2; (n, 5) with the score behind; the (n, 15) rows of OpenCV's
            FaceDetectorYN; or None for no faces, as some detectors say it.
        kps: (n, 5, 2) x y: left eye, right eye, nose, left and right mouth corner as seen; or the
            two eyes alone, (n, 2, 2). None with FaceDetectorYN rows.
        scores: (n,) confidences in [0, 1]; without them those of the boxes, or 1.
        threshold: Blur degree above which a face is rejected; None takes the model's own.
        review: Degrees within this width of the threshold go to review.
        min_face: Faces whose shorter box side is below this many pixels are rejected.
        model: Name or ONNX path of a scorer; None for the default. Kept open for the next call.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        One verdict per face, in the order in which they were given.

    Raises:
        ShapeError: An array has another shape or dtype.
        ModelError: The model is missing or cannot be used.

    >>> import numpy as np
    >>> flat = np.zeros((99, 99, 3), np.uint8)                     # nothing to recognise
    >>> row = [9, 9, 60, 70, 30, 40, 50, 40, 40, 50, 32, 60, 48, 60, 0.9]   # of FaceDetectorYN
    >>> gate_faces(flat, [row], model="laplacian", threshold=0.4)[0].decision
    'reject'
    """
    return _gate(threshold, review, min_face, model, device)(image, boxes, kps, scores)


@lru_cache(maxsize=8)
def _gate(
    threshold: float | None, review: float, min_face: float, model: str | None, device: str
) -> Gate:
    from blurgate.gate import Gate

    return Gate(threshold, review=review, min_face=min_face, scorer=model, device=device)
