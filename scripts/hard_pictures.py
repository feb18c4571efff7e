"""List the pictures in which a detector misses annotated faces, to train on them more often.

    python scripts/hard_pictures.py DIR/train --detector scrfd_blurgate
    blurgate train --detector scrfd --data DIR --data DIR/train/hard.json --data DIR/train/hard.json

The list is an annotation file beside the pictures' own (hard example mining: Sung and Poggio, 1998;
Shrivastava et al., 2016, arXiv 1604.03540). Each picture is looked at as it is, shrunk or enlarged
to one size, and a face is missed if no anchor that means it gives a score of 0.5.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from blurgate.errors import BlurgateError
from blurgate.geometry import iou
from blurgate.io.images import read_image
from blurgate.training.detection.annotations import FILE, Annotated, read_annotations
from blurgate.training.detection.distil import DenseTeacher

FOUND, MATCH = 0.5, 0.4


def missed(picture: Annotated, detector: DenseTeacher, side: int, least: float) -> int:
    """Count the faces of a picture that a detector does not find."""
    image = read_image(picture.path)
    h, w = image.shape[:2]
    scale = side / max(h, w)
    square = np.zeros((side, side, 3), np.uint8)
    size = round(w * scale), round(h * scale)
    square[: size[1], : size[0]] = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    boxes = picture.boxes * np.float32(scale)
    scores, found, *_ = detector.open().rows(square)
    meant = np.where(iou(boxes, found) >= MATCH, scores, 0).max(1, initial=0)
    large = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= least
    return int((~picture.ignore & large & (meant < FOUND)).sum())


def main() -> None:
    """Write the list and print how many."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = arguments.add_argument
    add("folder", type=Path, metavar="DIR", help=f"with an {FILE}")
    add("--detector", required=True, metavar="NAME|PATH", help="an SCRFD")
    add("--side", type=int, default=320, help="longer side that each picture is brought to, px")
    add("--least", type=float, default=16.0, help="shortest side of a face that counts, px")
    add("--out", default="hard.json", metavar="NAME", help="file in DIR")
    args = arguments.parse_args()
    cv2.setNumThreads(1)

    pictures = read_annotations(args.folder / FILE)
    detector = DenseTeacher(args.detector)
    counts = {p.name: missed(p, detector, args.side, args.least) for p in pictures}
    rows = json.loads((args.folder / FILE).read_text(encoding="utf-8"))
    hard = [f"{json.dumps(name)}: {json.dumps(rows[name])}" for name in rows if counts[name]]
    text = "{\n" + ",\n".join(hard) + "\n}\n"
    (args.folder / args.out).write_text(text, encoding="utf-8")
    faces = sum(int((~p.ignore).sum()) for p in pictures)
    found = f"{len(hard)} of {len(pictures)} pictures, {sum(counts.values())} of {faces} faces"
    print(f"{found} missed")


if __name__ == "__main__":
    try:
        main()
    except BlurgateError as error:
        raise SystemExit(f"error: {error}") from None
