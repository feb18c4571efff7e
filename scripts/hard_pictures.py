"""List the pictures in which a detector misses annotated faces, to train on them more often.

    python scripts/hard_pictures.py DIR/train --detector scrfd_blurgate
    blurgate train --detector scrfd --data DIR --data DIR/train/hard.json --data DIR/train/hard.json

The list is an annotation file beside the pictures' own (hard example mining: Sung and Poggio, 1998;
Shrivastava et al., 2016, arXiv 1604.03540). Each picture is searched as it is, its longer side at
320 pixels, and a face is missed if nothing is found on it at the default score.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from blurgate import zoo
from blurgate.errors import BlurgateError
from blurgate.geometry import iou
from blurgate.interfaces import Detector, DetectorOptions, Runtime
from blurgate.io.images import read_image
from blurgate.training.detection.annotations import FILE, Annotated, read_annotations
from blurgate.types import Frame

SIDE, MATCH = 320, 0.4


def missed(picture: Annotated, detector: Detector, least: float) -> int:
    """Count the faces of a picture that a detector does not find."""
    image = read_image(picture.path)
    (found,) = detector([Frame(image, picture.name, 0, None)])
    scale = SIDE / max(image.shape[:2])
    large = (picture.boxes[:, 2:] - picture.boxes[:, :2]).min(1, initial=np.inf) * scale >= least
    seen = (iou(picture.boxes, found.boxes) >= MATCH).any(1)
    return int((~picture.ignore & large & ~seen).sum())


def main() -> None:
    """Write the list, if there is anything to list, and print how many."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = arguments.add_argument
    add("folder", type=Path, metavar="DIR", help=f"with an {FILE}")
    add("--detector", required=True, metavar="NAME|PATH", help="what misses faces")
    add(
        "--least",
        type=float,
        default=16.0,
        help="shortest side of a face that counts, px in the search",
    )
    add("--out", default="hard.json", metavar="NAME", help="file in DIR")
    args = arguments.parse_args()
    cv2.setNumThreads(1)

    pictures = read_annotations(args.folder / FILE)
    detector = zoo.open_detector(args.detector, Runtime("cpu"), DetectorOptions(long_side=SIDE))
    counts = {p.name: missed(p, detector, args.least) for p in pictures}
    rows = json.loads((args.folder / FILE).read_text(encoding="utf-8-sig"))
    hard = [f"{json.dumps(name)}: {json.dumps(rows[name])}" for name in rows if counts[name]]
    if hard:
        text = "{\n" + ",\n".join(hard) + "\n}\n"
        (args.folder / args.out).write_text(text, encoding="utf-8")
    else:  # a file that lists nothing could not be trained on, nor is an earlier one true
        (args.folder / args.out).unlink(missing_ok=True)
    faces = sum(int((~p.ignore).sum()) for p in pictures)
    found = f"{len(hard)} of {len(pictures)} pictures, {sum(counts.values())} of {faces} faces"
    print(f"{found} missed")


if __name__ == "__main__":
    try:
        main()
    except BlurgateError as error:
        raise SystemExit(f"error: {error}") from None
