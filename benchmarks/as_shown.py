"""What it costs a recogniser when video is not read as it is to be shown.

    python benchmarks/as_shown.py FACES... --embedder EMBEDDER [--detector DETECTOR]

Every photo is made what such a video stores: squeezed (anamorphic), woven of two fields between
which it moves (interlaced), or in the values of high dynamic range (PQ, HLG). Then its largest face
is found and aligned twice: as stored, which is how OpenCV and insightface take such video, and as
`blurgate` shows it. Printed are the share of faces found, the cosine between the embedding of such
a crop and of the untouched photo's, its mean and the lowest in a hundred, and the mean change of
the blur degree.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import av
import av.filter
import cv2
import numpy as np

from blurgate import blur_degree, zoo
from blurgate.geometry import align_faces, area
from blurgate.interfaces import Detector, DetectorOptions, Embedder, Runtime
from blurgate.io.fields import deinterlaced
from blurgate.io.hdr import CURVES
from blurgate.training.faces import list_faces
from blurgate.types import F32, U8, Frame

Way = Callable[[U8], tuple[U8, U8]]
"""A photo -> how a video stores it, and how that is shown."""
WHITE = 203  # cd/m2
TO_BT2020 = np.array(  # of linear BT.709, by ITU-R BT.2087
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)


def widened(image: U8, by: float) -> U8:
    """Resize to another width."""
    size = round(image.shape[1] * by), image.shape[0]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def light(image: U8) -> np.ndarray:
    """Give linear RGB in BT.2020's primaries, (h, w, 3), in cd/m2."""
    values = image[..., ::-1] / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return WHITE * linear @ TO_BT2020.T


def stored(values: np.ndarray) -> U8:
    """Give uint8 BGR of RGB in [0, 1]."""
    return np.rint(255 * values[..., ::-1]).astype(np.uint8)


def as_pq(image: U8) -> U8:
    """Give the values of SMPTE ST 2084."""
    y = (light(image) / 10_000) ** 0.1593017578125
    return stored(((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375)


def as_hlg(image: U8) -> U8:
    """Give the values of HLG for a screen of 1000 cd/m2 (ITU-R BT.2100)."""
    shown = light(image) / 1000
    luminance = shown @ (0.2627, 0.6780, 0.0593)
    scene = shown * np.maximum(luminance, 1e-6)[..., None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    above = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return stored(np.clip(np.where(scene <= 1 / 12, np.sqrt(3 * scene), above), 0, 1))


def bright(image: U8, store: Callable[[U8], U8], transfer: int) -> tuple[U8, U8]:
    """High dynamic range."""
    values = store(image)
    return values, np.asarray(cv2.LUT(values, CURVES[transfer]), np.uint8)


def squeezed(image: U8, aspect: float) -> tuple[U8, U8]:
    """Pixels that are not square."""
    narrow = widened(image, 1 / aspect)
    return narrow, widened(narrow, aspect)


def woven(image: U8, pixels: int) -> tuple[U8, U8]:
    """Two fields, between which everything moves to the right; the first one is in its place."""

    def moved(fields: int) -> U8:
        by = np.array([[1, 0, fields * pixels], [0, 1, 0]], np.float32)
        border = cv2.BORDER_REPLICATE
        return np.asarray(
            cv2.warpAffine(image, by, image.shape[1::-1], borderMode=border), np.uint8
        )

    frames = []
    for first in (-2, 0, 2):
        frame = moved(first)
        frame[1::2] = moved(first + 1)[1::2]
        frames.append(frame)
    graph = av.filter.Graph()
    height, width = image.shape[:2]
    source = graph.add_buffer(width=width, height=height, format="bgr24", time_base=Fraction(1, 25))
    graph.link_nodes(
        source, graph.add("format", "yuv444p"), graph.add("setfield", "tff"),
        graph.add("buffersink"),
    ).configure()  # fmt: skip
    marked = []
    for number, frame in enumerate(frames):
        one = av.VideoFrame.from_ndarray(frame, format="bgr24")
        one.pts, one.time_base = number, Fraction(1, 25)
        graph.push(one)
        marked.append((graph.pull(), number))
    shown = {number: one.to_ndarray(format="bgr24") for one, number in deinterlaced(marked)}
    return frames[1], np.ascontiguousarray(shown[1])


WAYS: dict[str, Way] = {
    "NTSC 4:3, pixels of 8/9": partial(squeezed, aspect=8 / 9),
    "PAL 4:3, 16/15": partial(squeezed, aspect=16 / 15),
    "HDV, 4/3": partial(squeezed, aspect=4 / 3),
    "PAL 16:9, 64/45": partial(squeezed, aspect=64 / 45),
    "interlaced, 2 px a field": partial(woven, pixels=2),
    "interlaced, 4 px a field": partial(woven, pixels=4),
    "interlaced, 8 px a field": partial(woven, pixels=8),
    "PQ": partial(bright, store=as_pq, transfer=16),
    "HLG": partial(bright, store=as_hlg, transfer=18),
}


def seen(image: U8, detector: Detector, embedder: Embedder) -> tuple[F32, float] | None:
    """Give the embedding (d,) and the degree of the largest face; None if there is none."""
    (found,) = detector([Frame(image, "", 0, None)])
    if not len(found.boxes):
        return None
    largest = int(area(found.boxes).argmax())
    crops = align_faces(image, found.kps[largest : largest + 1])
    return embedder(crops)[0], float(blur_degree(crops, device="cpu")[0])


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
    look = partial(seen, detector=detector, embedder=embedder)
    listed = list_faces(arguments.faces)
    photos = [cv2.imread(face.source) for face in listed[:: max(1, len(listed) // arguments.count)]]
    clean = [(photo, truth) for photo in photos if (truth := look(photo)) is not None]
    print(f"{f'{len(clean)} faces':<38}{'found':>8}{'cosine':>8}{'lowest 1 %':>12}{'degree':>8}")
    for name, way in WAYS.items():
        rows: dict[str, list[tuple[float, float]]] = {"as stored": [], "as shown": []}
        for photo, (embedding, degree) in clean:
            for label, image in zip(rows, way(photo), strict=True):
                if (got := look(image)) is not None:
                    rows[label].append((float(got[0] @ embedding), abs(got[1] - degree)))
        for label, values in rows.items():
            cosine, change = np.array(values).T
            print(
                f"{name:<26}{label:<12}{len(values) / len(clean):>8.3f}{cosine.mean():>8.3f}"
                f"{np.percentile(cosine, 1):>12.3f}{change.mean():>8.3f}"
            )


if __name__ == "__main__":
    main()
