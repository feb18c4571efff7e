"""Drawing what was decided onto frames: boxes, landmarks, degrees, a timeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from blurgate.types import F32, U8, Decision, Reason

COLOURS: Final[dict[Decision, tuple[int, int, int]]] = {
    "keep": (80, 200, 60),
    "review": (40, 180, 250),
    "reject": (70, 70, 235),
}
"""BGR: green, amber, red. The decision also stands beside the box: not everybody sees colours."""
_PASSED_OVER: Final = (160, 160, 160)  # good enough, but its track has better ones
_WHITE: Final = (255, 255, 255)
_DARK: Final = (24, 24, 24)
_FAR: Final = 2**30
"""OpenCV's coordinates are of 32 bits."""
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """What is drawn of one face."""

    frame_index: int
    pts_s: float | None
    box: tuple[float, float, float, float]
    """x1 y1 x2 y2 in pixels of the frame."""
    kps: F32
    """(5, 2) float32 landmarks in pixels of the frame."""
    blur_degree: float
    decision: Decision
    reason: Reason
    track: int | None


def draw_faces(image: U8, marks: Iterable[Mark]) -> None:
    """Draw boxes, landmarks, track numbers, degrees and decisions into an image.

    Args:
        image: (H, W, 3) uint8 BGR; changed.
        marks: The faces.
    """
    thick = max(1, round(min(image.shape[:2]) / 300))
    for mark in marks:
        colour = _colour(mark)
        x1, y1, x2, y2 = (round(v) for v in np.clip(mark.box, -_FAR, _FAR))
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, thick, cv2.LINE_AA)
        for x, y in np.clip(mark.kps, -_FAR, _FAR):
            centre = (round(float(x)), round(float(y)))
            cv2.circle(image, centre, thick + 1, _DARK, -1, cv2.LINE_AA)
            cv2.circle(image, centre, thick, _WHITE, -1, cv2.LINE_AA)
        _label(image, (x1, y1, y2), _text(mark), colour)


def _colour(mark: Mark) -> tuple[int, int, int]:
    return _PASSED_OVER if mark.reason == "not_best_shot" else COLOURS[mark.decision]


def _text(mark: Mark) -> str:
    who = "" if mark.track is None else f"#{mark.track} "
    why = mark.reason.replace("_", " ") if mark.reason not in {"", "blur"} else mark.decision
    return f"{who}{mark.blur_degree:.2f} {why}"


def _label(image: U8, place: tuple[int, int, int], text: str, colour: tuple[int, int, int]) -> None:
    """Write a line above a box, or below it where there is no room, inside the image."""
    h, w = image.shape[:2]
    x, top, bottom = place
    scale = max(0.35, min(h, w) / 1100)
    thick = max(1, round(scale * 1.6))
    (text_w, text_h), base = cv2.getTextSize(text, _FONT, scale, thick)
    y = top - base - 2 if top - base - text_h - 4 >= 0 else min(bottom + text_h + 4, h - base - 1)
    x = int(np.clip(x, 0, max(0, w - text_w - 2)))
    cv2.rectangle(image, (x, y - text_h - 3), (x + text_w + 2, y + base), colour, -1)
    cv2.putText(image, text, (x + 1, y), _FONT, scale, _DARK, thick, cv2.LINE_AA)


class Timeline:
    """A bar along the lower edge of a video: how blurred the sharpest face was, over its length.

    Args:
        marks: All faces of the video, each after its time in seconds.
        span_s: Time of its first frame and of its end.
        threshold: The blur degree above which faces were rejected.
        size: (h, w) of the frames.
    """

    def __init__(
        self,
        marks: Iterable[tuple[float, Mark]],
        span_s: tuple[float, float],
        threshold: float,
        size: tuple[int, int],
    ) -> None:
        h, w = size
        self._start_s, end_s = span_s
        self._length_s = max(end_s - self._start_s, 1e-6)
        self._height = min(h, max(8, round(h * 0.06)))
        degree = np.full(w, np.inf)
        best: list[Mark | None] = [None] * w
        for at_s, mark in marks:
            x = self._column(at_s, w)
            if mark.blur_degree < degree[x]:
                degree[x] = mark.blur_degree
            other = best[x]
            if other is None or _order(mark) < _order(other):
                best[x] = mark
        self._bar = _bar(self._height, degree, best, threshold)

    def _column(self, at_s: float, width: int) -> int:
        share = (at_s - self._start_s) / self._length_s
        return int(np.clip(share * width, 0, width - 1))

    def draw(self, image: U8, at_s: float) -> None:
        """Draw the bar, and where in it the video is."""
        h, w = image.shape[:2]
        part = image[h - self._height :, : self._bar.shape[1]]
        bar = self._bar[: part.shape[0], : part.shape[1]]
        part[:] = cv2.addWeighted(part, 0.25, bar, 0.75, 0)
        x = self._column(at_s, w)
        thick = max(1, round(w / 600))
        cv2.line(image, (x, h - self._height), (x, h - 1), _WHITE, thick)


def _order(mark: Mark) -> int:
    if mark.reason == "not_best_shot":
        return 2
    return {"keep": 0, "review": 1, "reject": 3}[mark.decision]


def _bar(height: int, degree: np.ndarray, best: Sequence[Mark | None], threshold: float) -> U8:
    """Draw the bar: in each column, the degree as a height, in the colour of the best decision.

    A column that no frame fell into takes its neighbour's, as far as frames are apart.
    """
    bar = np.full((height, len(degree), 3), 40, np.uint8)
    seen = np.flatnonzero(np.isfinite(degree))
    steps = np.diff(seen)
    reach = int(np.percentile(steps, 90)) if len(steps) else 1
    for i, x in enumerate(seen):
        until = min(int(x) + reach, int(seen[i + 1]) if i + 1 < len(seen) else len(degree))
        tall = max(1, round(float(degree[x]) * (height - 1)))
        mark = best[int(x)]
        assert mark is not None, "a column with a degree has a face"
        bar[height - tall :, int(x) : until] = _colour(mark)
    y = height - 1 - round(threshold * (height - 1))
    bar[y, ::4] = _WHITE
    return bar
