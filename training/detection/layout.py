"""Where the faces of a composed sample go: in rows, as in group photos, or in a mosaic's cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

__all__ = ["GRIDS", "MAX_FACES", "SMALLEST", "cells", "rows"]

MAX_FACES: Final = 12
"""Faces of a scene."""
SMALLEST: Final = 10.0
"""Size of the smallest face of a scene, in pixels of the sample."""
GRIDS: Final = (2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 8, 10)
"""Cells along the side of a mosaic; one of these is drawn."""


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
