"""Write what insightface's SCRFD finds on some photos, for tests/plugins/test_scrfd.py.

    python scripts/make_detection_golden.py path/to/shared

Needs insightface and the development data folder (`shared`). Every face is one row: score, box
x1 y1 x2 y2, and five landmarks x y, in pixels.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from insightface.model_zoo.scrfd import SCRFD

WEIGHTS = ("scrfd_2.5g_bnkps.onnx", "scrfd_500m_bnkps.onnx")
PHOTOS = ("cmumit_Colombia.jpg", "cmumit_albert.jpg", "cmumit_cnn1160.jpg", "dlib_2008_002506.jpg")
LONG_SIDE = 640
TARGET = Path(__file__).parents[1] / "tests" / "data" / "scrfd_insightface.json"


def canvas(height: int, width: int) -> tuple[int, int]:
    """(w, h) of the picture with its longer side at `LONG_SIDE`, rounded up to multiples of 32."""
    scale = LONG_SIDE / max(height, width)
    w, h = (-(-int(side * scale) // 32) * 32 for side in (width, height))
    return w, h


def main(shared: Path) -> None:
    golden: dict[str, dict[str, list[list[float]]]] = {}
    for name in WEIGHTS:
        model = SCRFD(str(shared / "data" / "weights" / name), static_shape_sessions=False)
        model.prepare(-1, det_thresh=0.5)
        golden[name] = {}
        for photo in PHOTOS:
            image = cv2.imread(str(shared / "data" / "detection" / "images" / photo))
            boxes, kps = model.detect(image, input_size=canvas(*image.shape[:2]))
            rows = np.concatenate([boxes[:, 4:], boxes[:, :4], kps.reshape(-1, 10)], axis=1)
            golden[name][photo] = rows.astype(float).round(4).tolist()
            print(name, photo, len(rows), "faces")
    text = json.dumps(golden).replace("[[", "[\n[").replace("], ", "],\n")  # one face per line
    TARGET.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
