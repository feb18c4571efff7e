"""Mean true label against the length of a straight motion blur, beside the original's curves.

    python scripts/label_curves.py faces_eval --detector scrfd_2.5g_bnkps.onnx \
        --embedder arcface.onnx --out curves.png

FACES is a folder with one folder of pictures per person. Of `--people` people, drawn by `--seed`,
the first picture in which a face is found is aligned and blurred with lines of 0 to 99 crop pixels:
all at the angle `--angle`, and each picture at an angle of its own that is drawn anew for every
length. Two ways: "as the original" (codes are blurred, no noise, no compression; with `--stretch`
the blurred picture is stretched to 0..255 as there) and our chain with its defaults. Printed are a
Markdown table, with the lengths at which the labels are those of the original, and for scale the
mean label between pictures of different people. Labels are not clipped here.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from blurgate import zoo
from blurgate.geometry import align_faces
from blurgate.host import get_host
from blurgate.interfaces import DetectorOptions, Embedder, Runtime
from blurgate.io.images import read_image
from blurgate.training.degrade import Chain
from blurgate.training.streams import Streams
from blurgate.types import Frame

LENGTHS = range(100)
SHOWN = (0, 20, 40, 60, 80, 95)
ORIGINAL = {
    "fixed": (0.000, 0.072, 0.182, 0.278, 0.355, 0.400),
    "random": (0.000, 0.168, 0.337, 0.469, 0.561, 0.566),
}
"""Mean true label of the system that this one re-implements, at the lengths of SHOWN."""


@dataclass(frozen=True)
class Curve:
    """Mean label at each length, with its standard error over people."""

    way: str
    angle: str
    mean: np.ndarray
    error: np.ndarray


def crops_of(args: argparse.Namespace) -> np.ndarray:
    """Align one face per person; (n, 112, 112, 3) uint8 BGR."""
    detector = zoo.open_detector(args.detector, Runtime("cpu"), DetectorOptions(args.det_size))
    people = sorted(path for path in args.faces.iterdir() if path.is_dir())
    crops: list[np.ndarray] = []
    for i in np.random.default_rng(args.seed).permutation(len(people)):
        for path in sorted(people[i].iterdir()):
            image = read_image(path)
            (found,) = detector([Frame(image, str(path), 0, None)])
            if not len(found):
                continue
            # The face in question is in the middle of these pictures.
            centre = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
            h, w = image.shape[:2]
            nearest = np.hypot(*(centre - (w / 2, h / 2)).T).argmin()
            kps = found.kps[[nearest]]
            crops.append(align_faces(image, kps, border=cv2.BORDER_REFLECT_101)[0])
            break
        if len(crops) == args.people:
            return np.stack(crops)
    raise SystemExit(f"{args.faces} has faces of {len(crops)} people, not {args.people}")


def stretched(pictures: np.ndarray) -> np.ndarray:
    """Stretch each picture to 0..255."""
    low = pictures.min((1, 2, 3), keepdims=True).astype(np.float32)
    high = pictures.max((1, 2, 3), keepdims=True).astype(np.float32)
    return ((pictures - low) / np.maximum(high - low, 1) * 255 + 0.5).astype(np.uint8)


def curve(
    crops: np.ndarray, embedder: Embedder, args: argparse.Namespace, way: str, angle: str
) -> Curve:
    """Blur and embed every crop at every length."""
    factory = get_host().registry("synthesizer")["linear"].factory
    synthesizer = factory(max_length=100.0, angle=args.angle if angle == "fixed" else None)
    chain = Chain(synthesizer)
    if way == "original":
        chain = Chain(synthesizer, linear=False, noise=False, compression=False)
    n = len(crops)
    labels = np.empty((len(LENGTHS), n))
    clean = embedder(chain.apply(crops, chain.sample(Streams(0, range(n)))).clean)
    for row, length in enumerate(LENGTHS):
        streams = Streams(args.seed, range(row * n, row * n + n))
        params = chain.sample(streams, np.full(n, length / 100, np.float32))
        pictures = chain.apply(crops, params).degraded
        if args.stretch and way == "original":
            pictures = stretched(pictures)
        labels[row] = 1 - (embedder(pictures) * clean).sum(1)
    return Curve(way, angle, labels.mean(1), labels.std(1, ddof=1) / np.sqrt(n))


def table(curves: list[Curve], args: argparse.Namespace) -> str:
    """Give the means at the lengths that are known of the original, as Markdown."""
    lines = ["| length, px | " + " | ".join(map(str, SHOWN)) + " |"]
    lines.append("| --- |" + " ---: |" * len(SHOWN))
    for angle, values in ORIGINAL.items():
        cells = " | ".join(f"{v:.3f}" for v in values)
        lines.append(f"| the original's reference, {angle} angle | {cells} |")
    ways = {"original": "as the original", "chain": "our chain"}
    if args.stretch:
        ways["original"] += ", stretched"
    for one in curves:
        title = f"{ways[one.way]}, {one.angle} angle"
        cells = " | ".join(f"{one.mean[LENGTHS.index(at)]:.3f}" for at in SHOWN)
        lines.append(f"| {title} | {cells} |")
    for one in curves:
        title = f"{ways[one.way]}, {one.angle} angle: length with the original's label"
        # Up to the first length that reaches a label; a mean of 30 people is not monotonous.
        reached = np.maximum.accumulate(one.mean)
        at = np.interp(ORIGINAL[one.angle][1:], reached, LENGTHS)
        lines.append(f"| {title} | - | " + " | ".join(f"{v:.1f}" for v in at) + " |")
    widest = max(one.error.max() for one in curves)
    lines.append(f"\nStandard error over people: at most {widest:.3f}.")
    return "\n".join(lines)


def draw(curves: list[Curve], title: str, path: Path) -> None:
    """Draw the curves with the original's values as dots."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    colours = {"fixed": "#2f6db3", "random": "#c2571a"}
    for one in curves:
        style = "--" if one.way == "original" else "-"
        name = "as the original" if one.way == "original" else "our chain"
        axes.plot(
            LENGTHS, one.mean, style, color=colours[one.angle], label=f"{name}, {one.angle} angle"
        )
    for angle, values in ORIGINAL.items():
        label = f"the original's reference, {angle} angle"
        axes.plot(SHOWN, values, "o", color=colours[angle], label=label)
    axes.set_xlabel("length of the motion, pixels of the 112 px crop")
    axes.set_ylabel("mean label (1 - cosine)")
    axes.set_xlim(0, 99)
    axes.set_ylim(0, 1.1)
    axes.set_title(title, loc="left", fontsize="medium")
    axes.grid(visible=True, color="#dddddd")
    figure.legend(fontsize="small", ncols=2, loc="outside lower center")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("--detector", required=True)
    parser.add_argument("--det-size", type=int, default=256, help="the detector's longer side")
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--angle", type=float, default=0.0, help="the fixed one, degrees")
    parser.add_argument("--stretch", action="store_true")
    parser.add_argument("--ways", nargs="+", choices=("original", "chain"), default=None)
    parser.add_argument("--out", type=Path, help="PNG of the curves")
    args = parser.parse_args()

    crops = crops_of(args)
    embedder = zoo.open_embedder(args.embedder, Runtime("cpu"))
    ways = args.ways or ("original", "chain")
    curves = [
        curve(crops, embedder, args, way, angle) for way in ways for angle in ("fixed", "random")
    ]
    title = f"{len(crops)} people, {embedder.info}, fixed angle {args.angle:g} degrees"
    print(f"{title}\n\n{table(curves, args)}")
    vectors = embedder(crops)
    others = 1 - (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    print(f"Mean label between different people: {others.mean():.3f}.")
    if args.out is not None:
        draw(curves, title, args.out)


if __name__ == "__main__":
    main()
