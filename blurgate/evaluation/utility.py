"""What a score is worth to a recogniser: error versus discard, and a gate at its own threshold.

    condition   clean, or one side of every comparison blurred or degraded by a family
    recogniser  the embedder that labels come from, and a judge that has nothing to do with them
    point       the fixed match threshold: at an FMR, from comparisons of clean faces, or at a
                starting FNMR, from the condition's own
    mode        FNMR (mated comparisons below the threshold) or FMR (non-mated ones at or above it)

Comparisons are of a clean face with the changed picture of another photo. Scorers score both; the
worse of the two decides when a comparison leaves. Three rows bound every scorer: `random` discards
blindly, so the expected error stays what it is; `oracle` discards by the true label, which looks at
one picture and not at the comparison; `best` knows the errors and discards those first.

A threshold that is taken anew at every step of the curve, as in CR-FIQA's published evaluation,
gives other curves: numbers from there are not comparable with these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from blurgate.errors import InputError
from blurgate.evaluation import verification
from blurgate.evaluation.edc import Edc, best_edc, edc, pair_degree
from blurgate.evaluation.families import Family, clean_twins
from blurgate.evaluation.findings import BOUNDS, GRID, Curve, Gated, UtilityResult, WorstPair, plain
from blurgate.evaluation.material import degrees
from blurgate.evaluation.names import distinct_names
from blurgate.training.labels import Labeller, labels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.evaluation.verification import Pairs
    from blurgate.interfaces import Embedder, Scorer
    from blurgate.training.faces import Face
    from blurgate.types import F32, F64, U8

    Progress: TypeAlias = Callable[[str], None]

FMRS: Final = (1e-2, 1e-3)
START_FNMR: Final = 0.1
LIMITS: Final = (0.2, 0.3)
CLEAN: Final = "clean"
_PART: Final = 64  # pictures that are made at once


def evaluate_utility(
    scorers: Mapping[str, Scorer],
    faces: Sequence[Face],
    crops: Sequence[U8],
    *,
    embedder: Embedder,
    judge: Embedder | None = None,
    families: Sequence[Family] = (),
    pairs: Pairs | None = None,
    impostors: int = verification.IMPOSTORS,
    seed: int = 0,
    on_progress: Progress = lambda condition: None,
) -> UtilityResult:
    """Evaluate scorers on comparisons.

    Args:
        scorers: Under the names that they have in the result.
        faces: n pictures of several people, some of whom are there twice.
        crops: n clean crops (s, s, 3) uint8 BGR, in the order of the faces; see
            `blurgate.training.dataset.read_crops`.
        embedder: Gives the labels of the oracle, and verifies.
        judge: Verifies too; another one than the embedder, and best one that labelled no training
            data.
        families: Each is a condition beside `clean`.
        pairs: From `verification.read_pairs`; None: all mated and drawn non-mated ones.
        impostors: How many of those are drawn.
        seed: Decides the draw, and which side of a comparison is changed.
        on_progress: Called with the name of every condition that begins.

    Raises:
        InputError: There are too few faces, people or comparisons; the message says how many are
            needed.
        ConfigError: The judge is the embedder.
    """
    if not scorers.keys().isdisjoint(BOUNDS):
        raise InputError(f"scorers need names that differ from {BOUNDS}")
    people = [face.identity for face in faces]
    if pairs is None:
        pairs = verification.make_pairs(people, impostors=impostors, seed=seed)
    if not len(pairs.genuine):
        raise InputError(
            f"no person appears twice among the {len(faces)} faces, so there is nothing to "
            "verify; see --identity"
        )
    sided = pairs.sided(seed)
    recognisers = [Labeller(model) for model in (embedder, judge) if model is not None]
    names = distinct_names([recogniser.info for recogniser in recognisers])
    twins = clean_twins(crops)
    clean = [recogniser.embed(twins) for recogniser in recognisers]
    scored = [degrees(scorer, twins) for scorer in scorers.values()]
    run = _Run(scorers, faces, sided, names, twins, clean, scored)
    run.fix_thresholds()
    on_progress(CLEAN)
    run.condition(CLEAN, twins, clean, scored, np.zeros(len(faces)))
    for family in families:
        on_progress(family.name)
        starts = range(0, len(crops), _PART)
        pictures = np.concatenate(
            [
                family.make(
                    crops[at : at + _PART], [f.position for f in faces[at : at + _PART]]
                ).pictures
                for at in starts
            ]
        )
        vectors = [recogniser.embed(pictures) for recogniser in recognisers]
        labels = labels_of(clean[0], vectors[0]).astype(np.float64)
        rescored = [degrees(scorer, pictures) for scorer in scorers.values()]
        run.condition(family.name, pictures, vectors, rescored, labels, held_out=family.held_out)
    facts = {
        "faces": len(faces),
        "identities": len(set(people)),
        "pairs": {
            "source": pairs.source,
            "genuine": len(pairs.genuine),
            "impostor": len(pairs.impostor),
        },
        "seed": seed,
        "embedder": str(embedder.info),
        "judge": None if judge is None else str(judge.info),
        "scorers": [
            {"name": name, "sha256": scorer.info.sha256, "threshold": scorer.threshold}
            for name, scorer in scorers.items()
        ],
        "recognisers": run.recognisers,
        "conditions": run.conditions,
    }
    return UtilityResult(facts, tuple(run.curves), tuple(run.gates), tuple(run.cases))


class _Run:
    """What one evaluation gathers, condition by condition."""

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        faces: Sequence[Face],
        pairs: Pairs,
        names: Sequence[str],
        twins: U8,
        clean: Sequence[F32],
        scored: Sequence[F64],
    ) -> None:
        self._scorers, self._faces, self._pairs = scorers, faces, pairs
        self._names, self._twins, self._clean, self._scored = names, twins, clean, scored
        self._thresholds: list[dict[str, float]] = []
        self.recognisers: list[dict[str, Any]] = []
        self.conditions: list[dict[str, Any]] = []
        self.curves: list[Curve] = []
        self.gates: list[Gated] = []
        self.cases: list[WorstPair] = []

    def fix_thresholds(self) -> None:
        """Fix the match thresholds on clean faces."""
        pairs = self._pairs
        for name, vectors in zip(self._names, self._clean, strict=True):
            mated, others = (
                verification.similarities(vectors, vectors, part)
                for part in (pairs.genuine, pairs.impostor)
            )
            levels = {f"FMR {r:g}": verification.threshold_at_fmr(others, r) for r in FMRS}
            self._thresholds.append(levels)
            row: dict[str, Any] = {
                "name": name,
                "thresholds": {point: plain(level) for point, level in levels.items()},
                "fnmr": {
                    point: plain(verification.fnmr(mated, level)) for point, level in levels.items()
                },
            }
            if pairs.folds is not None:
                mean, error = verification.fold_accuracy(mated, others, pairs.folds)
                row["accuracy"] = {"mean": plain(mean), "standard_error": plain(error)}
            self.recognisers.append(row)

    def condition(
        self,
        name: str,
        pictures: U8,
        vectors: Sequence[F32],
        rescored: Sequence[F64],
        labels: F64,
        *,
        held_out: bool = False,
    ) -> None:
        """Evaluate one condition.

        Args:
            name: Of the condition.
            pictures: (n, 112, 112, 3) what became of the faces.
            vectors: Their embeddings, for each recogniser.
            rescored: Their degrees, for each scorer.
            labels: (n,) their true degrees.
            held_out: Whether no training sees the like.
        """
        self.conditions.append(
            {"name": name, "held_out": held_out, "mean_label": plain(float(labels.mean()))}
        )
        pairs = self._pairs
        sides = {"FNMR": pairs.genuine, "FMR": pairs.impostor}
        degree = {
            (mode, scorer): pair_degree(before[part[:, 0]], after[part[:, 1]])
            for mode, part in sides.items()
            for scorer, before, after in zip(self._scorers, self._scored, rescored, strict=True)
        }
        for mode, part in sides.items():
            degree[mode, "oracle"] = labels[part[:, 1]]
        for number, recogniser in enumerate(self._names):
            similarity = {
                mode: verification.similarities(self._clean[number], vectors[number], part)
                for mode, part in sides.items()
            }
            points = dict(self._thresholds[number])
            own = verification.threshold_at_fnmr(similarity["FNMR"], START_FNMR)
            points[f"FNMR {START_FNMR:g}"] = own
            for point, level in points.items():
                errors = {
                    "FNMR": similarity["FNMR"] < level,
                    "FMR": similarity["FMR"] >= level,
                }
                where = (recogniser, name, point, level)
                for mode, wrong in errors.items():
                    self._add_curves(where, mode, wrong, degree)
                for scorer, after in zip(self._scorers, rescored, strict=True):
                    self._add_gate(where, scorer, after, errors, degree)
            if number == 0:
                self._add_cases(name, pictures, similarity["FNMR"], degree)

    def _add_curves(
        self,
        where: tuple[str, str, str, float],
        mode: str,
        wrong: NDArray[np.bool_],
        degree: dict[tuple[str, str], F64],
    ) -> None:
        flat = edc(wrong, np.zeros(len(wrong)))
        self._add_curve(where, mode, "random", flat, [flat.start] * len(GRID))
        self._add_curve(where, mode, "best", best_edc(wrong))
        for (of, scorer), values in degree.items():
            # Clean faces all have the label 0, which orders nothing.
            if of == mode and not (scorer == "oracle" and where[1] == CLEAN):
                self._add_curve(where, mode, scorer, edc(wrong, values))

    def _add_curve(
        self,
        where: tuple[str, str, str, float],
        mode: str,
        scorer: str,
        curve: Edc,
        error: Sequence[float] | None = None,
    ) -> None:
        recogniser, condition, point, level = where
        read = curve.at(GRID).tolist() if error is None else error
        self.curves.append(
            Curve(
                recogniser=recogniser,
                condition=condition,
                mode=mode,
                point=point,
                scorer=scorer,
                match_threshold=level,
                start=curve.start,
                pauc20=curve.pauc(LIMITS[0]),
                pauc30=curve.pauc(LIMITS[1]),
                halved_at=curve.discard_to_halve(),
                error=tuple(read),
            )
        )

    def _add_gate(
        self,
        where: tuple[str, str, str, float],
        scorer: str,
        after: F64,
        errors: dict[str, NDArray[np.bool_]],
        degree: dict[tuple[str, str], F64],
    ) -> None:
        recogniser, condition, point, _ = where
        threshold = self._scorers[scorer].threshold
        kept = {mode: degree[mode, scorer] <= threshold for mode in errors}
        self.gates.append(
            Gated(
                recogniser=recogniser,
                condition=condition,
                point=point,
                scorer=scorer,
                threshold=threshold,
                kept_faces=float((after <= threshold).mean()),
                kept_comparisons=float(kept["FNMR"].mean()),
                fnmr_without=float(errors["FNMR"].mean()),
                fnmr=_mean(errors["FNMR"][kept["FNMR"]]),
                fmr_without=float(errors["FMR"].mean()),
                fmr=_mean(errors["FMR"][kept["FMR"]]),
            )
        )

    def _add_cases(
        self,
        condition: str,
        pictures: U8,
        similarity: F64,
        degree: dict[tuple[str, str], F64],
    ) -> None:
        """Keep the comparison of either kind that a scorer gets most wrong."""
        level = self._thresholds[0][f"FMR {FMRS[-1]:g}"]
        for scorer in self._scorers:
            values = degree["FNMR", scorer]
            for kind, of, worst in (
                ("missed", similarity < level, np.argmin),
                ("wasted", similarity >= level, np.argmax),
            ):
                if not of.any():
                    continue
                row = np.flatnonzero(of)[worst(values[of])]
                a, b = (int(i) for i in self._pairs.genuine[row])
                self.cases.append(
                    WorstPair(
                        condition,
                        scorer,
                        kind,
                        float(values[row]),
                        float(similarity[row]),
                        (self._faces[a].source, self._faces[b].source),
                        np.stack([self._twins[a], pictures[b]]),
                    )
                )


def _mean(wrong: NDArray[np.bool_]) -> float | None:
    return float(wrong.mean()) if len(wrong) else None
