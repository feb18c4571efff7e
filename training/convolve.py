"""Convolution of each image of a batch with its own kernel.

It is convolution and not correlation: a kernel with its mass on the right moves the picture to the
right. Outside its borders a picture is continued by its mirror image, the edge pixel repeated
(d c b a | a b c d): nothing dark comes in, and a kernel that is its own mirror image left to right
and top to bottom keeps the mean. A slanting line does so nearly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

_BLOCK: Final = 4
_BLOCK_GPU: Final = 1024

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from blurgate.types import F32


def convolve_image(image: F32, kernel: F32) -> F32:
    """Blur one image on NumPy; the reference.

    Args:
        image: (h, w, c) float32.
        kernel: (k, k) float32, k odd; may be larger than the image.

    Returns:
        (h, w, c) float32.
    """
    # filter2D correlates, hence the flip; above 11 pixels it goes through the DFT by itself.
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    return np.asarray(cv2.filter2D(image, -1, flipped, borderType=cv2.BORDER_REFLECT), np.float32)


def convolve_batch(images: Tensor, kernels: Tensor) -> Tensor:
    """Blur a batch on torch, through the FFT.

    Args:
        images: (n, c, h, w) float32.
        kernels: (n, k, k) float32, k odd.

    Returns:
        (n, c, h, w) float32.
    """
    import torch

    if images.device.type != "cpu":
        parts = [slice(at, at + _BLOCK_GPU) for at in range(0, len(images), _BLOCK_GPU)]
        return torch.cat([_through_fft(images[part], kernels[part]) for part in parts])
    # On a CPU the caches and the number of operations count: few images at once, kernels of about
    # one size together, and no wider than they are.
    middle = kernels.shape[1] // 2
    used = (kernels != 0).any(1) | (kernels != 0).any(2)
    reach = ((torch.arange(len(used[0])) - middle).abs() * used).amax(1)
    out = torch.empty_like(images)
    order = torch.argsort(reach)
    for rows in (order[at : at + _BLOCK] for at in range(0, len(order), _BLOCK)):
        rim = middle - int(reach[rows].max())
        kernel = kernels[rows, rim : len(used[0]) - rim, rim : len(used[0]) - rim]
        out[rows] = _through_fft(images[rows], kernel)
    return out


def _through_fft(images: Tensor, kernels: Tensor) -> Tensor:
    import torch

    h, w = images.shape[2:]
    reach = kernels.shape[1] // 2
    rows, columns = (cv2.getOptimalDFTSize(side + 2 * reach) for side in (h, w))
    y, x = (
        torch.from_numpy(mirror(np.arange(-reach, full - reach), side)).to(images.device)
        for side, full in ((h, rows), (w, columns))
    )
    padded = images.index_select(2, y).index_select(3, x)
    spectrum = torch.fft.rfft2(padded)
    spectrum *= torch.fft.rfft2(kernels, (rows, columns))[:, None]
    full: Tensor = torch.fft.irfft2(spectrum, (rows, columns))
    return full[:, :, 2 * reach : 2 * reach + h, 2 * reach : 2 * reach + w].contiguous()


def mirror(index: NDArray[Any], side: int) -> NDArray[np.int64]:
    """Map pixel indices outside [0, side) to the pixel whose mirror image lies there.

    >>> mirror(np.arange(-3, 6), 3).tolist()
    [2, 1, 0, 0, 1, 2, 2, 1, 0]
    """
    folded = np.mod(index, 2 * side)
    return np.asarray(np.minimum(folded, 2 * side - 1 - folded), np.int64)


def box_matrix(source: int, target: int) -> NDArray[np.float64]:
    """Give the (target, source) matrix that resizes by area, or bilinearly when enlarging."""
    scale = source / target
    centre = (np.arange(target)[:, None] + 0.5) * scale - 0.5
    distance = np.arange(-math.ceil(scale) - 1, source + math.ceil(scale) + 1)[None, :] - centre
    if scale >= 1:
        weight = np.clip((scale + 1) / 2 - np.abs(distance), 0, 1)
    else:
        weight = np.clip(1 - np.abs(distance), 0, None)
    weight /= weight.sum(1, keepdims=True)
    extra = math.ceil(scale) + 1
    matrix = np.zeros((target, source))
    columns = np.clip(np.arange(-extra, source + extra), 0, source - 1)
    for column, values in zip(columns, weight.T, strict=True):
        matrix[:, column] += values
    return matrix
