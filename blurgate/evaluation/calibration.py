"""Choosing the threshold for a target, with a confidence interval.

    keep rate          the lowest threshold that keeps at least this share of the faces
    mean degree        the highest threshold at which the kept faces' mean degree is at most this
    FNMR at an FMR     the highest threshold at which kept comparisons reach the FNMR, at the one
                       match threshold that has the FMR on comparisons of unchanged faces

A threshold is always the degree of some picture, in the six digits on which the gate decides. The
interval comes from `blurgate.evaluation.bootstrap`: over faces for the first two targets, over
identities for the third, for which the match threshold is taken anew from every draw.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from blurgate.errors import ConfigError, InputError
from blurgate.evaluation import bootstrap
from blurgate.evaluation.verification import fnmr, threshold_at_fmr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.evaluation.bootstrap import Interval
    from blurgate.evaluation.comparing import Comparisons
    from blurgate.evaluation.material import Measured
    from blurgate.evaluation.verification import Index
    from blurgate.types import F64


LEAST_FACES: Final = 30
"""Fewer faces say nothing about a threshold."""
LEAST_COMPARISONS: Final = 100
"""Fewer mated comparisons say nothing about an FNMR."""
LEAST_IDENTITIES: Final = 10
"""Fewer people say nothing about other people."""
LEAST_KEPT: Final = 30
"""Mated comparisons, or faces, that a threshold must keep to be chosen for what it does to them."""


@dataclass(frozen=True, slots=True)
class KeepRate:
    """Keep at least this share of the faces."""

    share: float
    kind: str = "keep-rate"

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 < self.share <= 1:
            raise ConfigError(f"a keep rate is a share above 0 and up to 1, got {self.share:g}")


@dataclass(frozen=True, slots=True)
class MeanDegree:
    """Keep faces whose mean degree is at most this; the true degree where it is known."""

    limit: float
    kind: str = "max-mean-degree"

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.limit <= 1:
            raise ConfigError(f"a mean degree lies in [0, 1], got {self.limit:g}")


@dataclass(frozen=True, slots=True)
class Fnmr:
    """Reach an FNMR at an FMR; `ratio` instead of a rate: this share of the FNMR without a gate."""

    fmr: float
    rate: float | None = None
    ratio: float | None = None
    match: float | None = None
    """The match threshold, a cosine, where it is known; the FMR then decides nothing."""
    kind: str = "fnmr"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if (self.rate is None) == (self.ratio is None):
            raise ConfigError("an FNMR is asked for as a rate or as a ratio, one of the two")
        if not 0 < self.fmr < 1:
            raise ConfigError(f"an FMR is a share between 0 and 1, got {self.fmr:g}")
        for value in (self.rate, self.ratio):
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"an FNMR, or its ratio, is from 0 to below 1, got {value:g}")


Target: TypeAlias = KeepRate | MeanDegree | Fnmr


@dataclass(frozen=True, slots=True)
class Choice:
    """What came out."""

    threshold: float
    ci: Interval
    reached: dict[str, float]
    n: dict[str, int]
    notes: tuple[str, ...]
    """Lines for the user."""
    target: dict[str, Any]


def choose(
    measured: Measured,
    target: Target,
    comparisons: Comparisons | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> Choice:
    """Choose a threshold.

    Args:
        measured: The material.
        target: What is to be reached.
        comparisons: For an FNMR.
        replicates: Draws of the bootstrap.
        seed: Decides the draws.

    Raises:
        InputError: There is too little material; the message says how much is needed.
        ConfigError: The target cannot be reached; the message says what can.
    """
    faces = len(measured.identities)
    if faces < LEAST_FACES:
        raise InputError(
            f"a threshold needs at least {LEAST_FACES} faces, and there are only {faces}"
        )
    if isinstance(target, Fnmr):
        if comparisons is None:
            raise ConfigError("an FNMR takes comparisons")
        solver: _Kept | _Compared = _Compared(comparisons, target)
    else:
        solver = _Kept(measured, target)
    whole = np.ones(solver.units, np.int64)
    threshold = solver.threshold(whole)
    if np.isnan(threshold):
        raise ConfigError(solver.nearest(whole))
    found = bootstrap.replicate(solver.threshold, solver.units, replicates=replicates, seed=seed)
    lost = int(np.isnan(found).sum())
    # Where a draw cannot reach the target, only rejecting everything would have been safe.
    ci = bootstrap.interval(np.nan_to_num(found, nan=0.0))
    notes = list(solver.notes(threshold))
    if lost:
        notes.append(
            f"the target could not be reached in {lost} of {replicates} bootstrap draws; "
            "they count as a threshold of 0"
        )
    kept = measured.degree <= threshold
    reached = {"kept_faces": float(kept.mean()), "mean_degree": float(measured.degree[kept].mean())}
    if measured.label is not None:
        reached["mean_label"] = float(measured.label[kept].mean())
    return Choice(
        threshold,
        ci,
        {**reached, **solver.reached(threshold)},
        {
            "faces": faces,
            **({"pictures": len(measured.degree)} if measured.is_changed else {}),
            "identities": len(set(measured.identities)),
            **solver.n,
            "replicates": replicates,
        },
        tuple(notes),
        {key: value for key, value in asdict(target).items() if value is not None},
    )


class _Kept:
    """Targets that count pictures; a unit is a face, with all pictures that were made of it."""

    def __init__(self, measured: Measured, target: KeepRate | MeanDegree) -> None:
        order = np.argsort(measured.degree, kind="stable")
        self._target = target
        self._owner = measured.owner[order]
        self._degree = measured.degree[order]
        self._true = measured.degree if measured.label is None else measured.label
        self._value = self._true[order]
        self._last = _last_of_equals(self._degree)
        self.units = len(measured.identities)
        self.n: dict[str, int] = {}

    def threshold(self, counts: NDArray[np.int64]) -> float:
        """Give the threshold of a draw, NaN where none reaches the target."""
        weight = counts[self._owner]
        total = np.cumsum(weight)[self._last]
        if isinstance(self._target, KeepRate):
            at = int(np.searchsorted(total, self._target.share * total[-1] - 1e-9))
            return float(self._degree[self._last[at]])
        reached = np.flatnonzero(
            _drawn(total)
            & (total >= min(LEAST_KEPT, total[-1]))
            & (self._means(weight) <= self._target.limit)
        )
        return float(self._degree[self._last[reached[-1]]]) if len(reached) else float("nan")

    def _means(self, weight: NDArray[np.int64]) -> F64:
        total = np.cumsum(weight)[self._last]
        return np.cumsum(weight * self._value)[self._last] / np.maximum(total, 1) - 1e-12

    def nearest(self, counts: NDArray[np.int64]) -> str:
        """Say what can be reached."""
        weight = counts[self._owner]
        enough = np.cumsum(weight)[self._last] >= LEAST_KEPT
        means = np.where(enough, self._means(weight), np.inf)
        at = int(means.argmin())
        return (
            f"a mean degree of {self._target_value:g} cannot be reached: the lowest is "
            f"{means[at]:.4g}, at a threshold of {self._degree[self._last[at]]:.6g}"
        )

    @property
    def _target_value(self) -> float:
        target = self._target
        return target.share if isinstance(target, KeepRate) else target.limit

    def notes(self, threshold: float) -> list[str]:
        """Give lines for the user."""
        if threshold >= self._degree[-1] and self._target_value < 1:
            return ["the target is met with every face kept"]
        return []

    def reached(self, threshold: float) -> dict[str, float]:
        """Give what else the threshold does."""
        del threshold
        return {}


class _Compared:
    """The FNMR at an FMR; a unit is an identity."""

    def __init__(self, comparisons: Comparisons, target: Fnmr) -> None:
        self._target = target
        n, persons = len(comparisons.similarity), len(np.unique(comparisons.person))
        if n < LEAST_COMPARISONS or persons < LEAST_IDENTITIES:
            raise InputError(
                f"an FNMR takes at least {LEAST_COMPARISONS} comparisons of the same person and "
                f"{LEAST_IDENTITIES} people who are there twice; there are {n} of {persons} people "
                "(see --identity; --pairing twins compares blurred faces with themselves)"
            )
        order = np.argsort(comparisons.degree, kind="stable")
        self._degree = comparisons.degree[order]
        self._similarity = comparisons.similarity[order]
        self._person = comparisons.person[order]
        self._last = _last_of_equals(self._degree)
        falling = np.argsort(-comparisons.impostor_similarity, kind="stable")
        self._impostor = comparisons.impostor_similarity[falling]
        self._others = comparisons.impostor_person[falling]
        # Too few impostors for the rate are an error here, not in a thousand draws.
        known = target.match
        self._match = threshold_at_fmr(self._impostor, target.fmr) if known is None else known
        self.units = comparisons.persons
        self.n = {"genuine": n, "impostor": len(self._impostor)}

    def threshold(self, counts: NDArray[np.int64]) -> float:
        """Give the threshold of a draw, NaN where none reaches the target."""
        total, share = self._shares(counts)
        limit = self._target.rate
        if limit is None:
            assert self._target.ratio is not None
            limit = self._target.ratio * float(share[-1])
        reached = np.flatnonzero(_drawn(total) & (total >= LEAST_KEPT) & (share <= limit + 1e-12))
        return float(self._degree[self._last[reached[-1]]]) if len(reached) else float("nan")

    def _shares(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], F64]:
        """Give, for every threshold, how many comparisons are kept, and their FNMR."""
        weight = counts[self._person]
        wrong = weight * (self._similarity < self._match_threshold(counts))
        total = np.cumsum(weight)[self._last]
        return total, np.cumsum(wrong)[self._last] / np.maximum(total, 1)

    def _match_threshold(self, counts: NDArray[np.int64]) -> float:
        """Give the lowest similarity whose FMR in a draw is at most the target's."""
        if self._target.match is not None:
            return self._target.match
        weight = np.cumsum(counts[self._others[:, 0]] * counts[self._others[:, 1]])
        allowed = int(np.searchsorted(weight, self._target.fmr * weight[-1] + 1e-9, side="right"))
        return float(np.nextafter(self._impostor[min(allowed, len(weight) - 1)], np.inf))

    def nearest(self, counts: NDArray[np.int64]) -> str:
        """Say what can be reached."""
        total, share = self._shares(counts)
        enough = np.where(total >= LEAST_KEPT, share, np.inf)
        at = len(enough) - 1 - int(enough[::-1].argmin())  # of equal ones, that which keeps most
        asked = (
            f"an FNMR of {self._target.rate:g}"
            if self._target.rate is not None
            else f"{self._target.ratio:g} of the FNMR without a gate"
        )
        known = self._target.match
        point = f"FMR {self._target.fmr:g}" if known is None else f"match threshold {known:g}"
        return (
            f"{asked} at {point} cannot be reached on this material: "
            f"the lowest FNMR is {enough[at]:.4g} ({share[-1]:.4g} without a gate), at a threshold "
            f"of {self._degree[self._last[at]]:.6g}, which keeps {total[at] / total[-1]:.1%} "
            "of the comparisons"
        )

    def notes(self, threshold: float) -> list[str]:
        """Give lines for the user."""
        out = []
        if threshold >= self._degree[-1]:
            # Not every face: those that nobody is compared with may have higher degrees.
            out.append("the target is met with every comparison kept")
        needed = int(np.ceil(10 / self._target.fmr))
        if self._target.match is None and len(self._impostor) < needed:
            out.append(
                f"an FMR of {self._target.fmr:g} rests on {len(self._impostor)} comparisons of "
                f"different people; {needed} or more make it firm"
            )
        return out

    def reached(self, threshold: float) -> dict[str, float]:
        """Give what else the threshold does."""
        kept = self._degree <= threshold
        return {
            "match_threshold": self._match,
            "median_similarity": float(np.median(self._similarity)),
            "fnmr_without_gate": fnmr(self._similarity, self._match),
            "fnmr": fnmr(self._similarity[kept], self._match),
            "kept_comparisons": float(kept.mean()),
        }


def _last_of_equals(rising: F64) -> Index:
    """Give the place of the last of every run of equal values."""
    return np.flatnonzero(np.append(rising[1:] != rising[:-1], True))


def _drawn(total: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which degrees a draw holds, by how much it holds up to each.

    Others would pass for thresholds that are reached: they keep just what the last one below does.
    """
    held: NDArray[np.bool_] = np.diff(total, prepend=0) > 0
    return held
