"""Show what every method does to a face: a PNG of five severities with the label under each.

    python scripts/contact_sheet.py FACE --detector scrfd_2.5g_bnkps.onnx --embedder arcface.onnx \
        --out sheet.png

FACE is a picture with a face in it. `--crop` takes it as a ready crop instead, and needs no
detector. The clean twin comes first, then severity 0, which has the noise and the compression and
no blur, then five severities of one draw. Labels are 1 - cosine(embedding(clean),
embedding(picture)), clipped to [0, 1]. `--bare` leaves noise and compression out, `--srgb` blurs
codes and not light. Printed are the labels and the mean light of the pictures, which blur keeps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blurgate import zoo
from blurgate.geometry import ARCFACE_TEMPLATE, similarity
from blurgate.host import get_host
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.io.images import read_image
from blurgate.training.colour import to_linear
from blurgate.training.degrade import Chain
from blurgate.training.streams import Streams
from blurgate.types import CROP_SIZE, Frame

METHODS = ("deblurgan", "linear", "defocus", "gaussian", "lowres", "random")
SEVERITIES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
GAP, LINE, SIDE = 8, 16, 92
BACK, INK = (255, 255, 255), (20, 20, 20)


def framed(image: np.ndarray, args: argparse.Namespace) -> tuple[np.ndarray, int]:
    """Cut the face at its own resolution, within 1 to 2 times 112 px, with a margin.

    Returns:
        (s, s, 3) uint8 BGR, and the margin in its pixels.
    """
    if args.crop:
        return image, 0
    detector = zoo.open_detector(args.detector, Runtime("cpu"), DetectorOptions(args.det_size))
    (found,) = detector([Frame(image, str(args.face), 0, None)])
    if not len(found):
        raise SystemExit(f"no face in {args.face}")
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    kps = found.kps[areas.argmax()]
    matrix = similarity(kps, ARCFACE_TEMPLATE)
    px = min(max(1 / float(np.hypot(*matrix[:, 0])), 1), 2)
    inner = round(CROP_SIZE * px)
    margin = round(args.margin * inner)
    matrix = similarity(kps, ARCFACE_TEMPLATE * (inner / CROP_SIZE)) + [[0, 0, margin]] * 2
    size = (inner + 2 * margin,) * 2
    return cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT_101), margin


def sheet(rows: list[tuple[str, list[tuple[np.ndarray, str]]]], note: str) -> Image.Image:
    """Lay titled rows of captioned BGR pictures out."""
    columns = max(len(cells) for _, cells in rows)
    tall = CROP_SIZE + 2 * LINE + GAP
    size = (SIDE + columns * (CROP_SIZE + GAP), len(rows) * tall + LINE + 2 * GAP)
    out = Image.new("RGB", size, BACK)
    draw = ImageDraw.Draw(out)
    font = ImageFont.load_default(13)
    for r, (title, cells) in enumerate(rows):
        y = GAP + r * tall
        draw.text((GAP, y + CROP_SIZE // 2 - LINE // 2), title, INK, font)
        for c, (picture, caption) in enumerate(cells):
            x = SIDE + c * (CROP_SIZE + GAP)
            out.paste(Image.fromarray(np.ascontiguousarray(picture[..., ::-1])), (x, y))
            draw.multiline_text((x, y + CROP_SIZE), caption, INK, font, spacing=1)
    draw.text((GAP, size[1] - LINE - GAP // 2), note, INK, font)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("face", type=Path)
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--detector")
    parser.add_argument("--det-size", type=int, default=320, help="the detector's longer side")
    parser.add_argument("--crop", action="store_true", help="FACE is a ready square crop")
    parser.add_argument("--margin", type=float, default=0.25, help="around it, share of the crop")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bare", action="store_true", help="no noise and no compression")
    parser.add_argument("--srgb", action="store_true", help="blur sRGB codes, not light")
    parser.add_argument("--out", type=Path, required=True, help="PNG or JPEG")
    args = parser.parse_args()

    crop, margin = framed(read_image(args.face), args)
    embedder = zoo.open_embedder(args.embedder, Runtime("cpu"))
    n = len(SEVERITIES)
    crops = np.repeat(crop[None], n, 0)
    registry = get_host().registry("synthesizer")
    rows = []
    for method in METHODS:
        synthesizer = registry[method].factory()
        on = not args.bare
        chain = Chain(synthesizer, not args.srgb, noise=on, compression=on, margin=margin)
        # One stream for all, so that a row is one draw which grows.
        params = chain.sample(Streams(args.seed, [0] * n), np.array(SEVERITIES, np.float32))
        pair = chain.apply(crops, params)
        clean, blurred = embedder(pair.clean[:1]), embedder(pair.degraded)
        labels = (1 - blurred @ clean[0]).clip(0, 1)
        captions = [f"s {s:g}\nlabel {v:.3f}" for s, v in zip(SEVERITIES, labels, strict=True)]
        title = method if method != "random" else f"random\n({params[0]['blur']['method']})"
        rows.append((title, [(pair.clean[0], "clean"), *zip(pair.degraded, captions, strict=True)]))
        light = to_linear(np.concatenate([pair.clean[:1], pair.degraded])).mean((1, 2, 3))
        print(f"{method:<10} labels {np.round(labels, 3)} mean light {np.round(light, 3)}")
    working = len(crop) - 2 * margin
    note = f"blurred at {working} px, shown at 112 px; s: severity; labels by {embedder.info}"
    sheet(rows, note).save(args.out)
    print(f"{args.out}: {note}")


if __name__ == "__main__":
    main()
