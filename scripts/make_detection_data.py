"""Make a detector's training data: label pictures with a teacher, and set parts of them aside.

    python scripts/make_detection_data.py PHOTOS... --scenes DIR --detector TEACHER.onnx --out DIR

leaves, every picture as a JPEG of at most --side pixels:

    DIR/train/annotations.json, images/   what to train on
    DIR/val/annotations.json, images/     people of whom no picture is in train (share: --val)
    DIR/background/                       pictures of --scenes in which the teacher sees no face
    DIR/background_held_out/              the same, never for training (share: --hold-out)
    DIR/data.json                         what was done, and the counts

Pictures of --scenes with a face that the teacher is sure of go to train; those with one that it is
not sure of go nowhere. Which scenes are held out depends on their file names alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from blurgate.errors import BlurgateError, DecodeError
from blurgate.io.images import read_image
from blurgate.io.text import digest
from blurgate.training.detection.annotations import Face, write_annotations
from blurgate.training.detection.teacher import SEEN, SURE, Teacher, open_searches
from blurgate.training.faces import list_faces

LEAST_PX = 5.0
"""Finds with a shorter side than this in the picture that is written are ignored."""


def held_out(name: str, share: float) -> bool:
    """Tell whether a scene is kept for evaluation; depends on its file name alone."""
    return int(digest(Path(name).stem)[:8], 16) / 2**32 < share


def small(image: np.ndarray, side: int) -> np.ndarray:
    """Shrink a picture to a longer side, if it is longer."""
    h, w = image.shape[:2]
    scale = side / max(h, w)
    if scale >= 1:
        return image
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def label(source: str, teacher: Teacher, side: int) -> tuple[np.ndarray, list[Face]] | None:
    """Read, shrink and label a picture; None where it cannot be read."""
    try:
        image = small(read_image(source), side)
    except DecodeError as error:
        print(error, flush=True)
        return None
    faces = []
    for face in teacher(image, source):
        x1, y1, x2, y2 = face.box
        tiny = min(x2 - x1, y2 - y1) < LEAST_PX
        faces.append(Face(face.box, face.kps, face.ignore or tiny, face.score))
    return image, faces


def write(path: Path, image: np.ndarray) -> None:
    """Write a JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not done:
        raise SystemExit(f"{path} cannot be written")
    path.write_bytes(data.tobytes())


def labelled(
    sources: Iterable[str], by: Teacher, side: int, workers: int
) -> Iterator[tuple[str, np.ndarray, list[Face]]]:
    """Label many pictures at once, in their order."""
    listed = list(sources)
    with ThreadPoolExecutor(workers) as pool:
        for n, (source, result) in enumerate(
            zip(listed, pool.map(lambda s: label(s, by, side), listed), strict=True), 1
        ):
            if n % 500 == 0:
                print(f"{n} of {len(listed)}", flush=True)
            if result is not None:
                yield source, *result


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = arguments.add_argument
    add("photos", nargs="*", metavar="PHOTOS", help="folders of pictures of people")
    add("--scenes", metavar="FOLDER", help="pictures most of which show nobody")
    add("--detector", action="append", required=True, metavar="NAME|PATH", help="a teacher")
    add("--out", type=Path, required=True, metavar="DIR")
    add("--search", type=int, nargs="+", default=[256, 448], metavar="PX", help="long sides")
    add("--search-padded", type=int, nargs="*", default=[256], metavar="PX", help="with a border")
    add("--search-scenes", type=int, nargs="+", default=[448, 832], metavar="PX")
    add("--sure", type=float, default=SURE, help="score from which a find is a face")
    add("--side", type=int, default=512, metavar="PX", help="longest side that is written")
    add("--val", type=float, default=0.03, help="share of the people for validation")
    add("--hold-out", type=float, default=0.4, help="share of the scenes for evaluation")
    add("--workers", type=int, default=2)
    args = arguments.parse_args()
    cv2.setNumThreads(1)

    parts: dict[str, dict[str, list[Face]]] = {"train": {}, "val": {}}
    counts = {"unlabelled": 0, "background": 0, "background_held_out": 0, "unsure": 0}
    by = Teacher(open_searches(args.detector, args.search, args.search_padded), args.sure)
    photos = {
        folder: {f.source: f for f in list_faces([folder], val=args.val)} for folder in args.photos
    }
    # Whom one folder puts aside another one may show, too.
    aside = {f.identity for listed in photos.values() for f in listed.values() if f.is_val}
    for folder, listed in photos.items():
        for source, image, faces in labelled(listed, by, args.side, args.workers):
            if all(face.ignore for face in faces):
                counts["unlabelled"] += 1
                continue
            part = "val" if listed[source].identity in aside else "train"
            name = f"images/{Path(folder).name}/{listed[source].name}.jpg"
            write(args.out / part / name, image)
            parts[part][name] = faces
        print(folder, {part: len(rows) for part, rows in parts.items()}, flush=True)
    if args.scenes:
        by = Teacher(open_searches(args.detector, args.search_scenes, []), args.sure)
        listed = {f.source: f for f in list_faces([args.scenes])}
        for source, image, faces in labelled(listed, by, args.side, args.workers):
            apart, name = held_out(source, args.hold_out), f"{listed[source].name}.jpg"
            if not faces:
                kind = "background_held_out" if apart else "background"
                write(args.out / kind / name, image)
                counts[kind] += 1
            elif apart or all(face.ignore for face in faces):
                counts["unsure"] += 1
            else:
                write(args.out / "train" / "images" / "scenes" / name, image)
                parts["train"][f"images/scenes/{name}"] = faces
    for part, rows in parts.items():
        if rows:
            write_annotations(args.out / part, rows)
        counts[part] = len(rows)
        counts[f"{part}_faces"] = sum(not f.ignore for faces in rows.values() for f in faces)
        counts[f"{part}_ignored"] = sum(f.ignore for faces in rows.values() for f in faces)
    searches = {"photos": args.search, "padded": args.search_padded, "scenes": args.search_scenes}
    record = {
        "teachers": list(dict.fromkeys(str(s.detector.info) for s in by.searches)),
        "searches": searches,
        "sure": args.sure,
        "seen": SEEN,
        "val": args.val,
        "hold_out": args.hold_out,
        "counts": counts,
    }
    (args.out / "data.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(counts))


if __name__ == "__main__":
    try:
        main()
    except BlurgateError as error:
        raise SystemExit(f"error: {error}") from None
