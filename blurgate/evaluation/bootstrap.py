"""Confidence intervals by the bootstrap: how far a number would move with other people's faces.

Units are drawn again with replacement, and the number is taken anew from what was drawn. A unit is
a face where faces count one by one, and an identity where comparisons count: comparisons that share
a person rise and fall together, and drawing them one by one would make intervals far too narrow.
A mated comparison of an identity drawn c times counts c times; a non-mated one counts the product
of its two identities' draws (the two-way bootstrap of clusters, as Bolle et al., "Error analysis of
pattern recognition systems - the subsets bootstrap", 2004, and Poh and Bengio, 2007, motivate it).
The interval is that of the percentiles (Efron and Tibshirani, 1993).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from blurgate.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Statistic: TypeAlias = Callable[[NDArray[np.int64]], float]
    from blurgate.types import F64

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a number lies with the confidence of `CONFIDENCE`."""

    low: float
    high: float


def draws(units: int, replicates: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Draw units with replacement, as many as there are.

    Yields:
        (units,) how often each unit was drawn, `replicates` times.

    Raises:
        InputError: There are no units, or no replicates are asked for.
    """
    if units < 1 or replicates < 1:
        raise InputError(f"a bootstrap needs units and replicates, got {units} and {replicates}")
    rng = np.random.default_rng([seed % 2**32, 13])
    for _ in range(replicates):
        yield np.bincount(rng.integers(0, units, units), minlength=units)


def replicate(statistic: Statistic, units: int, *, replicates: int, seed: int) -> F64:
    """Take a number of every draw.

    Args:
        statistic: Gives the number for (units,) how often each unit counts.
        units: How many there are.
        replicates: How many draws.
        seed: Decides them.

    Returns:
        (replicates,) numbers.
    """
    return np.array([statistic(counts) for counts in draws(units, replicates, seed)], np.float64)


def interval(numbers: F64) -> Interval:
    """Give the percentile interval of numbers from `replicate`, at `CONFIDENCE`.

    >>> found = interval(np.arange(1001.0))
    >>> round(found.low, 6), round(found.high, 6)
    (25.0, 975.0)
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(numbers, [tail, 1 - tail])
    return Interval(float(low), float(high))
