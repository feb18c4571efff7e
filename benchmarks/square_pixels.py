"""What it costs a recogniser when pixels that are not square are taken for square ones.

    python benchmarks/square_pixels.py FACES... --embedder EMBEDDER [--detector DETECTOR]

Every photo is squeezed as anamorphic video stores it. Then its largest face is found and aligned
twice: as stored, which is what OpenCV and insightface do with such video, and brought back to
square pixels, as `blurgate` does. Printed are the share of faces found and the cosine between the
embedding of such a crop and of the untouched photo's: the mean, and the lowest in a hundred.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np

from blurgate import zoo
from blurgate.geometry import align_faces, area
from blurgate.interfaces import Detector, DetectorOptions, Embedder, Runtime
from blurgate.training.faces import list_faces
from blurgate.types import F32, U8, Frame

ASPECTS = {
    "NTSC 4:3": Fraction(8, 9),
    "PAL 4:3": Fraction(16, 15),
    "HDV": Fraction(4, 3),
    "PAL 16:9": Fraction(64, 45),
}


def embedding(image: U8, detector: Detector, embedder: Embedder) -> F32 | None:
    """Give the embedding (d,) of the largest face; None if there is none."""
    (found,) = detector([Frame(image, "", 0, None)])
    if not len(found.boxes):
        return None
    largest = int(area(found.boxes).argmax())
    return embedder(align_faces(image, found.kps[largest : largest + 1]))[0]


def of_width(image: U8, width: int) -> U8:
    """Resize to another width."""
    return np.asarray(cv2.resize(image, (width, image.shape[0]), interpolation=cv2.INTER_LINEAR))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", nargs="+", metavar="FACES")
    parser.add_argument("--detector")
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    runtime = Runtime("cpu", 1)
    detector = zoo.open_detector(arguments.detector, runtime, DetectorOptions(256))
    embedder = zoo.open_embedder(arguments.embedder, runtime)
    listed = list_faces(arguments.faces)
    photos = [cv2.imread(face.source) for face in listed[:: max(1, len(listed) // arguments.count)]]
    clean = [embedding(photo, detector, embedder) for photo in photos]
    pairs = [
        (photo, truth) for photo, truth in zip(photos, clean, strict=True) if truth is not None
    ]
    print(f"{len(pairs)} faces  {'':<10}{'found':>8}{'cosine':>8}{'lowest 1 %':>12}")
    for name, aspect in ASPECTS.items():
        cosines: dict[str, list[float]] = {"as stored": [], "square": []}
        for photo, truth in pairs:
            stored = of_width(photo, round(photo.shape[1] / aspect))
            ways: Sequence[U8] = (stored, of_width(stored, photo.shape[1]))
            for values, image in zip(cosines.values(), ways, strict=True):
                found = embedding(image, detector, embedder)
                if found is not None:
                    values.append(float(found @ truth))
        for way, values in cosines.items():
            print(
                f"{name:<10}{way:<10}{len(values) / len(pairs):>8.3f}{np.mean(values):>8.3f}"
                f"{np.percentile(values, 1):>12.3f}"
            )


if __name__ == "__main__":
    main()
