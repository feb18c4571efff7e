"""What composed samples show, and where: rows, as in group photos, or a mosaic's cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

__all__ = ["MAX_FACES", "ORDINARY", "SMALLEST", "Mix", "cells", "close_mix", "rows"]

MAX_FACES: Final = 12
"""Faces of a scene."""
SMALLEST: Final = 10.0
"""Size of the smallest face of a scene, in pixels of the sample."""


@dataclass(frozen=True, slots=True)
class Mix:
    """What samples show how often; sizes are sides of faces in pixels of the sample."""

    shares: Mapping[str, float]
    """Kinds of samples and how many of each."""
    smallest: float
    """The smallest face of a scene."""
    lean: float
    """How sizes of faces in scenes spread over the octaves: at 1 evenly, as in photos, above 1 more
    are small. 1080p video is searched at 640 pixels, where a face of 60 is one of 20."""
    smallest_photo: float
    """The smallest face of a sample that is one photo."""
    grids: tuple[int, ...]
    """Cells along the side of a mosaic; one of these is drawn."""
    fills: tuple[float, float] | None
    """Share of its cell's side that a face of a mosaic takes; None: as much as in its photo."""


ORDINARY: Final = Mix(
    shares={"scene": 0.22, "crowd": 0.22, "photo": 0.28, "mosaic": 0.22, "nothing": 0.06},
    smallest=SMALLEST,
    lean=2.0,
    smallest_photo=12.0,
    grids=(2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 8, 10),
    fills=None,
)


def close_mix(size: int) -> Mix:
    """Give the mix of samples that are meant for faces close to the camera.

    One photo holds one large face at most, so most of them come in mosaics of tight cells.

    Args:
        size: Side of the samples in pixels.
    """
    return Mix(
        shares={"scene": 0.15, "photo": 0.25, "mosaic": 0.55, "nothing": 0.05},
        smallest=size / 10,
        lean=1.0,
        smallest_photo=size / 3,
        grids=(2, 2, 2, 2, 2, 3),
        fills=(0.7, 1.05),
    )


def cells(size: int, grid: int, rng: Generator) -> NDArray[np.int64]:
    """Draw where the cells of a mosaic end: (grid + 1,), rising from 0 to `size`."""
    edges = np.linspace(0, 1, grid + 1)
    if grid < 4:  # cells of other sizes, none of which may vanish
        edges[1:-1] += np.clip(rng.normal(0, 0.06, grid - 1), -0.12, 0.12)
    return np.rint(edges * size).astype(np.int64)


def rows(size: int, rng: Generator) -> list[tuple[float, float, float]]:
    """Place faces as in a group photo: rows of faces of like size."""
    face = math.exp(rng.uniform(math.log(SMALLEST + 2), math.log(size * 0.22)))
    across, down = face * rng.uniform(1.15, 2.2), face * rng.uniform(1.3, 2.2)
    columns = int(np.clip(size / across, 1, MAX_FACES))
    deep = int(np.clip(rng.integers(1, 4), 1, max(size / down, 1)))
    columns = min(columns, max(MAX_FACES // deep, 1))
    left, top = rng.uniform(0, max(size - across * (columns - 1), 1)), rng.uniform(0.1, 0.6) * size
    return [
        (
            face * math.exp(rng.normal(0, 0.1)),
            float(left + across * (i + 0.5 * (row % 2)) + rng.normal(0, 0.12) * face),
            float(top + down * row + rng.normal(0, 0.15) * face),
        )
        for row in range(deep)
        for i in range(columns)
    ]
