"""Compare detectors on composed pictures by the size of the face: boxes, landmarks, recall.

    python scripts/detector_by_size.py DIR/val --background DIR/background --detector A --detector B

The pictures are composed as `blurgate train --detector` composes them, of photos that should not
have been trained on, ordinary ones and those of faces close to the camera. Every detector is an
SCRFD that is asked at every anchor, so the picture's size is the search's. IoU and landmark errors
are means over the faces of which every detector gives some anchor 0.3 or more.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise

import cv2
import numpy as np

from blurgate.errors import BlurgateError, InputError
from blurgate.geometry import iou
from blurgate.plugins.detectors.scrfd import Rows
from blurgate.training.detection.annotations import read_annotations
from blurgate.training.detection.compose import Composed
from blurgate.training.detection.distil import DenseTeacher
from blurgate.training.detection.pictures import backgrounds_in

EDGES = (8, 16, 32, 64, 128, 256, 640)
SEEN, MATCH, FOUND = 0.3, 0.4, 0.5
LEAST_EYES = 0.25  # a face whose eyes are closer, in shorter sides of its box, is in profile


def measure(rows: Rows, box: np.ndarray, kps: np.ndarray) -> tuple[float, float, float]:
    """Give the score, the IoU and the landmark error of the surest anchor that means a face."""
    overlap = iou(box[None], rows.boxes)[0]
    meant = np.where(overlap >= MATCH, rows.scores, 0)
    best = meant.argmax()
    eyes = np.linalg.norm(kps[0] - kps[1])
    error = np.linalg.norm(rows.kps[best] - kps, axis=1).mean() / eyes
    return float(meant[best]), float(overlap[best]), float(error)


def main() -> None:
    """Print a row per size and detector."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = arguments.add_argument
    add("data", nargs="+", metavar="DIR", help="annotated pictures")
    add("--background", nargs="*", default=[], metavar="DIR")
    add("--detector", action="append", required=True, metavar="NAME|PATH")
    add("--pictures", type=int, default=240)
    add("--size", type=int, default=320)
    add("--seed", type=int, default=12)
    args = arguments.parse_args()
    cv2.setNumThreads(1)

    photos = [picture for name in args.data for picture in read_annotations(name)]
    ordinary = Composed(
        photos,
        backgrounds_in(args.background),
        size=args.size,
        length=args.pictures,
        seed=args.seed,
    )
    detectors = [DenseTeacher(name) for name in args.detector]
    sides, found = [], []
    for samples, count in (
        (ordinary, args.pictures),
        (ordinary.close(2 * args.size), args.pictures // 2),
    ):
        for i in range(count):
            sample = samples.sample(0, i)
            told = [one.open().rows(sample.image) for one in detectors]
            for box, kps, ignored in zip(sample.boxes, sample.kps, sample.ignore, strict=True):
                side = (box[2:] - box[:2]).min()
                eyes = np.linalg.norm(kps[0] - kps[1])
                if ignored or not eyes >= LEAST_EYES * side:  # NaN where they are not known
                    continue
                sides.append(side)
                found.append([measure(rows, box, kps) for rows in told])
    if not found:
        raise InputError(f"{args.data[0]}: no face that is composed has landmarks to compare")
    side, values = np.array(sides), np.array(found)  # (faces, detectors, 3)
    print("| side, px | faces | detector | recall | IoU | landmark error, mean | median |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for low, high in pairwise(EDGES):
        here = (side >= low) & (side < high)
        seen = here & (values[:, :, 0] >= SEEN).all(axis=1)
        if not seen.any():
            continue
        for number, name in enumerate(args.detector):
            recall = (values[here, number, 0] >= FOUND).mean()
            overlap, errors = values[seen, number, 1], values[seen, number, 2]
            print(
                f"| {low} to {high} | {here.sum()} | {name} | {recall:.2f} | {overlap.mean():.3f} "
                f"| {errors.mean():.3f} | {np.median(errors):.3f} |"
            )


if __name__ == "__main__":
    try:
        main()
    except BlurgateError as error:
        sys.exit(f"detector_by_size: {error}")
