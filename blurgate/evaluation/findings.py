"""What `blurgate.evaluation.utility` finds, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.stages import six_digits

if TYPE_CHECKING:
    from blurgate.types import U8

GRID: Final = np.arange(201) / 200
"""Shares of discarded comparisons at which curves are written down."""
BOUNDS: Final = ("random", "oracle", "best")
UNFIT: Final = 0.5
"""Who does not recognise more clean pairs than this is no recogniser, or was given other pixels."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Curve:
    """One error-versus-discard curve, and what is read from it."""

    recogniser: str
    condition: str
    mode: str
    """FNMR or FMR."""
    point: str
    """What fixes the match threshold, such as "FMR 0.001"."""
    scorer: str
    """A scorer's name, or random, oracle, best."""
    match_threshold: float
    start: float
    """The error before anything is discarded."""
    pauc20: float
    """Area below the steps up to 20 % discarded; less is better."""
    pauc30: float
    halved_at: float | None
    """Least share to discard that halves the error; None where nothing short of all does."""
    error: tuple[float, ...]
    """(201,) the error at the shares of `GRID`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """What a gate at a scorer's default threshold does."""

    recogniser: str
    condition: str
    point: str
    scorer: str
    threshold: float
    kept_faces: float
    """Share of the condition's pictures that pass."""
    kept_comparisons: float
    """Share of the mated comparisons of which both pictures pass."""
    fnmr_without: float
    fnmr: float | None
    """Among the kept ones; None where none is kept."""
    fmr_without: float
    fmr: float | None


@dataclass(frozen=True, slots=True, eq=False)
class WorstPair:
    """The mated comparison of a condition and kind that a scorer gets most wrong."""

    condition: str
    scorer: str
    kind: str
    """missed: not recognised and scored low; wasted: recognised and scored high."""
    degree: float
    similarity: float
    sources: tuple[str, str]
    pictures: U8
    """(2, 112, 112, 3) the clean face and the changed one."""


@dataclass(frozen=True, slots=True, eq=False)
class UtilityResult:
    """Everything that `evaluate_utility` found."""

    facts: dict[str, Any]
    """Faces, comparisons, recognisers with their thresholds, per condition its label's mean."""
    curves: tuple[Curve, ...]
    gates: tuple[Gated, ...]
    cases: tuple[WorstPair, ...]

    def doubts(self) -> list[str]:
        """Give a line for each recogniser that does not know faces again which nobody blurred."""
        lines = []
        for known in self.facts["recognisers"]:
            point, missed = next(iter(known["fnmr"].items()))
            if missed > UNFIT:
                lines.append(
                    f"{known['name']} does not recognise {missed:.0%} of the clean pairs at "
                    f"{point}: were the faces aligned, and does its card say which pixels it takes "
                    "(docs/models.md)?"
                )
        return lines

    def json(self) -> dict[str, Any]:
        """Give everything but the pictures as JSON would."""
        return {
            **self.facts,
            "discard": [float(share) for share in GRID],
            "curves": [_facts(curve) for curve in self.curves],
            "gates": [_facts(gate) for gate in self.gates],
        }


def _facts(row: Curve | Gated) -> dict[str, Any]:
    """Give plain values with six digits."""
    return {name: plain(getattr(row, name)) for name in row.__dataclass_fields__}


def plain(value: Any) -> Any:
    """Give numbers with six digits, and tuples as lists."""
    if isinstance(value, float):
        return six_digits(value)
    return [plain(entry) for entry in value] if isinstance(value, tuple) else value
