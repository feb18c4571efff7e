"""Blur degrees as fields of a FiftyOne dataset, which is not imported: samples are all it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.geometry import iou
from blurgate.io.images import read_image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blurgate.gate import Gate
    from blurgate.types import U8, Verdict

__all__ = ["write_fields"]

_SAME_FACE: Final = 0.4


def write_fields(samples: Iterable[Any], gate: Gate, *, detections: str | None = None) -> int:
    """Write what the gate says into samples.

    Args:
        samples: A FiftyOne dataset or view of pictures; anything whose items have `filepath`,
            `sample[name] = value` and `save()`.
        gate: Finds and scores the faces.
        detections: A field of `Detections`: each that a face of the gate overlaps with an IoU of
            0.4 or more gets `blur_degree` and `blur_decision`; the others get None.

    Every sample gets `blur_degree`, that of its sharpest face or None, and `blur_faces`, how many
    faces the gate found.

    Returns:
        How many samples were written.

    Raises:
        DecodeError: A picture cannot be read.
    """
    count = 0
    for sample in samples:
        image = read_image(sample.filepath)
        verdicts = gate(image)
        # FiftyOne takes the type of a new field from its first value, and cannot from None.
        sample["blur_degree"] = 0.0
        sample["blur_degree"] = min((v.blur_degree for v in verdicts), default=None)
        sample["blur_faces"] = len(verdicts)
        if detections is not None and sample[detections] is not None:
            _write_each(sample[detections].detections, verdicts, image)
        sample.save()
        count += 1
    return count


def _write_each(labels: Iterable[Any], verdicts: list[Verdict], image: U8) -> None:
    found = np.array([v.box for v in verdicts], np.float32).reshape(-1, 4)
    height, width = image.shape[:2]
    size = np.array([width, height, width, height], np.float32)
    for label in labels:
        x, y, w, h = label.bounding_box  # shares of the picture
        shares = iou(np.array([[x, y, x + w, y + h]], np.float32) * size, found)[0]
        best = int(shares.argmax()) if len(shares) else -1
        same = best >= 0 and shares[best] >= _SAME_FACE
        label["blur_degree"] = verdicts[best].blur_degree if same else None
        label["blur_decision"] = verdicts[best].decision if same else None
