"""Pictures of what a detector got wrong, for a person to look at."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from blurgate.evaluation.detection import IOUS, LEAST_PX, Found, Truth
from blurgate.evaluation.detection_ap import match
from blurgate.geometry import shorter_sides

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.types import F32, U8

COLOURS: Final = {
    "found": (90, 200, 60),
    "missed": (40, 40, 230),
    "false alarm": (0, 215, 255),
    "ignored": (160, 160, 160),
}
"""BGR."""
MOST: Final = 24
"""Pictures that are kept of each detector and set."""
LONG_SIDE: Final = 420
"""Longer side of a picture in pixels."""
_COLUMNS: Final = 4
_CAPTION: Final = 22


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """One drawn picture."""

    weight: int
    """Misses and false alarms in it."""
    order: int
    """Minus its position in the set: of equal ones the first is kept."""
    caption: str = field(compare=False)
    drawn: U8 = field(compare=False)


class Gallery:
    """Keeps the worst pictures of each detector, drawn."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Failure]] = {}
        self._seen: dict[str, int] = {}

    def add(self, detector: str, image: U8, truth: Truth, found: Found) -> None:
        """Look at a picture; it is drawn if it is among the worst so far."""
        number = self._seen[detector] = self._seen.get(detector, 0) + 1
        matches = match(truth.boxes, truth.ignore, found.boxes, IOUS[0])
        large = shorter_sides(truth.boxes) >= LEAST_PX
        missed = ~matches.found & ~truth.ignore
        wrong = matches.wrong
        weight = int((missed & large).sum()) + int(wrong.sum())
        kept = self._kept.setdefault(detector, [])
        if weight == 0 or (len(kept) == MOST and kept[0] >= Failure(weight, -number, "", _NONE)):
            return
        caption = f"{truth.name}: {int(missed.sum())} missed, {int(wrong.sum())} false alarms"
        drawn = _drawn(image, truth, found, missed, wrong, matches.face >= 0)
        entry = Failure(weight, -number, caption, drawn)
        (heapq.heappush if len(kept) < MOST else heapq.heapreplace)(kept, entry)

    def failures(self, detector: str) -> list[Failure]:
        """Give the kept pictures of a detector, the worst first."""
        return sorted(self._kept.get(detector, ()), reverse=True)


_NONE: Final = np.empty((0, 0, 3), np.uint8)


def _drawn(
    image: U8,
    truth: Truth,
    found: Found,
    missed: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
    right: NDArray[np.bool_],
) -> U8:
    h, w = image.shape[:2]
    scale = LONG_SIDE / max(h, w)
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
    for box in truth.boxes[truth.ignore]:
        _rectangle(canvas, box * scale, "ignored", 1)
    for box in found.boxes[right]:
        _rectangle(canvas, box * scale, "found", 1)
    for box in truth.boxes[missed]:
        _rectangle(canvas, box * scale, "missed", 2)
    for box, score in zip(found.boxes[wrong], found.scores[wrong], strict=True):
        _rectangle(canvas, box * scale, "false alarm", 2)
        at = int(box[0] * scale), max(int(box[1] * scale) - 3, 9)
        _text(canvas, f"{score:.2f}", at, COLOURS["false alarm"])
    return canvas


def _rectangle(canvas: U8, box: F32, what: str, width: int) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), COLOURS[what], width, cv2.LINE_AA)


def _text(canvas: U8, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's fonts have no other letters
    cv2.putText(canvas, plain, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)


def sheet(failures: list[Failure], title: str) -> U8:
    """Put drawn pictures onto one sheet, with a legend.

    Returns:
        (h, w, 3) uint8 BGR.
    """
    cell = LONG_SIDE + _CAPTION
    rows = max(-(-len(failures) // _COLUMNS), 1)
    canvas = np.full((rows * cell + _CAPTION, _COLUMNS * LONG_SIDE, 3), 24, np.uint8)
    _text(canvas, title, (6, 15), (230, 230, 230))
    x = canvas.shape[1] - 420
    for what, colour in COLOURS.items():
        _text(canvas, what, (x, 15), colour)
        x += 105
    for i, failure in enumerate(failures):
        y, x = _CAPTION + i // _COLUMNS * cell, i % _COLUMNS * LONG_SIDE
        h, w = failure.drawn.shape[:2]
        canvas[y : y + h, x : x + w] = failure.drawn
        _text(canvas, failure.caption[-62:], (x + 4, y + LONG_SIDE + 15), (200, 200, 200))
    return canvas


def png(image: U8) -> bytes:
    """Encode a sheet."""
    _, data = cv2.imencode(".png", image)
    return data.tobytes()
