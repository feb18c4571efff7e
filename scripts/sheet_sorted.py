"""Lay the faces of a folder or of videos out by their blur degree, sharpest first.

    python scripts/sheet_sorted.py real_blur --align-with scrfd_2.5g_bnkps.onnx --out sheet.png
    python scripts/sheet_sorted.py walk.mp4 --every 10 --align-with scrfd_2.5g_bnkps.onnx \
        --model blur.onnx --out sheet.png

Of all faces found, `--count` are shown, evenly over their ranks, so that the sheet runs from the
sharpest to the most blurred face; each has its degree below it. `--aligned` takes pictures that are
face crops already. A person looks at the sheet and says where the order is wrong; the printed list
has the files in the same order.

`--by-kind` lays faces of at least `--least` degree out by the kind of blur that the model tells:
a block for each kind, with the direction of a motion below the face.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blurgate import zoo
from blurgate.finding import find_faces
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.io.sources import expand, read_sources
from blurgate.stages import check_kinds, ready_crops, score
from blurgate.types import CROP_SIZE, BlurKind, SourceEnd

GAP, LINE = 6, 16
BACK, INK = (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True)
class Shown:
    """A face, and what it was given."""

    degree: float
    where: str
    crop: np.ndarray
    kind: BlurKind | None

    @property
    def caption(self) -> str:
        """What stands below the face."""
        if self.kind is None or self.kind.angle is None:
            return f"{self.degree:.3f}"
        return f"{self.degree:.3f}, {self.kind.angle:.0f}°"


def scored(args: argparse.Namespace) -> list[Shown]:
    """Give every face that is found, sharpest first."""
    runtime = Runtime("cpu")
    scorer = zoo.open_scorer(args.model, runtime)
    if args.by_kind:
        check_kinds(scorer)
    frames = read_sources(expand(args.source), every=args.every, workers=1)
    if args.aligned:
        faces = ready_crops(frames)
    else:
        options = DetectorOptions(args.det_size)
        faces = find_faces(frames, zoo.open_detector(args.align_with, runtime, options), workers=1)
    found = []
    for item in score(faces, scorer, kinds=args.by_kind):
        if isinstance(item, SourceEnd):
            if item.status != "ok":
                print(f"{item.source}: {item.error}")
            continue
        frame = item.faces.detections.frame
        boxes = item.faces.detections.boxes
        kinds = item.kinds or [None] * len(item)
        for i, (degree, crop, box) in enumerate(
            zip(item.blur_degree, item.faces.crops, boxes, strict=True)
        ):
            if args.aligned or min(box[2] - box[0], box[3] - box[1]) >= args.min_face:
                where = f"{frame.source}:{frame.index}"
                found.append(Shown(float(degree), where, crop, kinds[i]))
    return sorted(found, key=lambda face: (face.degree, face.where))


def spread(faces: list[Shown], count: int) -> list[Shown]:
    """Take so many faces, evenly over their ranks."""
    places = np.unique(np.linspace(0, len(faces) - 1, min(count, len(faces))).round())
    return [faces[int(i)] for i in places]


def sheet(blocks: dict[str, list[Shown]], columns: int, note: str) -> Image.Image:
    """Lay faces out row by row with their degrees; a block with a title begins below it."""
    tall, wide = CROP_SIZE + LINE + GAP, CROP_SIZE + GAP
    rows = sum(-(-len(faces) // columns) for faces in blocks.values())
    titles = sum(map(bool, blocks))
    height = GAP + rows * tall + (titles + 1) * LINE
    out = Image.new("RGB", (GAP + columns * wide, height), BACK)
    draw = ImageDraw.Draw(out)
    font = ImageFont.load_default(13)
    top = GAP
    for title, faces in blocks.items():
        if title:
            draw.text((GAP, top), title, INK, font)
            top += LINE
        for i, face in enumerate(faces):
            x, y = GAP + i % columns * wide, top + i // columns * tall
            out.paste(Image.fromarray(np.ascontiguousarray(face.crop[..., ::-1])), (x, y))
            draw.text((x, y + CROP_SIZE), face.caption, INK, font)
        top += -(-len(faces) // columns) * tall
    draw.text((GAP, out.height - LINE), note, INK, font)
    return out


def by_kind(faces: list[Shown], least: float, count: int) -> dict[str, list[Shown]]:
    """Give a block for each kind of blur, with as many faces of each as far as there are."""
    blurred = [face for face in faces if face.degree >= least]
    kinds = sorted({face.kind.kind for face in blurred})
    blocks = {}
    for kind in kinds:
        own = [face for face in blurred if face.kind.kind == kind]
        shown = spread(own, max(1, count // len(kinds)))
        blocks[f"{kind}: {len(own)} faces of degree {least:g} and more"] = shown
    return blocks


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
    parser.add_argument("--by-kind", action="store_true", help="a block for each kind of blur")
    parser.add_argument("--least", type=float, default=0.2, help="least degree for --by-kind")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True, help="PNG or JPEG")
    args = parser.parse_args()

    faces = scored(args)
    if not faces:
        raise SystemExit("no face was found")
    if args.by_kind:
        blocks = by_kind(faces, args.least, args.count)
    else:
        blocks = {"": spread(faces, args.count)}
    chosen = [face for block in blocks.values() for face in block]
    for face in chosen:
        print(f"{face.caption}  {face.where}" + (f"  {face.kind.kind}" if face.kind else ""))
    model = zoo.open_scorer(args.model, Runtime("cpu")).info
    note = f"{len(chosen)} of {len(faces)} faces by {model}: sharpest first, row by row"
    sheet(blocks, args.columns, note).save(args.out)
    print(f"{args.out}: {note}")


if __name__ == "__main__":
    main()
