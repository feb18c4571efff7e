"""What it takes to bring large pictures to a detector's size, in three ways.

    python benchmarks/shrinking.py

Milliseconds on one thread, the fastest of 50 (docs/decisions/0023-halved-first.md).
"""

from __future__ import annotations

import time

import cv2
import numpy as np

from blurgate.pixels import resized

SIZES = {
    "1080p, brightness": (1080, 1920),
    "1080p": (1080, 1920, 3),
    "1440p": (1440, 2560, 3),
    "2160p, brightness": (2160, 3840),
    "2160p": (2160, 3840, 3),
}
LONG_SIDE = 640
ROUNDS = 50


def main() -> None:
    """Print a table."""
    cv2.setNumThreads(1)
    print("| picture | interpolated | halved first | exact areas |")
    print("| --- | ---: | ---: | ---: |")
    for name, shape in SIZES.items():
        image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        h, w = round(shape[0] * LONG_SIDE / shape[1]), LONG_SIDE
        ways = [
            lambda image=image, size=(w, h): cv2.resize(image, size),
            lambda image=image, size=(h, w): resized(image, size),
            lambda image=image, size=(w, h): cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        ]
        fastest = [np.inf] * len(ways)
        for _ in range(ROUNDS):
            for i, way in enumerate(ways):
                began = time.process_time()
                way()
                fastest[i] = min(fastest[i], time.process_time() - began)
        print(f"| {name} | " + " | ".join(f"{1e3 * each:.2f}" for each in fastest) + " |")


if __name__ == "__main__":
    main()
