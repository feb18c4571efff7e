"""`blurdetect`: FFmpeg's filter of that name on the aligned crop, as a blur degree.

The filter (Marziliano et al., "A no-reference perceptual blur metric", ICIP 2002) finds edges as
Canny does and gives their mean width in pixels. It is FFmpeg's own code, run through PyAV with the
filter's defaults on the grey crop. A rising curve maps the width to [0, 1]:

    blur_degree = 1 / (1 + (W0 / width) ** P)

W0 and P were fitted by scripts/fit_peers.py, as the numbers of `laplacian` were. The map is
monotone: the ranking is the filter's. Where it finds no edge it gives no number; that is degree 1.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import cv2
import numpy as np

from blurgate.errors import EnvironmentLackError
from blurgate.hookspecs import hookimpl
from blurgate.interfaces import ModelFile, ModelInfo, Register, Runtime
from blurgate.plugins.scorers.measures import MeasureScorer, half_at
from blurgate.types import F32, U8

if TYPE_CHECKING:
    import av.filter

W0 = 10.0
P = 4.7
_SECOND = Fraction(1, 1)


def edge_widths(crops: U8) -> F32:
    """Measure aligned faces.

    Args:
        crops: (n, H, W, 3) uint8 BGR.

    Returns:
        (n,) float32 mean widths of the edges in pixels; inf where there is no edge.
    """
    if not len(crops):
        return np.zeros(0, np.float32)
    import av.filter  # not above: all scorers are imported to know their names

    # A graph of its own for each batch: several threads may score at once.
    graph = av.filter.Graph()
    height, width = crops.shape[1:3]
    grey = av.VideoFormat("gray", width, height)
    source = graph.add_buffer(width=width, height=height, format=grey, time_base=_SECOND)
    measure, sink = graph.add("blurdetect"), graph.add("buffersink")
    source.link_to(measure)
    measure.link_to(sink)
    graph.configure()
    widths = [_width(graph, crop, number) for number, crop in enumerate(crops)]
    return np.array(widths, np.float32)


def _width(graph: av.filter.Graph, crop: U8, number: int) -> float:
    import av

    grey = np.asarray(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), np.uint8)
    frame = av.VideoFrame.from_ndarray(grey, format="gray")
    frame.pts, frame.time_base = number, _SECOND
    graph.push(frame)
    measured = graph.pull()
    assert isinstance(measured, av.VideoFrame)
    value = float(measured.metadata["lavfi.blur"])
    return math.inf if math.isnan(value) else value


def degree_of_width(width: F32) -> F32:
    """Map widths in [0, inf] to blur degrees in [0, 1], rising.

    >>> degree_of_width(np.float32([0, W0, np.inf])).tolist()
    [0.0, 0.5, 1.0]
    """
    # A width may be 0 and, without an edge, infinite; neither is a number to divide by.
    known = np.clip(width.astype(np.float64), 1e-9, 1e9)
    return half_at(W0, -P)(known)


def _make(model: ModelFile | None, runtime: Runtime) -> MeasureScorer:
    del model, runtime  # it has no weights and runs on the CPU
    import av.filter

    if "blurdetect" not in av.filter.filters_available:
        raise EnvironmentLackError(
            "this PyAV's FFmpeg has no blurdetect filter (it came with FFmpeg 5.1); "
            "run: pip install --upgrade av"
        )
    return MeasureScorer(ModelInfo("blurdetect", ""), edge_widths, degree_of_width)


@hookimpl
def register_scorers(register: Register) -> None:
    """Register `blurdetect`."""
    register("blurdetect", _make)
