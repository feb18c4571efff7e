"""Resampling to a coarser pitch and back, as weighted sums of pixels.

A picture is seen by a sensor of coarser pitch and shown again at its own size. The pitch is any
real number of pixels; nothing is rounded to a whole number of sensor pixels. Outside its borders a
picture is continued by its mirror image. NumPy sums each sample's few pixels up; torch multiplies
with the same weights as matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.training.convolve import mirror

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from blurgate.training.arrays import Array, Arrays
    from blurgate.types import F32

FILTERS: Final = ("area", "bicubic", "bilinear", "nearest")
"""Down: mean over the pitch; Keys' cubic or a triangle stretched by the pitch (no aliasing); the
nearest pixel (aliases). Up: area and nearest repeat a sample, the others interpolate."""
_MARGIN: Final = 3  # samples beyond the first and the last pixel, for the cubic and the shift


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Weighted sums along one axis."""

    index: Array
    """(n, targets, t) int64: which sources each target is made of."""
    weight: Array
    """(n, targets, t) float64; sums to 1 over the last axis."""
    sources: int

    def matrices(self, arrays: Arrays) -> Array:
        """Give the sums as (n, targets, sources) float64 matrices."""
        n, targets, _ = self.index.shape
        row = arrays.whole(arrays.floats(np.arange(n * targets))).reshape(n, targets, 1)
        size = n * targets * self.sources
        total = arrays.total(size, row * self.sources + self.index, self.weight)
        return total.reshape(n, targets, self.sources)


def axis(
    arrays: Arrays,
    side: int,
    pitch: Array,
    shift: Array,
    down: Sequence[str],
    up: Sequence[str],
) -> tuple[Taps, Taps]:
    """Plan one axis of each image.

    Args:
        arrays: The library of the other arrays.
        side: Pixels along the axis.
        pitch: (n,) float64 pixels from sample to sample, from 1.
        shift: (n,) float64 pixels by which the samples are moved, at most half a pitch.
        down: n names from `FILTERS`.
        up: n names from `FILTERS`.

    Returns:
        How the samples come from the pixels, and the pixels from the samples.
    """
    xp = arrays.xp
    steps, moved = pitch[:, None, None], shift[:, None, None]
    count = math.ceil(side / float(pitch.min())) + 2 * _MARGIN
    number = arrays.floats(np.arange(count) - _MARGIN + 0.5)[None, :, None]
    centre = number * steps - 0.5 + moved
    reach = math.ceil(2 * float(pitch.max())) + 1
    pixel = xp.floor(centre + 0.5) + arrays.floats(np.arange(-reach, reach + 1))[None, None, :]
    distance = pixel - centre
    covered = xp.clip((steps + 1) / 2 - xp.abs(distance), 0, 1)
    weight = _weigh(arrays, down, distance / steps, covered, distance)
    # A table of mirrored pixels, wide enough for the outermost samples.
    beyond = reach + math.ceil((_MARGIN + 1) * float(pitch.max())) + 1
    table = arrays.whole(arrays.floats(mirror(np.arange(-beyond, side + beyond), side)))
    at = arrays.whole(xp.clip(pixel, -beyond, side + beyond - 1)) + beyond
    lower = Taps(table[at], weight, side)

    pixels = arrays.floats(np.arange(side))[None, :, None]
    position = (pixels + 0.5 - moved) / steps - 0.5 + _MARGIN
    sample = xp.floor(position) + arrays.floats(np.arange(-1, 3))[None, None, :]
    nearest = xp.where(xp.floor(position + 0.5) == sample, 1 + 0 * position, 0 * position)
    weight = _weigh(arrays, up, sample - position, nearest, sample - position)
    return lower, Taps(arrays.whole(xp.clip(sample, 0, count - 1)), weight, count)


def _weigh(
    arrays: Arrays, names: Sequence[str], distance: Array, box: Array, offset: Array
) -> Array:
    """Weigh each tap by its row's filter; the last axis sums to 1."""
    xp = arrays.xp
    d = xp.abs(distance)
    triangle = xp.clip(1 - d, 0, None)
    inner = (1.5 * d - 2.5) * d * d + 1
    outer = ((-0.5 * d + 2.5) * d - 4) * d + 2
    cubic = xp.where(d < 1, inner, xp.where(d < 2, outer, 0 * d))
    point = xp.where((offset > -0.5) & (offset <= 0.5), 1 + 0 * d, 0 * d)
    one_hot = [[float(name == known) for known in FILTERS] for name in names]
    chosen = arrays.floats(one_hot)[:, None, None, :]
    kinds = (box, cubic, triangle, point)
    weight = sum(chosen[..., i] * kind for i, kind in enumerate(kinds))
    return weight / weight.sum(-1)[:, :, None]


def apply_image(image: F32, vertical: tuple[Taps, Taps], horizontal: tuple[Taps, Taps]) -> F32:
    """Take one image (h, w, c) float32 down and up, by plans of n = 1 for both its axes."""
    h, w, c = image.shape
    low = _sum(vertical[0], image.reshape(h, w * c))
    rows = len(low)
    turned = low.reshape(rows, w, c).transpose(1, 0, 2).reshape(w, rows * c)
    turned = _sum(horizontal[1], _sum(horizontal[0], turned))
    low = turned.reshape(w, rows, c).transpose(1, 0, 2).reshape(rows, w * c)
    return _sum(vertical[1], low).reshape(h, w, c)


def _sum(taps: Taps, lines: NDArray[Any]) -> NDArray[Any]:
    # einsum and not a matrix product: a BLAS would start threads for it.
    weight = taps.weight[0].astype(np.float32)
    return np.asarray(np.einsum("mt,mtx->mx", weight, lines[taps.index[0]]))


def apply_batch(
    arrays: Arrays, images: Tensor, vertical: tuple[Taps, Taps], horizontal: tuple[Taps, Taps]
) -> Tensor:
    """Take a batch (n, c, h, w) float32 down and up, by plans for the axes of each image."""
    down_y, up_y, down_x, up_x = (
        arrays.single(taps.matrices(arrays))[:, None] for taps in (*vertical, *horizontal)
    )
    low = down_y @ images @ down_x.transpose(2, 3)
    out: Tensor = up_y @ low @ up_x.transpose(2, 3)
    return out
