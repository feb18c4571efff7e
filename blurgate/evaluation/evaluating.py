"""What `blurgate evaluate` does for scorers: every part, and the facts that are written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import ConfigError, InputError
from blurgate.evaluation import fidelity
from blurgate.evaluation.clean import CleanFaces
from blurgate.evaluation.families import DEFAULT, make_family
from blurgate.evaluation.groups import GroupNames, check_fit, compare_groups, members
from blurgate.evaluation.leaks import Leaks, run_leaks
from blurgate.evaluation.measuring import Rows, measure_faces, measure_synth
from blurgate.evaluation.names import COLUMNS, name_models
from blurgate.evaluation.protocol import Protocol, run_protocol
from blurgate.files import written_whole
from blurgate.interfaces import Column, ModelInfo
from blurgate.tables import open_table
from blurgate.training.dataset import Dataset
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.evaluation.findings import UtilityResult
    from blurgate.interfaces import Scorer
    from blurgate.training.labels import Labeller


PARTS: Final = ("fidelity", "original", "leaks")
Progress = Callable[[str, int], None]
"""Called with (part, pictures that are done in it)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    parts: tuple[str, ...] = PARTS
    families: tuple[str, ...] = DEFAULT
    per_face: int = 1
    seed: int = 0
    groups: tuple[str, ...] = ()
    """Patterns; see `blurgate.evaluation.groups.GroupNames`."""
    strict: bool = False
    """Whether a part that the faces are too few for is an error; else it is left out."""

    def __post_init__(self) -> None:
        """Check the names."""
        if len(set(self.families)) != len(self.families) or not self.families:
            raise ConfigError("name each blur family once, and at least one")


@dataclass(slots=True)
class Evaluation:
    """What was measured."""

    models: dict[str, Scorer]
    """Name in all tables -> scorer."""
    plan: Plan
    embedder: ModelInfo | None
    judge: ModelInfo | None
    """The second recogniser, whose labels are compared with the embedder's."""
    material: dict[str, Any]
    """What the pictures are."""
    rows: Rows | None = None
    protocol: Protocol | None = None
    leaks: Leaks | None = None
    utility: UtilityResult | None = None
    """None if it was not asked for."""
    left_out: list[str] = field(default_factory=list)
    """One line for each part that the faces were too few for."""
    fidelity: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Scorer -> `all`, `trained`, `held_out`, `families` and `sides` by name, and `groups` and
    `groups_sharp` by axis and name; see `blurgate.evaluation.fidelity.whole` for what each holds,
    and `blurgate.evaluation.groups.compare_groups`."""
    judged: dict[str, Any] = field(default_factory=dict)
    """The same for the second recogniser's labels: how far recognisers agree on what a blur does.
    They see the clean twin, and a scorer does not."""

    def notices(self) -> list[str]:
        """Give what to know before reading: parts left out, recognisers that do not recognise."""
        return [*self.left_out, *(self.utility.doubts() if self.utility is not None else [])]

    def facts(self) -> dict[str, Any]:
        """Give everything as plain values for results.json."""
        rows = self.rows
        return {
            "format": 1,
            "version": version("blurgate"),
            "settings": {
                "parts": list(self.plan.parts),
                "families": list(self.plan.families),
                "per_face": self.plan.per_face,
                "seed": self.plan.seed,
                "groups": list(self.plan.groups),
            },
            "left_out": self.left_out,
            "models": [
                {
                    "name": name,
                    "model": scorer.info.name,
                    "sha256": scorer.info.sha256,
                    "threshold": scorer.threshold,
                }
                for name, scorer in self.models.items()
            ],
            "embedder": self.embedder and asdict(self.embedder),
            "judge": self.judge and asdict(self.judge),
            "material": self.material,
            "set": rows and _set_facts(rows),
            "fidelity": self.fidelity or None,
            "judged": self.judged or None,
            "worst": rows and {name: _worst_facts(rows, name) for name in rows.worst},
            "original": self.protocol and self.protocol.facts(),
            "leaks": self.leaks and self.leaks.facts(),
            "utility": self.utility and self.utility.json(),
        }


def evaluate_faces(
    clean: CleanFaces,
    labeller: Labeller,
    scorers: Sequence[Scorer],
    plan: Plan,
    *,
    judge: Labeller | None = None,
    workers: int = 1,
    on_progress: Progress = lambda part, done: None,
) -> Evaluation:
    """Evaluate scorers on clean faces.

    Args:
        clean: The faces.
        labeller: Makes the labels.
        scorers: What is evaluated, side by side.
        plan: What is measured.
        judge: Labels by a second recogniser, to be compared with the first one's.
        workers: Threads; the results do not depend on them.
        on_progress: See `Progress`.
    """
    models = name_models(scorers)
    material = {
        "faces": len(clean),
        "identities": len(set(clean.identities)),
        "groups": {
            axis: {name: len(own) for name, own in named.items()}
            for axis, named in members(clean.groups).items()
        },
        "side_px_quantiles": np.quantile(clean.sides, [0, 0.25, 0.5, 0.75, 1]).round(1).tolist(),
    }
    done = Evaluation(models, plan, labeller.info, judge.info if judge else None, material)
    if "fidelity" in plan.parts:
        families = [make_family(name, seed=plan.seed) for name in plan.families]
        done.rows = measure_faces(
            clean,
            families,
            labeller,
            models,
            judge=judge,
            per_face=plan.per_face,
            workers=workers,
            on_progress=lambda n: on_progress("fidelity", n),
        )
        _compare(done, done.rows)
    _clean_parts(done, clean, labeller, workers, on_progress)
    return done


def evaluate_synth(
    folder: Path,
    labeller: Labeller | None,
    scorers: Sequence[Scorer],
    plan: Plan,
    *,
    judge: Labeller | None = None,
    workers: int = 1,
    on_progress: Progress = lambda part, done: None,
) -> Evaluation:
    """Evaluate scorers on a folder of `blurgate synth`: its pictures, its labels.

    Args:
        folder: The folder.
        labeller: Makes labels for the parts that the folder has none for; None where only
            `fidelity` is planned.
        scorers: What is evaluated.
        plan: What is measured; its families and its seed count for the other parts only.
        judge: Labels by a second recogniser, to be compared with those of the folder.
        workers: Threads.
        on_progress: See `Progress`.
    """
    models = name_models(scorers)
    group_of = GroupNames(plan.groups)
    check_fit(plan.groups, Dataset(folder).clean_files)
    by, second = (one.info if one is not None else None for one in (labeller, judge))
    done = Evaluation(models, plan, by, second, {})
    if "fidelity" in plan.parts:
        done.rows, facts = measure_synth(
            folder,
            models,
            judge=judge,
            group_of=group_of,
            workers=workers,
            on_progress=lambda n: on_progress("fidelity", n),
        )
        done.material = {"dataset": facts}
        _compare(done, done.rows)
    if labeller is not None and set(plan.parts) - {"fidelity"}:
        _clean_parts(done, _clean_of(folder, group_of), labeller, workers, on_progress)
    return done


def _clean_parts(
    done: Evaluation,
    clean: CleanFaces,
    labeller: Labeller,
    workers: int,
    on_progress: Progress,
) -> None:
    """Do the parts that start from clean faces."""
    plan = done.plan
    if "original" in plan.parts:
        try:
            done.protocol = run_protocol(
                clean,
                labeller,
                done.models,
                seed=plan.seed,
                workers=workers,
                on_progress=lambda n: on_progress("original", n),
            )
        except InputError as error:
            if plan.strict:
                raise
            done.left_out.append(f"original is left out: {error}")
    if "leaks" in plan.parts:
        done.leaks = run_leaks(
            clean,
            labeller,
            done.models,
            seed=plan.seed,
            workers=workers,
            on_progress=lambda n: on_progress("leaks", n),
        )


def _clean_of(folder: Path, group_of: GroupNames) -> CleanFaces:
    """Give the clean twins of a dataset's validation part, or of all of it."""
    data = Dataset.to_evaluate(folder)
    first = data.clean_rows()
    rows = list(first.values())
    return CleanFaces(
        list(data.clean_pictures(rows)),
        list(first),
        [data.identities[row] for row in rows],
        [group_of(file) for file in first],
        np.full(len(rows), float(CROP_SIZE)),
        [],
    )


def _compare(done: Evaluation, rows: Rows) -> None:
    done.fidelity = compare_all(rows, rows.degree)
    if done.judge is not None:
        done.judged = compare_all(rows, {"judge": rows.judged})["judge"]


def compare_all(rows: Rows, degrees: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Compare degrees by name with the labels; see `Evaluation.fidelity`."""
    label = np.array(rows.label)
    kind = ["held_out" if rows.held_out[name] else "trained" for name in rows.family]
    sides = [fidelity.side_name(side) if side else "" for side in rows.side]
    # What a group's sharp faces get shows a shortcut without any blur in between.
    sharp = [g if f == "sharp" else {} for g, f in zip(rows.group, rows.family, strict=True)]
    out = {}
    for name, values in degrees.items():
        degree = np.array(values)
        parts: dict[str, Any] = {"all": fidelity.whole(degree, label)}
        parts |= fidelity.compare(degree, label, kind)
        parts["families"] = fidelity.compare(degree, label, rows.family, list(rows.held_out).index)
        parts["sides"] = fidelity.compare(degree, label, sides, fidelity.side_order)
        parts["groups"] = compare_groups(degree, label, rows.group, rows.identity)
        parts["groups_sharp"] = compare_groups(degree, label, sharp, rows.identity)
        out[name] = parts
    return out


def write_rows(rows: Rows, path: Path) -> None:
    """Write one CSV row per picture, with a column for each axis of groups and each scorer."""
    axes = {a: a if a == "group" else f"group_{a}" for a in members(rows.group)}
    head = [name for name in COLUMNS if name != "label_judge" or rows.judged]
    head[2:2] = axes.values()  # after the identity
    columns = (
        *(Column(name, COLUMNS.get(name, str)) for name in head),
        *(Column(name, float) for name in rows.degree),
    )
    with written_whole(path) as temporary:
        temporary.unlink(missing_ok=True)  # a killed run leaves half of one
        with open_table("csv", temporary, columns, None) as table:
            for i in range(len(rows)):
                table.write(
                    {
                        "file": rows.source[i],
                        "identity": rows.identity[i],
                        **{column: rows.group[i].get(axis, "") for axis, column in axes.items()},
                        "family": rows.family[i],
                        "held_out": int(rows.held_out[rows.family[i]]),
                        "side_px": rows.side[i] or None,
                        "label": rows.label[i],
                        **({"label_judge": rows.judged[i]} if rows.judged else {}),
                        **{name: values[i] for name, values in rows.degree.items()},
                    }
                )


def _set_facts(rows: Rows) -> dict[str, Any]:
    label, family = np.array(rows.label), np.array(rows.family)
    return {
        "pictures": len(rows),
        "families": {
            name: {
                "held_out": held_out,
                "pictures": int((family == name).sum()),
                "label_mean": float(label[family == name].mean()),
                "label_quartiles": np.quantile(label[family == name], [0.25, 0.5, 0.75]).tolist(),
            }
            for name, held_out in rows.held_out.items()
        },
    }


def _worst_facts(rows: Rows, name: str) -> list[dict[str, Any]]:
    return [
        {
            "file": rows.source[case.row],
            "family": rows.family[case.row],
            "label": rows.label[case.row],
            "degree": rows.degree[name][case.row],
        }
        for case in rows.worst[name]
    ]
