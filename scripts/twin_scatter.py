"""How far an 8-bit twin's degrees scatter about its model's, and how jumpy both are.

    python scripts/twin_scatter.py TRAINSET yolov5n_xx_relu yolov5n_xx_relu.int8

For every model, over 512 pictures of a `blurgate synth` folder: the deviation of its degrees from
the first model's, and by how much they change, in the mean and at most, where one value in a
thousand is one step higher or lower.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from blurgate import zoo
from blurgate.interfaces import Runtime
from blurgate.training.dataset import Dataset

PICTURES = 512
SHARE = 1e-3


def main() -> None:
    """Print a line a model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", nargs="+")
    args = parser.parse_args()
    data = Dataset(args.folder, split="val")
    pictures = data.pictures(np.linspace(0, len(data) - 1, min(PICTURES, len(data))).astype(int))
    rng = np.random.default_rng(0)
    step = rng.choice((-1, 1), pictures.shape) * (rng.random(pictures.shape) < SHARE)
    moved = np.clip(pictures + step, 0, 255).astype(np.uint8)
    first = None
    for name in args.model:
        scorer = zoo.open_scorer(name, Runtime("cpu"))
        degree = scorer(pictures)
        first = degree if first is None else first
        change = np.abs(scorer(moved) - degree)
        print(
            f"{name}: deviation {np.std(degree - first):.4f}, change {change.mean():.5f} in the "
            f"mean, {change.max():.4f} at most"
        )


if __name__ == "__main__":
    main()
