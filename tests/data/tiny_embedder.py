"""A plugin for tests: the embedder `tiny` needs no weights, and blur moves its vectors.

A vector holds the fine detail of a crop, so that its label rises with blur as a recogniser's does.
"""

from __future__ import annotations

import cv2
import numpy as np

from blurgate.hookspecs import hookimpl
from blurgate.interfaces import ModelInfo


def draw(side, seed, colours=(20, 235)):
    """Draw a "face": discs of all sizes that hide each other, (side, side, 3) uint8."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, 3), rng.integers(*colours, 3), np.uint8)
    for _ in range(120):
        centre = tuple(int(v * side) for v in rng.random(2))
        radius = int(side * 0.4 * rng.random() ** 3) + 1
        cv2.circle(image, centre, radius, [int(v) for v in rng.integers(*colours, 3)], -1)
    return image


def embed_one(crop):
    """Embed one (112, 112, 3) crop."""
    grey = crop.astype(np.float64).mean(axis=2)
    small = grey.reshape(56, 2, 56, 2).mean(axis=(1, 3))
    coarse = small.reshape(8, 7, 8, 7).mean(axis=(1, 3)).repeat(7, 0).repeat(7, 1)
    vector = np.append((small - coarse).ravel(), 1.0)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class TinyEmbedder:
    """Embeds, and counts what it has embedded."""

    info = ModelInfo("tiny", "")

    def __init__(self):
        self.n_crops = 0
        self.batches = []

    def __call__(self, crops):
        assert crops.shape[1:] == (112, 112, 3)
        assert crops.dtype == np.uint8
        self.n_crops += len(crops)
        self.batches.append(len(crops))
        return np.stack([embed_one(crop) for crop in crops])


@hookimpl
def register_embedders(register):
    """Register `tiny`."""
    register("tiny", lambda model, runtime: TinyEmbedder())
