"""`second-order`: a degradation chain after Real-ESRGAN, for evaluation only.

    blur -> resize -> noise -> JPEG -> blur -> resize -> noise -> sinc and JPEG, in either order

Written from the description in Wang et al., "Real-ESRGAN: Training real-world blind
super-resolution with pure synthetic data" (ICCV workshops 2021), with its ranges and probabilities.
Deviations: the result comes back to the size of the crop, not to a quarter of it, and lengths of
kernels are taken for crops of 224 pixels and scaled with the crop. The last sinc filter's cutoff is
drawn as those of the blurs are, for large kernels from pi / 5 and not from pi / 3. Grey Poisson
noise follows the mean of the channels, not the luma. sRGB codes are worked on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from blurgate.evaluation.heldout import REFERENCE_PX, Params
from blurgate.training.compress import compress_image

if TYPE_CHECKING:
    from blurgate.types import F32, F64, U8


@dataclass(frozen=True, slots=True)
class Order:
    """One of the two passes."""

    blur: float
    """Probability that there is a blur."""
    sigma: tuple[float, float]
    """Range of the kernels' standard deviations, in pixels of a crop of 224."""
    resize: tuple[float, float, float]
    """Probabilities to enlarge, to shrink and to keep the size."""
    factor: tuple[float, float]
    """Least and largest factor."""
    noise: tuple[float, float]
    """Range of the Gaussian noise's standard deviation, in codes."""
    poisson: tuple[float, float]
    """Range of the scale of the Poisson noise."""


FIRST: Final = Order(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3.0))
SECOND: Final = Order(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5))
KINDS: Final = {
    ("gaussian", False): 0.45,
    ("gaussian", True): 0.25,
    ("generalised", False): 0.12,
    ("generalised", True): 0.03,
    ("plateau", False): 0.12,
    ("plateau", True): 0.03,
}
"""(Shape, whether it is wider one way) -> probability."""
GENERALISED_BETA: Final = (0.5, 4.0)
PLATEAU_BETA: Final = (1.0, 2.0)
SINC: Final = 0.1
"""Probability that a pass blurs with a sinc filter instead."""
FINAL_SINC: Final = 0.8
GREY_NOISE: Final = 0.4
QUALITY: Final = (30, 95)
_HOW: Final = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def second_order(image: U8, rng: np.random.Generator) -> tuple[U8, Params]:
    """Degrade one crop.

    Args:
        image: (s, s, 3) uint8 BGR.
        rng: Draws everything.

    Returns:
        (s, s, 3) uint8 BGR, and what was done in short.
    """
    side = len(image)
    scale = side / REFERENCE_PX
    picture: F32 = (image / np.float32(255)).astype(np.float32)
    done: Params = {"method": "second-order"}
    for number, order in (("first", FIRST), ("second", SECOND)):
        if rng.random() < order.blur:
            kernel, what = _draw_kernel(rng, order, scale)
            picture = _convolved(picture, kernel)
            done[number] = what
        picture = _resized(picture, rng, order, side)
        picture = _noisy(picture, rng, order)
        if order is FIRST:
            picture = _compressed(picture, rng)
    kernel = _sinc(rng, scale) if rng.random() < FINAL_SINC else np.ones((1, 1))
    if rng.random() < 0.5:
        picture = _back(picture, rng, side)
        picture = _compressed(_convolved(picture, kernel), rng)
    else:
        picture = _back(_compressed(picture, rng), rng, side)
        picture = _convolved(picture, kernel)
    return _codes(picture), done


def kernel_of(shape: str, sigma: tuple[float, float], angle: float, beta: float, reach: int) -> F64:
    """Make a blur kernel.

    With q = x' S x, S the inverse of the covariance: exp(-q / 2) for "gaussian",
    exp(-q**beta / 2) for "generalised" and 1 / (1 + q**beta) for "plateau".

    Args:
        shape: One of the three.
        sigma: Standard deviations along the two axes, in pixels.
        angle: Of the first axis, in radians.
        beta: The exponent; "gaussian" has none.
        reach: Pixels on each side of the middle.

    Returns:
        (2 reach + 1, 2 reach + 1) float64, summing to 1.
    """
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    q = (along / sigma[0]) ** 2 + (across / sigma[1]) ** 2
    if shape == "plateau":
        kernel = 1 / (1 + q**beta)
    else:
        kernel = np.exp(-0.5 * (q**beta if shape == "generalised" else q))
    out: F64 = kernel / kernel.sum()
    return out


def sinc_kernel(cutoff: float, reach: int) -> F64:
    """Make a circular low-pass filter, which rings: cutoff * J1(cutoff * r) / (2 pi r).

    Args:
        cutoff: In radians per pixel, at most pi.
        reach: Pixels on each side of the middle.

    Returns:
        (2 reach + 1, 2 reach + 1) float64, summing to 1.
    """
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    r = np.hypot(x, y)
    r[reach, reach] = 1
    kernel = cutoff * bessel_j1(cutoff * r) / (2 * np.pi * r)
    kernel[reach, reach] = cutoff**2 / (4 * np.pi)
    out: F64 = kernel / kernel.sum()
    return out


def bessel_j1(x: F64) -> F64:
    """Give J1, by Bessel's integral: the mean of cos(t - x sin t) over t in [0, pi]."""
    t = (np.arange(256) + 0.5) * (np.pi / 256)
    out: F64 = np.cos(t - x[..., None] * np.sin(t)).mean(axis=-1)
    return out


def _draw_kernel(rng: np.random.Generator, order: Order, scale: float) -> tuple[F64, str]:
    if rng.random() < SINC:
        return _sinc(rng, scale), "sinc"
    kinds = list(KINDS)
    shape, wide = kinds[rng.choice(len(kinds), p=np.array(list(KINDS.values())))]
    first, second = rng.uniform(*order.sigma, 2) * scale
    angle = float(rng.uniform(-np.pi, np.pi))
    low, high = GENERALISED_BETA if shape == "generalised" else PLATEAU_BETA
    # Half of the exponents below 1 and half above, as long tails and as flat tops.
    beta = float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))
    reach = max(1, round(int(rng.integers(3, 11)) * scale))
    sigma = (float(first), float(second if wide else first))
    kernel = kernel_of(shape, sigma, angle, beta, reach)
    return kernel, f"{shape} {sigma[0]:.2f}x{sigma[1]:.2f}"


def _sinc(rng: np.random.Generator, scale: float) -> F64:
    reach = int(rng.integers(3, 11))
    least = np.pi / 3 if reach < 6 else np.pi / 5
    # Pixels of a smaller crop are larger on the face: the cutoff rises, up to none at all.
    cutoff = min(float(rng.uniform(least, np.pi)) / scale, np.pi)
    return sinc_kernel(cutoff, max(1, round(reach * scale)))


def _resized(picture: F32, rng: np.random.Generator, order: Order, side: int) -> F32:
    low, high = order.factor
    kind = rng.choice(3, p=np.array(order.resize))
    factor = rng.uniform(1, high) if kind == 0 else rng.uniform(low, 1) if kind == 1 else 1.0
    # The second pass starts from the crop's own size, as the paper's does.
    px = max(8, round(side * float(factor)))
    return _to(picture, px, int(rng.integers(3)))


def _back(picture: F32, rng: np.random.Generator, side: int) -> F32:
    return _to(picture, side, int(rng.integers(3)))


def _to(picture: F32, px: int, how: int) -> F32:
    out = cv2.resize(picture, (px, px), interpolation=_HOW[how])
    return out.clip(0, 1).astype(np.float32)


def _noisy(picture: F32, rng: np.random.Generator, order: Order) -> F32:
    grey = rng.random() < GREY_NOISE
    gaussian = rng.random() < 0.5
    if gaussian:
        shape = picture.shape[:2] + ((1,) if grey else (3,))
        noise = rng.standard_normal(shape) * (rng.uniform(*order.noise) / 255)
    else:
        level = float(rng.uniform(*order.poisson))
        codes = (picture * 255 + 0.5).astype(np.uint8)
        light = codes.mean(axis=2, keepdims=True) / 255 if grey else codes / 255
        levels = 2.0 ** math.ceil(math.log2(max(2, len(np.unique(codes)))))
        noise = (rng.poisson(light * levels) / levels - light) * level
    return (picture + noise).clip(0, 1).astype(np.float32)


def _compressed(picture: F32, rng: np.random.Generator) -> F32:
    quality = int(rng.integers(QUALITY[0], QUALITY[1] + 1))
    decoded = compress_image(_codes(picture), "jpeg", quality)
    out: F32 = (decoded / np.float32(255)).astype(np.float32)
    return out


def _convolved(picture: F32, kernel: F64) -> F32:
    if kernel.size == 1:
        return picture
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    blurred = cv2.filter2D(picture, -1, flipped, borderType=cv2.BORDER_REFLECT_101)
    out: F32 = blurred.clip(0, 1).astype(np.float32)
    return out


def _codes(picture: F32) -> U8:
    return (picture * 255 + 0.5).astype(np.uint8)
