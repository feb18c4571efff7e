"""Make profiles and bent heads for a detector's training: turn labelled faces, label them anew.

    python scripts/turn_faces.py DIR --detector TEACHER.onnx --out TURNED

DIR is what `make_detection_data.py` left (with `train/` and `val/`) or one annotated folder. Of the
pictures with one large face a share (--share, several times where it is above 1) is turned by up to
--yaw and --pitch degrees; most heads are bent down rather than up. What the teacher then does not
take for a face is left out: its labels are the only ones that are written.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from blurgate.errors import BlurgateError
from blurgate.geometry import iou
from blurgate.io.images import read_image
from blurgate.io.text import digest
from blurgate.training.detection.annotations import (
    Annotated,
    Face,
    read_annotations,
    write_annotations,
)
from blurgate.training.detection.teacher import Teacher, open_searches
from blurgate.training.detection.turning import turned
from blurgate.training.faces import person_of

LEAST_PX = 48.0
"""Smallest face that is turned, by its shorter side: the teacher's landmarks must be exact."""
_DIGEST = re.compile(r"-[0-9a-f]{16}$")  # of make_detection_data.py
SAME_IOU = 0.25
"""Least overlap of the turned face with the one before."""


def angles(rng: np.random.Generator, yaw: float, pitch: float) -> tuple[float, float]:
    """Draw yaw and pitch in degrees; one of them is small where the other is large."""
    kind = rng.random()
    if kind < 0.45:
        return float(rng.choice((-1, 1)) * rng.uniform(0.35, 1) * yaw), float(rng.normal(4, 8))
    down = float(rng.uniform(0.3, 1) * pitch * (1 if rng.random() < 0.85 else -0.6))
    if kind < 0.75:
        return float(rng.normal(0, 8)), down
    return float(rng.uniform(-0.6, 0.6) * yaw), 0.7 * down


def single(picture: Annotated) -> int | None:
    """Give the index of the one face of a picture, if there is one and it is large."""
    (shown,) = np.nonzero(~picture.ignore)
    if len(shown) != 1:
        return None
    face = int(shown[0])
    x1, y1, x2, y2 = picture.boxes[face]
    known = bool(np.isfinite(picture.kps[face]).all())
    return face if known and min(x2 - x1, y2 - y1) >= LEAST_PX else None


def copies(name: str, share: float) -> int:
    """Say how often a picture is turned; depends on its name alone."""
    return math.floor(share + int(digest(name)[:8], 16) / 2**32)


def turned_name(name: str, used: set[str]) -> str:
    """Name a turned picture so that `--identity name` still tells who it shows.

    >>> turned_name("images/lfw/Ada_0002-f93de10318824bcd.jpg", {"lfw/Ada_1000.jpg"})
    'lfw/Ada_1001.jpg'
    """
    path = PurePosixPath(name)
    person = person_of(_DIGEST.sub("", path.stem))
    numbered = (PurePosixPath(path.parent.name, f"{person}_{n}.jpg") for n in range(1000, 10000))
    return next(str(new) for new in numbered if str(new) not in used)


def make(
    job: tuple[Annotated, int, int], by: Teacher, yaw: float, pitch: float
) -> tuple[np.ndarray, list[Face]] | None:
    """Turn and label one picture; None where the teacher finds no face in it any more."""
    picture, face, number = job
    rng = np.random.default_rng(int(digest(f"{picture.name} {number}"), 16))
    image = read_image(picture.path)
    to_yaw, to_pitch = angles(rng, yaw, pitch)
    image = turned(image, picture.boxes[face], picture.kps[face], yaw=to_yaw, pitch=to_pitch)
    faces = by(image, picture.name)
    boxes = np.array([f.box for f in faces], np.float32).reshape(-1, 4)
    same = iou(boxes, picture.boxes[[face]])[:, 0] >= SAME_IOU
    if not any(hit and not f.ignore for hit, f in zip(same, faces, strict=True)):
        return None
    return image, faces


def turn_all(
    pictures: list[Annotated], by: Teacher, args: argparse.Namespace
) -> Iterator[tuple[str, np.ndarray, list[Face]]]:
    """Turn many pictures at once, in their order."""
    jobs = [
        (picture, face, number)
        for picture in pictures
        if (face := single(picture)) is not None
        for number in range(copies(picture.name, args.share))
    ]
    used: set[str] = set()
    with ThreadPoolExecutor(args.workers) as pool:
        made = pool.map(lambda job: make(job, by, args.yaw, args.pitch), jobs)
        for n, ((picture, _, _), result) in enumerate(zip(jobs, made, strict=True), 1):
            if n % 500 == 0:
                print(f"{n} of {len(jobs)}", flush=True)
            if result is not None:
                name = turned_name(picture.name, used)
                used.add(name)
                yield f"images/{name}", *result


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = arguments.add_argument
    add("data", type=Path, metavar="DIR", help="annotated pictures, or a folder of train and val")
    add("--detector", action="append", required=True, metavar="NAME|PATH", help="a teacher")
    add("--out", type=Path, required=True, metavar="DIR")
    add("--share", type=float, default=0.6, help="turned pictures for each that is given")
    add("--yaw", type=float, default=65, metavar="DEGREES")
    add("--pitch", type=float, default=45, metavar="DEGREES")
    add("--search", type=int, nargs="+", default=[256, 448], metavar="PX", help="long sides")
    add("--search-padded", type=int, nargs="*", default=[256], metavar="PX", help="with a border")
    add("--workers", type=int, default=2)
    args = arguments.parse_args()
    cv2.setNumThreads(1)

    by = Teacher(open_searches(args.detector, args.search, args.search_padded))
    parts = [part for part in ("train", "val") if (args.data / part).is_dir()]
    for part in parts or [""]:
        rows: dict[str, list[Face]] = {}
        for name, image, faces in turn_all(read_annotations(args.data / part), by, args):
            path = args.out / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95]):
                raise SystemExit(f"{path} cannot be written")
            rows[name] = faces
        if rows:
            write_annotations(args.out / part, rows)
        print(json.dumps({"part": part or str(args.data), "turned": len(rows)}), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BlurgateError as error:
        raise SystemExit(f"error: {error}") from None
