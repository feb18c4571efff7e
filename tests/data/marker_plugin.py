"""A plugin for tests: the detector `marker` finds rectangles with a pure green border.

It needs no weights, so the whole pipeline can be tested on pictures that the tests draw.
"""

from __future__ import annotations

import cv2
import numpy as np

from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.hookspecs import hookimpl
from blurgate.interfaces import ModelInfo
from blurgate.types import Detections

BORDER = 6


def draw(image, x, y, side, *, sharp, seed=0):
    """Draw a "face": a green border around noise, which is smoothed unless it is to be sharp."""
    noise = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    noise[..., 1] //= 2  # never green
    texture = cv2.resize(noise, (side, side), interpolation=cv2.INTER_NEAREST)
    if not sharp:
        texture = cv2.GaussianBlur(texture, (0, 0), side / 8)
    texture[:BORDER] = texture[-BORDER:] = (0, 255, 0)
    texture[:, :BORDER] = texture[:, -BORDER:] = (0, 255, 0)
    image[y : y + side, x : x + side] = texture


class MarkerDetector:
    """Finds what `draw` draws, also after video compression."""

    info = ModelInfo("marker", "")

    def __call__(self, frames):
        return [self._find(frame) for frame in frames]

    def _find(self, frame):
        b, g, r = (frame.image[..., i].astype(int) for i in range(3))
        green = ((g - np.maximum(b, r)) > 150).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(green)
        boxes = [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:].tolist() if min(w, h) >= 20]
        boxes.sort()
        n = len(boxes)
        array = np.array(boxes, np.float32).reshape(n, 4)
        # The crop shows what is inside the border, which is always sharp.
        sides = array[:, 2:] - array[:, :2]
        inner = array[:, :2] + 0.12 * sides
        kps = inner[:, None] + ARCFACE_TEMPLATE[None] * (0.76 * sides[:, None] / 112)
        scores = np.linspace(0.9, 0.6, n, dtype=np.float32)
        return Detections(frame, array, scores, kps.astype(np.float32))


@hookimpl
def register_detectors(register):
    """Register `marker`."""
    register("marker", lambda model, runtime, options: MarkerDetector())
