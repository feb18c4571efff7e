"""Cut the aligned faces out of photos once, for trainings that blur them on the fly.

    python scripts/align_faces.py PHOTOS... --detector scrfd.onnx --out CROPS [--size 160]

writes CROPS/<folder>/<stem>.png for PHOTOS/<stem>.*, one square per photo: the largest face on the
ArcFace template, with as many pixels as the photo has for it, at most --size and at least 112.
Reading these takes a second where finding the faces again takes minutes.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from blurgate import zoo
from blurgate.errors import BlurgateError
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.training.faces import Face, FaceReader, Skipped, list_faces


def main() -> None:
    """Align."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTOS")
    add("--detector", required=True)
    add("--det-size", type=int, default=256)
    add("--size", type=int, default=160)
    add("--out", type=Path, required=True)
    add("--workers", type=int, default=2)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    options = DetectorOptions(long_side=arguments.det_size)
    detector = zoo.open_detector(arguments.detector, Runtime("cpu"), options)
    reader = FaceReader(arguments.size, detector)

    faces = list_faces(arguments.photos, identity="name")
    crops: dict[Path, Face] = {}
    for face in faces:
        photo = Path(face.source)
        other = crops.setdefault(arguments.out / photo.parent.name / f"{photo.stem}.png", face)
        if other is not face:
            raise SystemExit(f"error: {other.source} and {photo} would become one file in --out")

    def cut(face: Face, to: Path) -> str:
        crop = reader(face.source)
        if isinstance(crop, Skipped):
            return crop.error
        to.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(to), crop, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            return f"{to}: it cannot be written"
        return ""

    with ThreadPoolExecutor(arguments.workers) as pool:
        errors = [line for line in pool.map(cut, crops.values(), crops) if line]
    print("\n".join([*errors, f"{len(faces) - len(errors)} of {len(faces)} faces"]))


if __name__ == "__main__":
    try:
        main()
    except BlurgateError as error:
        raise SystemExit(f"error: {error}") from None
