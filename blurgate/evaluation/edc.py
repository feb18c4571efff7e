"""Error versus discard: what is left of recognition's errors when the worst pictures go.

The error-versus-discard characteristic (EDC) of ISO/IEC 29794-1, in the terms of Schlett et al.,
"Considerations on the Evaluation of Biometric Quality Assessment Algorithms" (2023):

- The quality of a comparison is that of its worse picture; in blur degrees, the larger one.
- The comparison threshold is fixed once and stays where it is while pictures are discarded.
- Comparisons leave worst first, and those of equal degree leave together.
- The error is that of the remaining comparisons: remaining errors / remaining comparisons.
- Between two points the curve is a step: it keeps the error of the last point that was reached.
- When everything has been discarded no error is left, so every curve ends in (1, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from blurgate.errors import InputError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from blurgate.types import F64


__all__ = ["Edc", "best_edc", "edc", "pair_degree"]


@dataclass(frozen=True, slots=True, eq=False)
class Edc:
    """A curve of (k,) points, by rising share of discarded comparisons, from 0 to 1."""

    discard: F64
    """(k,) share of the comparisons that are discarded, in [0, 1], strictly rising."""
    error: F64
    """(k,) share of errors among the comparisons that remain, in [0, 1]; the last is 0."""
    comparisons: int
    errors: int
    """Errors before anything is discarded."""

    @property
    def start(self) -> float:
        """The error before anything is discarded."""
        return self.errors / self.comparisons

    def at(self, discard: ArrayLike) -> F64:
        """Read the curve's steps at shares of discarded comparisons in [0, 1]."""
        found: F64 = self.error[np.searchsorted(self.discard, discard, side="right") - 1]
        return found

    def pauc(self, limit: float) -> float:
        """Give the area below the steps from 0 to `limit`, a share in [0, 1]; less is better.

        It is the plain area: an error of 0.1 that does not fall has 0.03 at a limit of 0.3.

        >>> edc([True, False, False, False], [0.9, 0.5, 0.4, 0.1]).pauc(0.5)
        0.0625
        """
        if not 0 <= limit <= 1:
            raise ShapeError(f"the limit of a partial area is a share in [0, 1], got {limit}")
        left = np.minimum(self.discard, limit)
        return float((np.diff(left, append=limit) * self.error).sum())

    def discard_to_halve(self) -> float | None:
        """Give the least share to discard that halves the error.

        None without errors to halve, and where that takes discarding everything.
        """
        reached = np.flatnonzero(self.error[:-1] <= self.start / 2)
        return float(self.discard[reached[0]]) if self.errors and len(reached) else None


def pair_degree(a: NDArray[Any], b: NDArray[Any]) -> F64:
    """Give the degree of comparisons from those of their two pictures: the larger one.

    In terms of quality, 1 - degree, it is the smaller one; nothing else speaks of quality.
    """
    worse: F64 = np.maximum(a, b).astype(np.float64)
    return worse


def edc(errors: ArrayLike, degree: ArrayLike) -> Edc:
    """Compute a curve.

    Args:
        errors: (n,) bool, whether each comparison is an error at the fixed threshold: a mated one
            below it (FNMR mode) or a non-mated one at or above it (FMR mode).
        degree: (n,) blur degree of each comparison, see `pair_degree`; any finite scale that rises
            with blur gives the same curve.

    Raises:
        InputError: There are no comparisons.
        ShapeError: The arrays are no pairs, or a degree is not finite.

    >>> curve = edc([True, False, True, False], [0.9, 0.9, 0.2, 0.1])   # two leave at once
    >>> curve.discard.tolist(), curve.error.tolist()
    ([0.0, 0.5, 0.75, 1.0], [0.5, 0.5, 0.0, 0.0])
    """
    wrong, worst = np.asarray(errors, bool), np.asarray(degree, np.float64)
    if wrong.ndim != 1 or wrong.shape != worst.shape:
        raise ShapeError(f"errors of {wrong.shape} and degrees of {worst.shape} are not pairs")
    if not len(wrong):
        raise InputError("an error-versus-discard curve needs at least one comparison")
    if not bool(np.isfinite(worst).all()):
        raise ShapeError("a comparison has a degree that is not a finite number")
    order = np.argsort(-worst, kind="stable")
    worst, n = worst[order], len(worst)
    left = np.cumsum(wrong[order][::-1])[::-1]  # errors among those from here on
    gone = np.flatnonzero(np.concatenate([[True], worst[1:] != worst[:-1]]))
    error = left[gone] / (n - gone)
    return Edc(
        discard=np.append(gone / n, 1.0),
        error=np.append(error, 0.0),
        comparisons=n,
        errors=int(wrong.sum()),
    )


def best_edc(errors: ArrayLike) -> Edc:
    """Compute the curve of who knows every error and discards those first: no other is lower.

    Args:
        errors: (n,) bool, see `edc`.
    """
    wrong = np.asarray(errors, bool)
    # Every error is a point of its own; what is right leaves at the end, together.
    return edc(wrong, np.where(wrong, 1 + np.cumsum(wrong), 0.0))
