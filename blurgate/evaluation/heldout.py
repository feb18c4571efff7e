"""Corruptions that are for evaluation only: no synthesizer makes them, no training sees them.

Motion, defocus, glass and zoom blur after the descriptions in Hendrycks and Dietterich,
"Benchmarking neural network robustness to common corruptions and perturbations" (ICLR 2019), with
their five severities. They are defined for pictures of 224 pixels; here their lengths are scaled to
the working size of a crop, so that one severity does the same to a face at any size. They blur sRGB
codes, not light, and add neither noise nor compression, unlike the training's chain.

Two deviations: kernels are placed at fractions of a pixel, because lengths are scaled, and glass
blur draws each pixel from its neighbourhood at once instead of swapping pixels one after the other.

`second-order`, a chain after Real-ESRGAN, stands in `blurgate.evaluation.second_order`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from blurgate.types import F64, U8


Params: TypeAlias = dict[str, Any]
"""What was done to one picture, as JSON would give it; always holds `method`."""

REFERENCE_PX: Final = 224
"""Side in pixels of the pictures that the severities were defined for."""
SEVERITIES: Final = (1, 2, 3, 4, 5)
MOTION: Final = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
"""Severity -> radius and standard deviation of the trail, pixels."""
DEFOCUS: Final = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
"""Severity -> radius of the disc and standard deviation of its soft edge, pixels."""
GLASS: Final = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
"""Severity -> standard deviation of both blurs, largest displacement (pixels), rounds."""
ZOOM: Final = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
"""Severity -> end (exclusive) and step of the zoom factors, from 1."""
_FINE: Final = 8  # samples per pixel and axis of a disc


def motion(image: U8, rng: np.random.Generator, severity: int) -> tuple[U8, Params]:
    """Drag a trail: half a Gaussian along a line, at an angle within 45 degrees of the horizontal.

    Args:
        image: (s, s, 3) uint8 BGR.
        rng: Draws the angle.
        severity: 1 to 5.

    Returns:
        The picture, and what was done.
    """
    radius, sigma = MOTION[severity - 1]
    angle = float(rng.uniform(-45, 45))
    kernel = motion_kernel(radius, sigma, angle, len(image) / REFERENCE_PX)
    return _convolved(image, kernel), {"method": "c-motion", "severity": severity, "angle": angle}


def motion_kernel(radius: float, sigma: float, angle: float, scale: float = 1.0) -> F64:
    """Make the (k, k) kernel of `motion`, k odd, summing to 1.

    Args:
        radius: The trail is 2 * radius pixels long.
        sigma: Standard deviation along it, in pixels.
        angle: Degrees, counter-clockwise from the horizontal as seen.
        scale: Working pixels per pixel of the lengths.
    """
    length = 2 * radius * scale
    along = np.linspace(0, length, max(2, math.ceil(4 * length)))
    weight = np.exp(-0.5 * (along / (sigma * scale)) ** 2)
    reach = math.ceil(length) + 1
    x = reach + along * math.cos(math.radians(angle))
    y = reach - along * math.sin(math.radians(angle))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - left, y - top
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            np.add.at(kernel, (top + dy, left + dx), weight * wy * wx)
    out: F64 = kernel / kernel.sum()
    return out


def defocus(image: U8, rng: np.random.Generator, severity: int) -> tuple[U8, Params]:
    """Put a face out of focus: a disc with a soft edge; see `motion`. Nothing of it is random."""
    del rng
    radius, edge = DEFOCUS[severity - 1]
    kernel = disc_kernel(radius, edge, len(image) / REFERENCE_PX)
    return _convolved(image, kernel), {"method": "c-defocus", "severity": severity}


def disc_kernel(radius: float, edge: float, scale: float = 1.0) -> F64:
    """Make the (k, k) kernel of `defocus`, k odd, summing to 1.

    Args:
        radius: Of the disc, in pixels.
        edge: Standard deviation of the Gaussian that softens its edge, in pixels.
        scale: Working pixels per pixel of the lengths.
    """
    reach = math.ceil(radius * scale + 3 * edge * scale) + 1
    n = (2 * reach + 1) * _FINE
    at = (np.arange(n) + 0.5) / _FINE - reach - 0.5
    inside = (at[:, None] ** 2 + at[None, :] ** 2 <= (radius * scale) ** 2).astype(np.float64)
    inside = np.asarray(cv2.GaussianBlur(inside, (0, 0), edge * scale * _FINE), np.float64)
    kernel = inside.reshape(2 * reach + 1, _FINE, 2 * reach + 1, _FINE).sum(axis=(1, 3))
    out: F64 = kernel / kernel.sum()
    return out


def glass(image: U8, rng: np.random.Generator, severity: int) -> tuple[U8, Params]:
    """Look through frosted glass: blur, displace every pixel a little, blur; see `motion`."""
    sigma, reach, rounds = GLASS[severity - 1]
    scale, side = len(image) / REFERENCE_PX, len(image)
    out = cv2.GaussianBlur(image, (0, 0), sigma * scale)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    for _ in range(rounds):
        shift = rng.uniform(-reach * scale, reach * scale, (2, side, side)).astype(np.float32)
        out = cv2.remap(
            out, x + shift[0], y + shift[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
        )
    picture = np.asarray(cv2.GaussianBlur(out, (0, 0), sigma * scale), np.uint8)
    return picture, {"method": "c-glass", "severity": severity}


def zoom(image: U8, rng: np.random.Generator, severity: int) -> tuple[U8, Params]:
    """Move towards the face: the mean of pictures at growing zooms; see `motion`."""
    del rng
    end, step = ZOOM[severity - 1]
    factors = np.arange(1, end, step)
    side = len(image)
    centre = (side - 1) / 2
    total = image.astype(np.float64)
    for factor in factors:
        matrix = np.array([[factor, 0, centre * (1 - factor)], [0, factor, centre * (1 - factor)]])
        total += cv2.warpAffine(
            image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
    picture = (total / (len(factors) + 1) + 0.5).astype(np.uint8)
    return picture, {"method": "c-zoom", "severity": severity}


CORRUPTIONS: Final[dict[str, Callable[[U8, np.random.Generator, int], tuple[U8, Params]]]] = {
    "c-motion": motion,
    "c-defocus": defocus,
    "c-glass": glass,
    "c-zoom": zoom,
}


def _convolved(image: U8, kernel: F64) -> U8:
    """Convolve the codes; the picture goes on as its mirror image."""
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    blurred = cv2.filter2D(image.astype(np.float32), -1, flipped, borderType=cv2.BORDER_REFLECT_101)
    return (blurred + 0.5).clip(0, 255).astype(np.uint8)
