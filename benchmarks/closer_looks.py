"""What closer looks at small faces find, and what they take for faces in vain.

    python benchmarks/closer_looks.py DIR/val... --background DIR/background --detector DETECTOR

Pictures are composed as `blurgate train --detector` composes them, of photos that should not have
been trained on, and searched at a smaller size, as large pictures are, by one search and with a
closer look (docs/decisions/0022-closer-look.md). Per size of the face on the canvas: the share that
is found at a score of 0.5, and from the score on at which there are 0.02 false alarms a picture.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

import cv2
import numpy as np

from blurgate import zoo
from blurgate.geometry import iou
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.plugins.detectors import looks
from blurgate.training.detection.annotations import read_annotations
from blurgate.training.detection.compose import Composed
from blurgate.training.detection.default_score import FALSE_ALARMS, false_alarms
from blurgate.training.detection.pictures import backgrounds_in
from blurgate.types import Frame

EDGES = (12, 24, 40, 64, 128, 640)
SEARCHED = 320
SAME = 0.4  # IoU of a face that was found
WAYS = {"one search": 0, "closer look": looks.CLOSER_BELOW}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("data", nargs="+", metavar="DIR", help="annotated pictures")
    add("--background", nargs="*", default=[], metavar="DIR")
    add("--detector", metavar="NAME|PATH")
    add("--size", type=int, default=640, help="side of the pictures; they are searched at 320")
    add("--pictures", type=int, default=400)
    add("--seed", type=int, default=77)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    photos = [picture for name in args.data for picture in read_annotations(name)]
    samples = Composed(
        photos,
        backgrounds_in(args.background),
        size=args.size,
        length=args.pictures,
        seed=args.seed,
    )
    find = zoo.open_detector(
        args.detector, Runtime("cpu", 1), DetectorOptions(SEARCHED, looks.CLOSER_LEAST)
    )
    sides: list[float] = []
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    alarms: dict[str, list[float]] = {way: [] for way in WAYS}
    seconds = dict.fromkeys(WAYS, 0.0)
    for i in range(args.pictures):
        sample = samples.sample(0, i)
        faces = sample.boxes[~sample.ignore]
        sides += ((faces[:, 2:] - faces[:, :2]).max(axis=1) * SEARCHED / args.size).tolist()
        for way, below in WAYS.items():
            looks.CLOSER_BELOW = below  # type: ignore[misc]
            began = time.perf_counter()
            (seen,) = find([Frame(sample.image, "", 0, None)])
            seconds[way] += time.perf_counter() - began
            scores = np.where(iou(faces, seen.boxes) >= SAME, seen.det_scores, 0)
            found[way] += scores.max(axis=1, initial=0).tolist()
            alarms[way] += false_alarms(sample, seen).tolist()
    side = np.array(sides)
    print("| side, px | faces | " + " | ".join(f"{way}: at 0.5 | as sure" for way in WAYS) + " |")
    print("| ---: | ---: |" + " ---: | ---: |" * len(WAYS))
    allowed = int(FALSE_ALARMS * args.pictures)
    falling = {way: [*sorted(alarms[way], reverse=True), 0.0] for way in WAYS}
    equal = {way: scores[min(allowed, len(scores) - 1)] for way, scores in falling.items()}
    for low, high in [*pairwise(EDGES), (EDGES[0], EDGES[-1])]:
        here = (side >= low) & (side < high)
        shares = [
            f"{(np.array(found[way])[here] >= least).mean():.3f}"
            for way in WAYS
            for least in (0.5, np.nextafter(equal[way], 1))
        ]
        print(f"| {low} to {high} | {here.sum()} | " + " | ".join(shares) + " |")
    for way in WAYS:
        rate = sum(score >= 0.5 for score in alarms[way]) / args.pictures
        print(
            f"{way}: {rate:.3f} false alarms a picture at 0.5, {FALSE_ALARMS} at {equal[way]:.2f}; "
            f"{1e3 * seconds[way] / args.pictures:.1f} ms a picture"
        )


if __name__ == "__main__":
    main()
