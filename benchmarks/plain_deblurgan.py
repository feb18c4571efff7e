"""Camera-shake kernels one at a time, step by step: the slow baseline of benchmarks/kernels.py.

It computes what DeblurGAN's generator of kernels is published to compute (Kupyn et al., CVPR 2018,
after Boracchi and Foi, IEEE TIP 2012) with a Python loop over the 2000 positions of a path and
another over the positions of each of four exposures. tests/training/test_psf.py holds the batched
code against it.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

CANVAS = 64
POSITIONS = 2000
LENGTH = 60.0
FRACTIONS = (1 / 100, 1 / 10, 1 / 2, 1.0)


def random_settings() -> dict[str, float]:
    """Draw one path's settings from NumPy's global generator."""
    return {
        "expl": np.random.choice([0.003, 0.001, 0.0007, 0.0005, 0.0003, 0.0001]),  # noqa: NPY002
        "centripetal": 0.7 * np.random.uniform(),  # noqa: NPY002
        "shake": 0.2 * np.random.uniform(),  # noqa: NPY002
        "jitter": 10 * np.random.uniform(),  # noqa: NPY002
        "angle_deg": 360 * np.random.uniform(),  # noqa: NPY002
    }


def random_kick(step: int) -> complex:
    """Draw one step's two normal numbers."""
    return complex(np.random.randn(), np.random.randn())  # noqa: NPY002


def random_turn(step: int, chance: float) -> float | None:
    """Decide whether a step turns back, and by which angle in radians."""
    if np.random.uniform() < chance:  # noqa: NPY002
        return math.pi + np.random.uniform() - 0.5  # noqa: NPY002
    return None


def walk(
    settings: dict[str, float],
    kick: Callable[[int], complex] = random_kick,
    turn: Callable[[int, float], float | None] = random_turn,
) -> list[complex]:
    """Give a path's positions, x as the real part, from the origin on."""
    step = LENGTH / (POSITIONS - 1)
    expl = settings["expl"]
    velocity = cmath.rect(expl, math.radians(settings["angle_deg"]))
    position = 0j
    path = [position]
    for t in range(POSITIONS - 1):
        angle = turn(t, settings["shake"] * expl)
        jump = 2 * velocity * cmath.exp(1j * angle) if angle is not None else 0
        push = settings["jitter"] * kick(t) - settings["centripetal"] * position
        velocity += jump + expl * push * step
        velocity *= step / abs(velocity)
        position += velocity
        path.append(position)
    return path


def place(path: Sequence[complex], canvas: int = CANVAS) -> list[complex]:
    """Move a path to the middle of a canvas by whole pixels, its start on a whole pixel."""
    corner = complex(min(p.real for p in path), min(p.imag for p in path))
    start = path[0] - corner
    shift = complex(1 - start.real % 1, 1 - start.imag % 1) - corner
    moved = [p + shift for p in path]
    right, low = max(p.real for p in moved), max(p.imag for p in moved)
    rest = complex(math.ceil((canvas - right) / 2), math.ceil((canvas - low) / 2))
    return [p + rest for p in moved]


def gather(
    path: Sequence[complex], canvas: int = CANVAS, fractions: Sequence[float] = FRACTIONS
) -> list[Any]:
    """Integrate a path over growing exposures.

    Returns:
        One (canvas, canvas) float64 kernel per fraction; its sum is about the fraction.
    """
    kernel = np.zeros((canvas, canvas))
    kernels = []
    before = 0.0
    for fraction in fractions:
        end = fraction * POSITIONS
        for t, point in enumerate(path):
            # The share of the time from t - 1 to t that lies in this exposure.
            share = max(0.0, min(t, end) - max(t - 1, before)) if t else 0.0
            left = min(canvas - 2, max(0, math.floor(point.real)))
            top = min(canvas - 2, max(0, math.floor(point.imag)))
            for row in (top, top + 1):
                for column in (left, left + 1):
                    near_x = max(0.0, 1 - abs(point.real - column))
                    near_y = max(0.0, 1 - abs(point.imag - row))
                    kernel[row, column] += share * near_x * near_y
        kernels.append(kernel / POSITIONS)
        before = end
    return kernels


def random_kernel() -> Any:
    """Make one kernel as the original does: all four exposures, then one of the last three."""
    kernels = gather(place(walk(random_settings())))
    return kernels[np.random.choice([1, 2, 3])]  # noqa: NPY002
