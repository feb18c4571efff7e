"""sRGB (IEC 61966-2-1) to linear light and back, on NumPy and torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from blurgate.training.arrays import Array

_CODE = np.arange(256) / 255
LINEAR: Final = np.where(_CODE <= 0.04045, _CODE / 12.92, ((_CODE + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)
"""(256,) float32: the light of each sRGB code."""


def to_linear(images: Array) -> Array:
    """Turn uint8 sRGB into float32 linear light in [0, 1]; any shape, NumPy or torch."""
    if isinstance(images, np.ndarray):
        flat = np.asarray(cv2.LUT(images.reshape(-1, 1), LINEAR), np.float32)
        return flat.reshape(images.shape)
    import torch

    table = torch.from_numpy(LINEAR).to(images.device)
    return table[images.int()]


def encode(light: Array) -> Array:
    """Turn float32 linear light in [0, 1] into float32 sRGB in [0, 1]; NumPy or torch."""
    xp: Any = np
    if not isinstance(light, np.ndarray):
        import torch as xp
    curve = 1.055 * light ** np.float32(1 / 2.4).item() - 0.055
    return xp.where(light <= 0.0031308, 12.92 * light, curve)


def decode(codes: Array) -> Array:
    """Turn float32 sRGB in [0, 1] into float32 linear light in [0, 1]; NumPy or torch."""
    xp: Any = np
    if not isinstance(codes, np.ndarray):
        import torch as xp
    return xp.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Array) -> Array:
    """Turn float32 linear light in [0, 1] into uint8 sRGB, rounded; NumPy or torch."""
    codes = encode(light) * 255 + 0.5
    if isinstance(light, np.ndarray):
        return codes.astype(np.uint8)
    import torch

    return codes.to(torch.uint8)
