"""How well degrees agree with true ones: errors, correlations, and the reliability curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.training.scores import score

if TYPE_CHECKING:
    from blurgate.types import F64


BINS: Final = 10
"""Bins of a reliability curve over [0, 1]."""
LEAST: Final = 5
"""A bin with fewer pictures is no point of a drawn curve."""
SIDE_EDGES: Final = (0, 32, 48, 64, 80, 96, 112, 144, 192)
"""Lower bounds of the face sizes, in pixels of the picture along a side of the 112 px crop."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Degrees against labels, over n pictures."""

    n: int
    mae: float
    """Mean absolute error."""
    rmse: float
    """Root of the mean squared error."""
    bias: float
    """Mean of degree - label."""
    spearman: float
    """Rank correlation; 0 where one side is constant."""
    pearson: float
    """Linear correlation; 0 where one side is constant."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """The mean label where a scorer gives about one degree; all on the diagonal is perfect."""

    degree: tuple[float, ...]
    """Mean degree in each bin that holds any; the bins are [i / 10, (i + 1) / 10), the last with
    its upper bound."""
    label: tuple[float, ...]
    """Mean label there."""
    n: tuple[int, ...]
    """Pictures there."""
    gap: float
    """Mean of |mean degree - mean label| over the pictures: the expected calibration error."""


def agreement(degree: F64, label: F64) -> Agreement:
    """Compare degrees with labels, both (n,) in [0, 1] with n from 1.

    >>> agreement(np.array([0.1, 0.5, 0.6]), np.array([0.0, 0.5, 0.9])).mae.__round__(4)
    0.1333
    """
    base = score(degree, label)
    a, b = degree - degree.mean(), label - label.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return Agreement(
        n=len(label),
        mae=base.mae,
        rmse=base.rmse,
        bias=float((degree - label).mean()),
        spearman=base.spearman,
        pearson=float((a * b).sum()) / size if size else 0.0,
    )


def reliability(degree: F64, label: F64) -> Reliability:
    """Give the reliability curve of degrees against labels, both (n,) in [0, 1], n from 1."""
    at = np.minimum((degree * BINS).astype(np.int64), BINS - 1)
    n = np.bincount(at, minlength=BINS)
    used = n > 0
    means = [np.bincount(at, values, BINS)[used] / n[used] for values in (degree, label)]
    gap = float((np.abs(means[0] - means[1]) * n[used]).sum() / n.sum())
    return Reliability(
        tuple(means[0].tolist()), tuple(means[1].tolist()), tuple(n[used].tolist()), gap
    )


def compare(
    degree: F64, label: F64, keys: Sequence[str], order: Callable[[str], Any] = str
) -> dict[str, dict[str, Any]]:
    """Compare degrees with labels within each part of the pictures.

    Args:
        degree: (n,) in [0, 1].
        label: (n,) in [0, 1].
        keys: n names of parts; pictures with an empty name are in none.
        order: Sorts the names.

    Returns:
        Part -> the fields of `Agreement`, and `reliability` with those of `Reliability`.
    """
    names = np.array(keys, dtype=object)
    out = {}
    for name in sorted({key for key in keys if key}, key=order):
        mask = names == name
        out[name] = whole(degree[mask], label[mask])
    return out


def whole(degree: F64, label: F64) -> dict[str, Any]:
    """Give agreement and reliability as plain values."""
    return {
        **asdict(agreement(degree, label)),
        "reliability": asdict(reliability(degree, label)),
    }


def side_name(side: float) -> str:
    """Name the bin of face sizes that a side in pixels is in.

    >>> side_name(50.0), side_name(500)
    ('48-64', '192+')
    """
    at = int(np.searchsorted(SIDE_EDGES, side, side="right")) - 1
    if at == len(SIDE_EDGES) - 1:
        return f"{SIDE_EDGES[-1]}+"
    return f"{SIDE_EDGES[at]}-{SIDE_EDGES[at + 1]}"


def side_order(name: str) -> int:
    """Sort the names of `side_name`."""
    return int(name.rstrip("+").partition("-")[0])
