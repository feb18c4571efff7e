"""How crops of faces become the input of an ONNX model, as its card says."""

from __future__ import annotations

import cv2
import numpy as np

from blurgate.cards import InputCard
from blurgate.types import CROP_SIZE, F32, U8


def input_tensor(crops: U8, card: InputCard, batch: int | None) -> F32:
    """Make the input of a model.

    Args:
        crops: (n, 112, 112, 3) uint8 BGR, at least one and at most `batch`.
        card: Size, channels, mean and std.
        batch: The model's, if it is fixed; what is missing is filled up with the last crop.

    Returns:
        (batch or n, 3, h, w) float32.
    """
    h, w = card.size
    if card.size != (CROP_SIZE, CROP_SIZE):
        crops = np.stack([cv2.resize(c, (w, h), interpolation=cv2.INTER_LINEAR) for c in crops])
    if batch is not None and len(crops) < batch:
        crops = np.concatenate([crops, np.repeat(crops[-1:], batch - len(crops), axis=0)])
    pixels = crops.transpose(0, 3, 1, 2)
    tensor = np.array(pixels[:, ::-1] if card.color == "rgb" else pixels, np.float32, order="C")
    tensor -= np.array(card.mean, np.float32).reshape(3, 1, 1)
    tensor /= np.array(card.std, np.float32).reshape(3, 1, 1)
    return tensor
