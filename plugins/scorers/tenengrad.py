"""`tenengrad`: the mean squared Sobel gradient, as a blur degree.

A focus measure (Krotkov, "Focusing", IJCV 1988; Pertuz et al., "Analysis of focus measure
operators for shape-from-focus", Pattern Recognition 2013): the mean of Gx**2 + Gy**2 of the grey
aligned crop, with 3x3 Sobel filters. A falling curve maps it to [0, 1]:

    blur_degree = 1 / (1 + (energy / E0) ** P)

E0 and P were fitted by scripts/fit_peers.py, as those of `laplacian` were. The map is monotone: the
ranking is the plain measure's.
"""

from __future__ import annotations

import cv2

from blurgate.hookspecs import hookimpl
from blurgate.interfaces import ModelFile, ModelInfo, Register, Runtime
from blurgate.plugins.scorers.measures import MeasureScorer, half_at, one_by_one
from blurgate.types import U8

E0 = 3100.0
P = 1.9


def mean_squared_gradient(crop: U8) -> float:
    """Measure one aligned face.

    Args:
        crop: (H, W, 3) uint8 BGR. The outermost pixels are left out: there the filters see a
            mirrored border that is not in the picture.

    Returns:
        The mean of Gx**2 + Gy**2 of the grey picture, 0 for a flat one.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    across = cv2.Sobel(grey, cv2.CV_64F, 1, 0)[1:-1, 1:-1]
    down = cv2.Sobel(grey, cv2.CV_64F, 0, 1)[1:-1, 1:-1]
    return float((across**2 + down**2).mean())


def _make(model: ModelFile | None, runtime: Runtime) -> MeasureScorer:
    del model, runtime  # it has no weights and runs on the CPU
    return MeasureScorer(
        ModelInfo("tenengrad", ""), one_by_one(mean_squared_gradient), half_at(E0, P)
    )


@hookimpl
def register_scorers(register: Register) -> None:
    """Register `tenengrad`."""
    register("tenengrad", _make)
