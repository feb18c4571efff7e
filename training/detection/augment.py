"""What happens to the pixels of a sample: blur, colour, grain, print and compression.

Everything is drawn from the generator that is handed in and works on uint8 pictures in place of
floating point wherever OpenCV allows, because a detector sees far more samples than a scorer.
The blur kernels are those of the registered synthesizers, sampled once into a bank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from blurgate.host import get_host
from blurgate.training import psf
from blurgate.training.arrays import on_numpy
from blurgate.training.blur import KernelBlur
from blurgate.training.compress import compress_image
from blurgate.training.streams import Streams

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from blurgate.types import F32, U8

KERNELS: Final = {"deblurgan": 96, "linear": 64, "defocus": 64, "gaussian": 64}
"""Kernels of the bank, by synthesizer."""
MAX_SPREAD: Final = 9.0
"""Pixels of the 112 px crop. A face whose kernel is spread further (root mean square) shows
nothing that tells it from any other blob: it is ignored and not learnt."""
_LEAST_SPREAD: Final = 0.35  # pixels of the picture, below which a kernel changes nothing
_WIDE: Final = 8  # pixels of a kernel, from which a filter is slow
_NARROW: Final = 2.0  # standard deviation of a kernel that may not get narrower, where it works
_NOISE: Final = 1024
_UP: Final = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)
_BAYER: Final = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
_WEIGHTS: Final = np.array([0.114, 0.587, 0.299], np.float32)  # of B, G, R in grey


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A blur kernel in pixels of the 112 px crop."""

    weights: F32
    spread: float
    """Root mean square distance from its centre, per axis."""

    def scaled(self, px: float) -> F32 | None:
        """Give the kernel for `px` pixels per crop pixel, or None where it would change nothing."""
        if self.spread * px < _LEAST_SPREAD:
            return None
        side = round(len(self.weights) * px) | 1
        if side < 3:
            return None
        how = cv2.INTER_AREA if side < len(self.weights) else cv2.INTER_LINEAR
        kernel = cv2.resize(self.weights, (side, side), interpolation=how)
        kernel = np.maximum(kernel, 0, dtype=np.float32)
        total = float(kernel.sum())
        return kernel / np.float32(total) if total > 0 else None


@cache
def kernel_bank(seed: int) -> tuple[Kernel, ...]:
    """Sample the registered synthesizers; weak kernels are more frequent than strong ones."""
    registry = get_host().registry("synthesizer")
    bank = []
    for name, count in KERNELS.items():
        blur = registry[name].make()
        if not isinstance(blur, KernelBlur):  # an outside plugin took the name
            continue
        streams = Streams(seed, range(count)).fold(f"kernels {name}")
        severity = (streams.uniform("severity", 0.02, 1.0) ** 1.5).astype(np.float32)
        for kernel in blur.raw_kernels(blur.sample(streams, severity), 1.0, on_numpy()):
            weights = psf.normalised(kernel)
            bank.append(Kernel(weights, _spread(weights)))
    return tuple(bank)


def _variances(weights: F32) -> tuple[float, float]:
    """Give the variances of a kernel along its narrow and its long axis, in square pixels."""
    reach = len(weights) // 2
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    mass = weights.astype(np.float64)
    mass /= mass.sum()
    x, y = mass.sum(axis=0), mass.sum(axis=1)
    mean_x, mean_y = x @ at, y @ at
    both = at @ mass @ at - mean_x * mean_y
    narrow, long = np.linalg.eigvalsh(
        [[x @ at**2 - mean_x**2, both], [both, y @ at**2 - mean_y**2]]
    )
    return max(float(narrow), 0.0), max(float(long), 0.0)


def _spread(weights: F32) -> float:
    return math.sqrt(sum(_variances(weights)) / 2)


def convolved(image: U8, kernel: F32) -> U8:
    """Blur a picture, or a mask.

    Kernels that are wide in every direction work on a smaller picture: what they leave has no
    detail that needs the pixels. A motion leaves the detail across it.
    """
    factor = 1.0
    if len(kernel) > _WIDE:
        factor = min(len(kernel) / _WIDE, math.sqrt(_variances(kernel)[0]) / _NARROW)
    if factor < 1.4 or min(image.shape[:2]) < 4 * factor:
        return _filtered(image, kernel)
    h, w = image.shape[:2]
    how = cv2.INTER_LINEAR if factor < 2 else cv2.INTER_AREA
    side = round(len(kernel) / factor) | 1
    factor = len(kernel) / side
    small = cv2.resize(kernel, (side, side), interpolation=cv2.INTER_AREA)
    reduced = cv2.resize(image, (round(w / factor), round(h / factor)), interpolation=how)
    soft = _filtered(np.asarray(reduced, np.uint8), small / small.sum())
    return np.asarray(cv2.resize(soft, (w, h), interpolation=cv2.INTER_LINEAR), np.uint8)


def _filtered(image: U8, kernel: F32) -> U8:
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT), np.uint8)


def coarser(image: U8, factor: float, rng: Generator) -> U8:
    """Shrink a picture by a factor above 1 and enlarge it again."""
    h, w = image.shape[:2]
    size = max(round(w / factor), 2), max(round(h / factor), 2)
    down = cv2.INTER_AREA if factor > 2 and rng.random() < 0.7 else cv2.INTER_LINEAR
    up = _UP[int(rng.choice(len(_UP), p=(0.7, 0.25, 0.05)))]
    small = cv2.resize(image, size, interpolation=down)
    return np.asarray(cv2.resize(small, (w, h), interpolation=up), np.uint8)


def toned(image: U8, rng: Generator, *, strength: float = 1.0) -> U8:
    """Change brightness, contrast, gamma and colour balance by one table per channel."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)
    gamma = math.exp(rng.normal(0, 0.28 * strength))
    contrast = math.exp(rng.normal(0, 0.18 * strength))
    shift = rng.normal(0, 0.06 * strength)
    cast = np.exp(rng.normal(0, 0.08 * strength, 3)).astype(np.float32)
    table = ramp**gamma
    table = (table - 0.5) * contrast + 0.5 + shift
    tables = np.clip(table[:, None] * cast * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, tables[None]), np.uint8)


def saturated(image: U8, factor: float) -> U8:
    """Change the saturation: 0 is grey, 1 leaves the picture as it is."""
    mix = (1 - factor) * np.tile(_WEIGHTS, (3, 1)) + factor * np.eye(3, dtype=np.float32)
    return np.asarray(cv2.transform(image, mix.astype(np.float32)), np.uint8)


class Finish:
    """The last steps of a sample, as a camera, an archive or a codec does them.

    Args:
        seed: Of the noise.
    """

    def __init__(self, seed: int) -> None:
        noise = np.random.default_rng(seed).standard_normal((_NOISE, _NOISE), np.float32)
        self._noise = np.clip(np.rint(noise * 32), -127, 127).astype(np.int8)
        """Standard normal in steps of 1/32."""

    def __call__(self, image: U8, rng: Generator) -> U8:
        """Change a picture; each step is taken or not, on its own.

        Args:
            image: (h, w, 3) uint8 BGR, at most 1,024 pixels a side.
            rng: Where the draws come from.
        """
        old = rng.random() < 0.3  # old photographs: grey, grainy, soft, printed
        if rng.random() < 0.8:
            image = toned(image, rng)
        if old or rng.random() < 0.1:
            image = saturated(image, 0.0)
        elif rng.random() < 0.35:
            image = saturated(image, rng.uniform(0.2, 1.6))
        if rng.random() < 0.15:
            image = _lit(image, rng)
        if rng.random() < (0.35 if old else 0.12):
            image = coarser(image, rng.uniform(1.1, 2.2), rng)
        if rng.random() < (0.25 if old else 0.08):
            image = _sharpened(image, rng)
        if rng.random() < (0.7 if old else 0.35):
            image = self._grained(image, rng, strong=old)
        if old and rng.random() < 0.25:
            image = _printed(image, rng)
        if old and rng.random() < 0.15:
            image = _scratched(image, rng)
        if rng.random() < 0.4:
            image = compress_image(image, "jpeg", int(rng.integers(20, 95)))
        return image

    def _grained(self, image: U8, rng: Generator, *, strong: bool) -> U8:
        h, w = image.shape[:2]
        sigma = abs(rng.normal(0, 9.0 if strong else 6.0))
        coarse = 1 + int(rng.random() < 0.25)
        small = -(-h // coarse), -(-w // coarse)
        planes = 3 if not strong and rng.random() < 0.5 else 1
        parts = []
        for _ in range(planes):
            y, x = rng.integers(0, _NOISE - small[0] + 1), rng.integers(0, _NOISE - small[1] + 1)
            part: Any = self._noise[y : y + small[0], x : x + small[1]]
            if coarse > 1:
                part = cv2.resize(part.astype(np.int16), (w, h), interpolation=cv2.INTER_LINEAR)
            parts.append(part)
        noise = cv2.merge(parts * (3 // planes)).astype(np.int16)
        return np.asarray(
            cv2.addWeighted(image.astype(np.int16), 1.0, noise, sigma / 32, 0.0, dtype=cv2.CV_8U),
            np.uint8,
        )


def _lit(image: U8, rng: Generator) -> U8:
    """Light one side or corner more than the other."""
    corners = np.exp(rng.normal(0, 0.35, (2, 2))).astype(np.float32)
    h, w = image.shape[:2]
    light = cv2.resize(corners, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U), np.uint8)


def _sharpened(image: U8, rng: Generator) -> U8:
    soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.0))
    amount = rng.uniform(0.3, 1.5)
    return np.asarray(cv2.addWeighted(image, 1 + amount, soft, -amount, 0), np.uint8)


def _printed(image: U8, rng: Generator) -> U8:
    """Lay a halftone of a newspaper over the picture, more or less of it."""
    h, w = image.shape[:2]
    amount = rng.uniform(20, 110)
    zoom = int(rng.integers(1, 3))
    tile = np.kron((_BAYER - 7.5) / 15 * amount, np.ones((zoom, zoom))).astype(np.int16)
    rows, columns = -(-h // len(tile)), -(-w // len(tile))
    pattern = np.tile(tile, (rows, columns))[:h, :w]
    return np.asarray(cv2.add(image, cv2.merge([pattern] * 3), dtype=cv2.CV_8U), np.uint8)


def _scratched(image: U8, rng: Generator) -> U8:
    h, w = image.shape[:2]
    out = image.copy()
    for _ in range(int(rng.integers(1, 6))):
        x = int(rng.integers(0, w))
        start, end = (x, 0), (x + int(rng.integers(-w // 4, w // 4 + 1)), h)
        if rng.random() < 0.5:
            start, end = [(int(rng.integers(0, w)), int(rng.integers(0, h))) for _ in range(2)]
        level = int(rng.integers(0, 256))
        cv2.line(out, start, end, (level, level, level), 1, cv2.LINE_AA)
    return out


def flipped(kps: NDArray[Any], width: float) -> NDArray[Any]:
    """Mirror landmarks (..., 5, 2) left to right, and change the names of left and right.

    Args:
        kps: Measured from the picture's corner.
        width: Of the picture.
    """
    out = kps[..., [1, 0, 2, 4, 3], :].copy()
    out[..., 0] = width - out[..., 0]
    return out
