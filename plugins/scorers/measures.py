"""What the classical scorers share: a measure of the crops, and its map to a degree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blurgate.interfaces import ModelInfo
from blurgate.types import CROP_SIZE, F32, U8, check_array


@dataclass(frozen=True, slots=True)
class MeasureScorer:
    """Scores aligned faces by a measure that needs no weights."""

    info: ModelInfo
    measure: Callable[[U8], F32]
    """(n, 112, 112, 3) uint8 BGR -> (n,) float32"""
    degree: Callable[[F32], F32]
    """The measures' monotone map to degrees in [0, 1], (n,) -> (n,) float32."""
    threshold: ClassVar[float] = 0.4
    """Of all of them: their maps were fitted to one label."""

    def __call__(self, crops: U8, /) -> F32:
        """Score (n, 112, 112, 3) uint8 BGR crops; gives (n,) float32 in [0, 1]."""
        check_array("crops", crops, (None, CROP_SIZE, CROP_SIZE, 3), "uint8")
        return self.degree(self.measure(crops))


def one_by_one(measure: Callable[[U8], float]) -> Callable[[U8], F32]:
    """Turn a measure of one crop into one of many."""
    return lambda crops: np.array([measure(crop) for crop in crops], np.float32)


def half_at(middle: float, power: float) -> Callable[[NDArray[np.floating[Any]]], F32]:
    """Make a map of measures to degrees, 0.5 at `middle`: falling, with a negative power rising.

    >>> half_at(29.0, 1.1)(np.float32([0, 29, np.inf])).tolist()
    [1.0, 0.5, 0.0]
    """
    return lambda measures: (1 / (1 + (measures / middle) ** power)).astype(np.float32)
