"""Lay the faces of a folder or of videos out by their blur degree, sharpest first.

    python scripts/sheet_sorted.py real_blur --align-with scrfd_2.5g_bnkps.onnx --out sheet.png
    python scripts/sheet_sorted.py walk.mp4 --every 10 --align-with scrfd_2.5g_bnkps.onnx \
        --model blur.onnx --out sheet.png

Of all faces found, `--count` are shown, evenly over their ranks, so that the sheet runs from the
sharpest to the most blurred face; each has its degree below it. `--aligned` takes pictures that are
face crops already. A person looks at the sheet and says where the order is wrong; the printed list
has the files in the same order.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blurgate import zoo
from blurgate.finding import find_faces
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.io.sources import expand, read_sources
from blurgate.stages import ready_crops, score
from blurgate.types import CROP_SIZE, SourceEnd

GAP, LINE = 6, 16
BACK, INK = (255, 255, 255), (20, 20, 20)


def scored(args: argparse.Namespace) -> list[tuple[float, str, np.ndarray]]:
    """Give (degree, where, crop) of every face that is found."""
    runtime = Runtime("cpu")
    scorer = zoo.open_scorer(args.model, runtime)
    frames = read_sources(expand(args.source), every=args.every, workers=1)
    if args.aligned:
        faces = ready_crops(frames)
    else:
        options = DetectorOptions(args.det_size)
        faces = find_faces(frames, zoo.open_detector(args.align_with, runtime, options), workers=1)
    found = []
    for item in score(faces, scorer):
        if isinstance(item, SourceEnd):
            if item.status != "ok":
                print(f"{item.source}: {item.error}")
            continue
        frame = item.faces.detections.frame
        boxes = item.faces.detections.boxes
        for degree, crop, box in zip(item.blur_degree, item.faces.crops, boxes, strict=True):
            if args.aligned or min(box[2] - box[0], box[3] - box[1]) >= args.min_face:
                found.append((float(degree), f"{frame.source}:{frame.index}", crop))
    return sorted(found, key=lambda face: face[:2])


def sheet(faces: list[tuple[float, str, np.ndarray]], columns: int, note: str) -> Image.Image:
    """Lay faces out row by row with their degrees."""
    rows = -(-len(faces) // columns)
    tall, wide = CROP_SIZE + LINE + GAP, CROP_SIZE + GAP
    out = Image.new("RGB", (GAP + columns * wide, GAP + rows * tall + LINE), BACK)
    draw = ImageDraw.Draw(out)
    font = ImageFont.load_default(13)
    for i, (degree, _, crop) in enumerate(faces):
        x, y = GAP + i % columns * wide, GAP + i // columns * tall
        out.paste(Image.fromarray(np.ascontiguousarray(crop[..., ::-1])), (x, y))
        draw.text((x, y + CROP_SIZE), f"{degree:.3f}", INK, font)
    draw.text((GAP, out.height - LINE), note, INK, font)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", nargs="+", help="pictures, folders or videos")
    parser.add_argument("--model", help="scorer: a name or .onnx; the default one without it")
    parser.add_argument("--align-with", help="detector: a name or .onnx")
    parser.add_argument("--aligned", action="store_true", help="the pictures are face crops")
    parser.add_argument("--det-size", type=int, default=320, help="the detector's longer side")
    parser.add_argument("--min-face", type=float, default=24, help="least side of a box, pixels")
    parser.add_argument("--every", type=int, default=1, help="every Nth frame of a video")
    parser.add_argument("--count", type=int, default=100, help="faces that are shown")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True, help="PNG or JPEG")
    args = parser.parse_args()

    faces = scored(args)
    if not faces:
        raise SystemExit("no face was found")
    spread = np.unique(np.linspace(0, len(faces) - 1, min(args.count, len(faces))).round())
    chosen = [faces[int(i)] for i in spread]
    for degree, where, _ in chosen:
        print(f"{degree:.3f}  {where}")
    model = zoo.open_scorer(args.model, Runtime("cpu")).info
    note = f"{len(chosen)} of {len(faces)} faces by {model}: sharpest first, row by row"
    sheet(chosen, args.columns, note).save(args.out)
    print(f"{args.out}: {note}")


if __name__ == "__main__":
    main()
