"""`laplacian`: the classical sharpness measure, as a blur degree.

The variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy",
ICPR 2000) is taken on the grey aligned crop and mapped by a falling curve to [0, 1]:

    blur_degree = 1 / (1 + (variance / V0) ** P)

V0, the variance at which the degree is 0.5, and P were fitted to 1 - cosine(embedding of the clean
face, embedding of the blurred face) by scripts/fit_peers.py on training faces. The map is
monotone, so the ranking is the plain variance's, with its weaknesses: texture, noise and sharp
edges of the background count as sharpness.
"""

from __future__ import annotations

import cv2

from blurgate.hookspecs import hookimpl
from blurgate.interfaces import ModelFile, ModelInfo, Register, Runtime
from blurgate.plugins.scorers.measures import MeasureScorer, half_at, one_by_one
from blurgate.types import U8

V0 = 29.0
P = 1.1


def variance_of_laplacian(crop: U8) -> float:
    """Measure one aligned face.

    Args:
        crop: (H, W, 3) uint8 BGR. The outermost pixels are left out: there the filter sees a
            mirrored border that is not in the picture.

    Returns:
        The variance of the 3x3 Laplacian of the grey picture, 0 for a flat one.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    # 16 bits hold the filter's values, at most 1,020, and are summed exactly.
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S)[1:-1, 1:-1])
    return float(deviation[0, 0] ** 2)


def _make(model: ModelFile | None, runtime: Runtime) -> MeasureScorer:
    del model, runtime  # it has no weights and runs on the CPU
    return MeasureScorer(
        ModelInfo("laplacian", ""), one_by_one(variance_of_laplacian), half_at(V0, P)
    )


@hookimpl
def register_scorers(register: Register) -> None:
    """Register `laplacian`."""
    register("laplacian", _make)
