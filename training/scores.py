"""How far predicted blur degrees are from true ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from blurgate.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Scores", "score", "spearman"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Errors over a set of pictures."""

    mae: float
    """Mean absolute error of the degree."""
    rmse: float
    """Root of the mean squared error of the degree."""
    spearman: float
    """Rank correlation; 0 where one side is constant."""
    pictures: int


def score(predicted: NDArray[Any], true: NDArray[Any]) -> Scores:
    """Compare degrees.

    Args:
        predicted: (n,) degrees.
        true: (n,) degrees, in the same order.

    Raises:
        ShapeError: These are no pairs, or there are none.
    """
    if predicted.shape != true.shape or predicted.ndim != 1 or not len(true):
        raise ShapeError(f"degrees of {predicted.shape} and {true.shape} are not pairs")
    error = predicted.astype(np.float64) - true.astype(np.float64)
    return Scores(
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        spearman=spearman(predicted, true),
        pictures=len(true),
    )


def spearman(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Give Spearman's rank correlation of (n,) and (n,); equal values share their mean rank.

    >>> round(spearman(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])), 6)
    0.8
    """
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size else 0.0


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks
