"""Blur photos along lines of known direction, and compare what a scorer says of them.

    python scripts/check_directions.py PHOTOS [--length 20] [--count 60] [--model NAME|PATH]

The lines are drawn point by point, and not by the synthesizers that scorers learn from. Printed are
how often each kind of blur is told, and how far directions are off.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from blurgate import Gate
from blurgate.errors import BlurgateError
from blurgate.io.images import read_image
from blurgate.io.sources import expand

POINTS = 2001


def line(length: float, angle_deg: float) -> np.ndarray:
    """Draw a kernel: a line through its middle, counter-clockwise from the horizontal as seen."""
    reach = int(length / 2) + 1
    at = np.linspace(-length / 2, length / 2, POINTS)
    angle = np.deg2rad(angle_deg)
    x, y = np.rint(reach + at * np.cos(angle)), np.rint(reach - at * np.sin(angle))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    np.add.at(kernel, (y.astype(int), x.astype(int)), 1 / POINTS)
    return kernel


def main() -> None:
    """Print the counts and the errors."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = arguments.add_argument
    add("photos", nargs="+", metavar="PHOTOS", help="pictures, folders")
    add("--length", type=float, default=20.0, metavar="PX", help="in pixels of the photo")
    add("--count", type=int, default=60, metavar="N", help="photos, evenly spread over all")
    add("--model", metavar="NAME|PATH", help="scorer [default: the default one]")
    add("--seed", type=int, default=0)
    args = arguments.parse_args()

    listed = [source.name for source in expand(args.photos) if source.kind == "image"]
    chosen = listed[:: max(len(listed) // args.count, 1)][: args.count]
    rng = np.random.default_rng(args.seed)
    gate = Gate(scorer=args.model, kinds=True)
    told: Counter[str] = Counter()
    off = []
    for name in chosen:
        angle = rng.uniform(0, 180)
        blurred = cv2.filter2D(
            read_image(Path(name)), -1, line(args.length, angle), borderType=cv2.BORDER_REFLECT
        )
        for verdict in gate(blurred)[:1]:
            kind = verdict.blur_kind
            assert kind is not None
            told[kind.kind] += 1
            if kind.angle is not None:
                off.append(abs((kind.angle - angle + 90) % 180 - 90))
    print(f"{len(chosen)} photos, {sum(told.values())} faces by {gate.scorer.info}: {dict(told)}")
    if off:
        print(f"directions off by {np.median(off):.1f} degrees in the median")


if __name__ == "__main__":
    try:
        main()
    except BlurgateError as error:
        raise SystemExit(f"error: {error}") from None
