"""What a closer look at small faces is worth, and what it costs.

    python benchmarks/small_faces.py DIR/val... --detector DETECTOR --embedder EMBEDDER

Every face of annotated pictures is shrunk to a side of so many pixels and put on a grey canvas of
360x640, where the detector finds it three times: by one search, with a closer look
(docs/decisions/0022-closer-look.md), and by one search of a canvas twice as large, which is what
users do today (`--det-size 1280`). Of the faces that all three find: the landmarks' distance from
those of the annotation over the distance of the eyes, the boxes' IoU, and the cosine between the
embeddings of the crops aligned by the one and by the other; and the time of a picture with one
face.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from blurgate import zoo
from blurgate.geometry import align_faces, iou
from blurgate.interfaces import Detector, DetectorOptions, Embedder, Runtime
from blurgate.plugins.detectors import looks
from blurgate.training.detection.annotations import read_annotations
from blurgate.types import F32, U8, Frame

SIZES = (16, 24, 32, 48, 60)
CANVAS = (360, 640)
AT = 40, 60
SAME = 0.4  # IoU of a face that was found
WAYS = {
    "one search": (640, 0),
    "closer look": (640, looks.CLOSER_BELOW),
    "twice as large": (1280, 0),
}


def small_faces(folders: Sequence[str], px: int) -> Iterator[tuple[U8, F32, F32]]:
    """Give pictures (h, w, 3), boxes (4,) and landmarks (5, 2) of faces whose longer side is px."""
    for picture in (one for name in folders for one in read_annotations(name)):
        image = cv2.imread(str(picture.path))
        for box, kps, ignored in zip(picture.boxes, picture.kps, picture.ignore, strict=True):
            scale = px / float((box[2:] - box[:2]).max())
            size = round(image.shape[1] * scale), round(image.shape[0] * scale)
            room = CANVAS[1] - AT[0], CANVAS[0] - AT[1]
            if ignored or not np.isfinite(kps).all() or scale > 1 or size > room:
                continue
            canvas = np.full((*CANVAS, 3), 96, np.uint8)
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            canvas[AT[1] : AT[1] + size[1], AT[0] : AT[0] + size[0]] = small
            factor = np.array(size, np.float32) / (image.shape[1], image.shape[0])
            yield canvas, box * np.tile(factor, 2) + np.tile(AT, 2), kps * factor + np.array(AT)


def measure(
    detectors: dict[str, Detector], embedder: Embedder, faces: Iterator[tuple[U8, F32, F32]]
) -> tuple[int, F32, dict[str, float]]:
    """Give the count of faces, (faces found by all, ways, 3) figures, and milliseconds per way."""
    rows, seconds, count = [], dict.fromkeys(detectors, 0.0), 0
    for image, box, kps in faces:
        count += 1
        row = []
        for name, detector in detectors.items():
            looks.CLOSER_BELOW = WAYS[name][1]  # type: ignore[misc]
            began = time.perf_counter()
            (found,) = detector([Frame(image, "", 0, None)])
            seconds[name] += time.perf_counter() - began
            overlap = iou(box[None].astype(np.float32), found.boxes)[0]
            if not len(overlap) or overlap.max() < SAME:
                continue
            best = found.kps[overlap.argmax()]
            error = np.linalg.norm(best - kps, axis=1).mean() / np.linalg.norm(kps[0] - kps[1])
            one, other = embedder(align_faces(image, np.stack([kps, best]).astype(np.float32)))
            row.append((error, overlap.max(), one @ other))
        if len(row) == len(detectors):
            rows.append(row)
    return count, np.array(rows, np.float32), {n: 1e3 * s / count for n, s in seconds.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", metavar="DIR")
    parser.add_argument("--detector")
    parser.add_argument("--embedder", required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    runtime = Runtime("cpu", 1)
    embedder = zoo.open_embedder(arguments.embedder, runtime)
    detectors = {
        name: zoo.open_detector(arguments.detector, runtime, DetectorOptions(long_side))
        for name, (long_side, _) in WAYS.items()
    }
    print(f"{'px':>4}{'faces':>7}  {'':<16}{'landmarks':>10}{'IoU':>8}{'cosine':>8}{'ms':>8}")
    for px in SIZES:
        count, values, ms = measure(detectors, embedder, small_faces(arguments.data, px))
        for i, name in enumerate(detectors):
            error, overlap, cosine = values[:, i].mean(axis=0)
            print(
                f"{px:>4}{len(values):>4}/{count:<3} {name:<16}{error:>10.3f}{overlap:>8.3f}"
                f"{cosine:>8.3f}{ms[name]:>8.1f}"
            )


if __name__ == "__main__":
    main()
