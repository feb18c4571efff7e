"""Label pictures and frames of videos with a detector at high resolution, as a reference.

    python scripts/label_pictures.py SOURCE... --detector TEACHER.onnx --out DIR

leaves DIR/annotations.json and DIR/images/, an annotated folder that `blurgate evaluate --detector`
reads. Videos give --frames frames, every k-th from the first one on. Each picture is searched at
the sizes of --search (longer side of the detector's input) and, with a border of half its longer
side around it, at those of --search-padded, because SCRFD misses faces that fill the frame. Finds
below --sure are written as ignored: the reference does not know what they are. Only for evaluation:
these are a model's labels and no person's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2

from blurgate.errors import BlurgateError
from blurgate.io.sources import Source, expand, read_sources
from blurgate.io.text import digest
from blurgate.io.video import estimate_frames
from blurgate.training.detection.annotations import Face, write_annotations
from blurgate.training.detection.teacher import Teacher, open_searches
from blurgate.types import Frame, SourceEnd


def frames(source: Source, n: int) -> Iterator[Frame]:
    """Give the picture, or some of the frames of a video."""
    every = 1 if source.kind == "image" else max((estimate_frames(source.name) or n) // n, 1)
    given = 0
    for item in read_sources([source], every=every, workers=1):
        if isinstance(item, SourceEnd):
            if item.error:
                print(item.error)
        elif given < n:
            given += 1
            yield item


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = arguments.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="pictures, videos, folders")
    add("--detector", action="append", required=True, metavar="NAME|PATH")
    add("--out", type=Path, required=True, metavar="DIR")
    add("--search", type=int, nargs="+", default=[640, 1280], metavar="PX")
    add("--search-padded", type=int, nargs="*", default=[448], metavar="PX")
    add("--sure", type=float, default=0.5, help="score from which a find is a face")
    add("--frames", type=int, default=24, metavar="N", help="frames of each video")
    add("--pictures", type=int, metavar="N", help="at most so many sources, by digest of the name")
    args = arguments.parse_args()
    cv2.setNumThreads(1)

    teacher = Teacher(open_searches(args.detector, args.search, args.search_padded), args.sure)
    sources = list(expand(args.sources))
    if args.pictures is not None:
        sources = sorted(sources, key=lambda s: digest(Path(s.name).name))[: args.pictures]
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Face]] = {}
    for source in sources:
        for frame in frames(source, args.frames):
            stem = f"{Path(source.name).stem}_{frame.index:05d}"
            name = f"images/{stem}.png"
            if source.kind == "image":
                name = f"images/{Path(source.name).stem}-{digest(source.name)[:8]}.png"
            if name in rows:
                raise SystemExit(f"{name} is there already: {source.name} needs a name of its own")
            done, data = cv2.imencode(".png", frame.image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
            if not done:
                raise SystemExit(f"{name} cannot be written")
            (args.out / name).write_bytes(data.tobytes())
            rows[name] = teacher(frame.image, source.name)
    write_annotations(args.out, rows)
    faces = [face for found in rows.values() for face in found]
    counts = {"pictures": len(rows), "faces": sum(not f.ignore for f in faces)}
    counts["ignored"] = len(faces) - counts["faces"]
    print(json.dumps(counts))


if __name__ == "__main__":
    try:
        main()
    except BlurgateError as error:
        raise SystemExit(f"error: {error}") from None
