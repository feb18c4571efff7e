"""Lossy compression, so that a model does not take its traces, or their absence, for sharpness.

Two codecs, both with 8x8 cosine transforms and halved colour (4:2:0):

`jpeg`  the NumPy reference is libjpeg itself (through OpenCV); the batched model below repeats its
        integer steps in floating point and needs no file.
`h264`  a stand-in for intra-coded video: H.264's flat quantiser with its dead zone and step sizes
        (QP 4 is a step of 1, six more double it), without prediction, deblocking or 4x4 blocks. The
        same arithmetic in both libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from blurgate.training.arrays import on_numpy, on_torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from blurgate.training.arrays import Array, Arrays
    from blurgate.types import U8

# Annex K of ITU-T T.81.
_LUMA: Final = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMA: Final = np.full((8, 8), 99)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

_WAVE: Final = np.cos(np.pi * (2 * np.arange(8)[None, :] + 1) * np.arange(8)[:, None] / 16) / 2
_WAVE[0] /= np.sqrt(2)
_ROUND: Final = 0.5
_DEAD_ZONE: Final = 1 / 3  # H.264's usual rounding offset for intra blocks
# BGR -> Y, Cb, Cr (JFIF) and back
_TO_YCC: Final = np.array(
    [[0.114, 0.587, 0.299], [0.5, -0.331264, -0.168736], [-0.081312, -0.418688, 0.5]]
)
_TO_BGR: Final = np.array([[1, 1.772, 0], [1, -0.344136, -0.714136], [1, 0, 1.402]])


def compress_image(image: U8, codec: str, strength: int) -> U8:
    """Compress one picture and decode it again, on NumPy; the reference.

    Args:
        image: (h, w, 3) uint8 BGR.
        codec: jpeg or h264.
        strength: JPEG's quality in 1..100, or H.264's QP in 0..51.

    Returns:
        (h, w, 3) uint8 BGR.
    """
    if codec == "jpeg":
        _, file = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, strength])
        return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))[None]
    out = _transform(on_numpy(), planes.astype(np.float32), [codec], [strength])
    return np.ascontiguousarray(out[0].transpose(1, 2, 0)).astype(np.uint8)


def compress_batch(images: Tensor, codec: Sequence[str], strength: Sequence[int]) -> Tensor:
    """Compress a batch and decode it again, on torch, without files.

    Args:
        images: (n, 3, h, w) uint8 BGR.
        codec: n times jpeg or h264.
        strength: n as for `compress_image`.

    Returns:
        (n, 3, h, w) uint8 BGR.
    """
    import torch

    out: Tensor = _transform(on_torch(images.device), images.float(), codec, strength)
    return out.to(torch.uint8)


def _transform(
    arrays: Arrays, images: Array, codec: Sequence[str], strength: Sequence[int]
) -> Array:
    """Code and decode (n, 3, h, w) float32 BGR of whole numbers in [0, 255]."""
    xp = arrays.xp
    h, w = images.shape[2:]
    rows, columns = (np.minimum(np.arange(-(-side // 16) * 16), side - 1) for side in (h, w))
    row_index, column_index = (
        arrays.whole(arrays.floats(rows)),
        arrays.whole(arrays.floats(columns)),
    )
    padded = images[:, :, row_index][:, :, :, column_index]
    ycc = _mix(arrays, padded, _TO_YCC)
    ycc[:, 1:] += 128
    ycc = xp.clip(xp.floor(ycc + 0.5), 0, 255)

    colour = ycc[:, 1:, 0::2] + ycc[:, 1:, 1::2]
    colour = colour[:, :, :, 0::2] + colour[:, :, :, 1::2]
    bias = arrays.single(arrays.floats(1 + np.arange(colour.shape[3]) % 2))  # as libjpeg does
    colour = xp.floor((colour + bias) / 4)

    luma = _blocks(arrays, ycc[:, :1], _tables(codec, strength, _LUMA), codec)
    colour = _enlarge(arrays, _blocks(arrays, colour, _tables(codec, strength, _CHROMA), codec))
    ycc = xp.concatenate([luma, colour - 128], 1)
    out = xp.floor(_mix(arrays, ycc, _TO_BGR) + 0.5)
    return xp.clip(out, 0, 255)[:, :, :h, :w]


def _tables(codec: Sequence[str], strength: Sequence[int], base: Any) -> Any:
    """Give the quantiser's steps of every picture, (n, 8, 8) float64."""
    number = np.array(strength)[:, None, None]
    scale = np.where(number < 50, 5000 // np.maximum(number, 1), 200 - 2 * number)
    jpeg = np.clip((base * scale + 50) // 100, 1, 255)
    flat = 2.0 ** ((number - 4) / 6)
    return np.where(np.array([name == "jpeg" for name in codec])[:, None, None], jpeg, flat)


def _blocks(arrays: Arrays, planes: Array, tables: Any, codec: Sequence[str]) -> Array:
    """Quantise the 8x8 cosine transform of (n, c, h, w) in [0, 255]."""
    xp = arrays.xp
    n, c, h, w = planes.shape
    wave = arrays.single(arrays.floats(_WAVE))
    step = arrays.single(arrays.floats(tables))[:, None, None, :, None, :]
    offset = [_DEAD_ZONE if name == "h264" else _ROUND for name in codec]
    offset = arrays.single(arrays.floats(offset))[:, None, None, None, None, None]
    # Products of small matrices only: for larger ones NumPy's BLAS starts threads.
    down = wave @ (planes - 128).reshape(n, c, h // 8, 8, w)
    both = down.reshape(n, c, h // 8, 8, w // 8, 8) @ wave.T
    size = xp.floor(xp.abs(both) / step + offset)
    kept = xp.sign(both) * size * step
    down = (kept @ wave).reshape(n, c, h // 8, 8, w)
    out = (wave.T @ down).reshape(n, c, h, w)
    return xp.clip(xp.floor(out + 0.5) + 128, 0, 255)


def _enlarge(arrays: Arrays, planes: Array) -> Array:
    """Double (n, c, h, w) as libjpeg's decoder does: three parts near, one part far."""
    xp = arrays.xp
    n, c, h, w = planes.shape
    above = xp.concatenate([planes[:, :, :1], planes[:, :, :-1]], 2)
    below = xp.concatenate([planes[:, :, 1:], planes[:, :, -1:]], 2)
    tall = xp.stack([3 * planes + above, 3 * planes + below], 3).reshape(n, c, 2 * h, w)
    left = xp.concatenate([tall[..., :1], tall[..., :-1]], 3)
    right = xp.concatenate([tall[..., 1:], tall[..., -1:]], 3)
    wide = xp.stack([3 * tall + left + 8, 3 * tall + right + 7], 4)
    return xp.floor(wide / 16).reshape(n, c, 2 * h, 2 * w)


def _mix(arrays: Arrays, planes: Array, matrix: Any) -> Array:
    """Mix the channels of (n, 3, h, w)."""
    channels = [sum(float(f) * planes[:, i] for i, f in enumerate(row)) for row in matrix]
    return arrays.xp.stack(channels, 1)
