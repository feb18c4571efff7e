"""Measure how well unlike pictures are told from one picture that was panned, zoomed and re-lit.

    python scripts/check_scene_cuts.py FOLDER [FOLDER...]

Takes up to 400 pictures of the folders. Prints, for pairs of different pictures and for pairs of
views into one (shifted by a share of its width, zoomed, with another exposure), how many would be
taken for a cut.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from blurgate.scenecut import is_cut, thumbnail
from blurgate.types import U8, Frame

PAIRS = 2000
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3)
ZOOMS = (1.0, 1.15)


def small(image: U8) -> U8:
    """Make the thumbnail of a picture."""
    return thumbnail(Frame(np.ascontiguousarray(image), "", 0, None))


def views(image: U8, share: float, zoom: float, rng: np.random.Generator) -> tuple[U8, U8]:
    """Cut two views of 60 % of each side out of a picture."""
    h, w = image.shape[:2]
    vh, vw = int(0.6 * h), int(0.6 * w)
    top, left = int(0.2 * h), int(0.05 * w)
    first = image[top : top + vh, left : left + vw]
    zh, zw = int(vh / zoom), int(vw / zoom)
    top += (vh - zh) // 2
    left += int(vw * share) + (vw - zw) // 2
    second = image[top : top + zh, left : left + zw]
    gain, offset = rng.uniform(0.8, 1.2), rng.uniform(-15, 15)
    return first, np.clip(second * gain + offset, 0, 255).astype(np.uint8)


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    rng = np.random.default_rng(0)
    images = []
    for folder in parser.parse_args().folders:
        paths = sorted(folder.glob("*.jpg"))[:200]
        images += [image for path in paths if (image := cv2.imread(str(path))) is not None]
    thumbnails = [small(image) for image in images]
    pairs = rng.integers(0, len(images), (PAIRS, 2))
    cuts = [is_cut(thumbnails[i], thumbnails[j]) for i, j in pairs if i != j]
    print(f"{'different pictures':28} {np.mean(cuts):6.1%} cuts")
    for zoom in ZOOMS:
        for share in SHARES:
            cuts = [is_cut(*map(small, views(image, share, zoom, rng))) for image in images]
            print(f"{f'pan {share:.0%}, zoom {zoom:g}':28} {np.mean(cuts):6.1%} cuts")


if __name__ == "__main__":
    main()
