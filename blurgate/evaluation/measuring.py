"""Degrees and labels of blurred pictures: the pictures are made once for all scorers.

Pictures are made, labelled and scored in blocks of at most `BLOCK`, each of one family, and
forgotten; what stays is numbers, and the pictures that a scorer is furthest off on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.evaluation.families import ChainFamily, Family, clean_twins
from blurgate.pipeline import ordered_map
from blurgate.report.page import jpeg
from blurgate.stages import degrees_of
from blurgate.training.dataset import Dataset
from blurgate.training.labels import Labeller

if TYPE_CHECKING:
    from blurgate.evaluation.clean import CleanFaces
    from blurgate.evaluation.groups import Groups
    from blurgate.interfaces import Scorer
    from blurgate.types import F32, U8


BLOCK: Final = 32
WORST: Final = 12
"""Pictures with the largest errors that are kept of each scorer."""
_PER_BLOCK: Final = 3
_PER_FAMILY: Final = 3
_CALIBRATION_FACES: Final = 128


@dataclass(frozen=True, slots=True, eq=False)
class WorstPicture:
    """One picture that a scorer is far off on."""

    error: float
    """Degree - label."""
    row: int
    """Its place among the rows."""
    clean: bytes
    """JPEG of the clean twin, 112 px."""
    blurred: bytes
    """JPEG of the picture, 112 px."""


@dataclass(slots=True)
class Rows:
    """n blurred pictures."""

    source: list[str] = field(default_factory=list)
    identity: list[str] = field(default_factory=list)
    group: list[Groups] = field(default_factory=list)
    family: list[str] = field(default_factory=list)
    side: list[float] = field(default_factory=list)
    """Pixels of the picture along a side of the crop."""
    label: list[float] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)
    """The labels that a second recogniser gives; empty without one."""
    degree: dict[str, list[float]] = field(default_factory=dict)
    """Scorer -> n degrees."""
    worst: dict[str, list[WorstPicture]] = field(default_factory=dict)
    """Scorer -> the cases with the largest errors, largest first, a few of each family."""
    held_out: dict[str, bool] = field(default_factory=dict)
    """Family -> whether no training sees it."""

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.label)


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    pictures: U8
    clean: U8
    label: F32
    judged: F32 | None
    degree: dict[str, F32]
    rows: list[tuple[str, str, Groups, str, float]]
    """(source, identity, groups, family, side)"""


def measure_faces(
    clean: CleanFaces,
    families: Sequence[Family],
    labeller: Labeller,
    scorers: Mapping[str, Scorer],
    *,
    judge: Labeller | None = None,
    per_face: int = 1,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Rows:
    """Blur clean faces by families, label and score the pictures.

    Args:
        clean: The faces.
        families: What is done to them; those that can are set so that labels come out even.
        labeller: Makes the labels.
        scorers: Name -> scorer.
        judge: Labels the pictures too, by a second recogniser.
        per_face: Pictures of each face in each family.
        workers: Threads; the result does not depend on them.
        on_progress: Called with the number of pictures that are done.
    """
    twins = clean_twins(clean.crops)
    parts = [slice(at, at + BLOCK) for at in range(0, len(twins), BLOCK)]

    def embed_twins(by: Labeller) -> F32:
        return np.concatenate(list(ordered_map(lambda p: by.embed(twins[p]), parts, workers)))

    embedded = embed_twins(labeller)
    embedded_too = embed_twins(judge) if judge is not None else embedded
    spread = np.linspace(0, len(clean) - 1, min(len(clean), _CALIBRATION_FACES)).astype(int)
    sample = [clean.crops[i] for i in spread]
    for family in families:
        if isinstance(family, ChainFamily):
            family.calibrate(sample, labeller, len(clean) * per_face, workers)

    def make(job: tuple[Family, int, int]) -> _Block:
        family, copy, start = job
        own = range(start, min(start + BLOCK, len(clean)))
        made = family.make([clean.crops[i] for i in own], [i * per_face + copy for i in own])
        rows = [
            (
                clean.sources[i],
                clean.identities[i],
                clean.groups[i],
                family.name,
                side or float(clean.sides[i]),
            )
            for i, side in zip(own, made.sides, strict=True)
        ]
        label = labeller.label(embedded, list(own), made.pictures)
        judged = None
        if judge is not None:
            judged = judge.label(embedded_too, list(own), made.pictures)
        degree = {name: degrees_of(made.pictures, scorer) for name, scorer in scorers.items()}
        return _Block(made.pictures, twins[own.start : own.stop], label, judged, degree, rows)

    jobs = (
        (family, copy, start)
        for family in families
        for copy in range(per_face)
        for start in range(0, len(clean), BLOCK)
    )
    rows = _gather(ordered_map(make, jobs, workers), scorers, on_progress)
    rows.held_out = {family.name: family.held_out for family in families}
    return rows


def measure_synth(
    folder: Path,
    scorers: Mapping[str, Scorer],
    *,
    judge: Labeller | None = None,
    group_of: Callable[[str], Groups] = lambda source: {},
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[Rows, dict[str, Any]]:
    """Score the pictures of a folder of `blurgate synth` against the labels in it.

    Args:
        folder: The folder. Where it has a validation part, only that is taken.
        scorers: Name -> scorer.
        judge: Labels the pictures anew, by a second recogniser.
        group_of: Gives the groups of a clean file.
        workers: Threads.
        on_progress: Called with the number of pictures that are done.

    Returns:
        The rows, and what dataset.json says with the part that was taken as `part`.

    Raises:
        InputError: The folder holds no dataset, or no rows.
        ConfigError: The dataset is not finished.
    """
    data = Dataset.to_evaluate(folder)
    size = float(data.facts.get("size", 0))
    group = {file: group_of(file) for file in set(data.clean_files)}

    def read(start: int) -> _Block:
        own = range(start, min(start + BLOCK, len(data)))
        pictures = data.pictures(own)
        rows = [
            (data.files[i], data.identities[i], group[data.clean_files[i]], data.methods[i], 0.0)
            for i in own
        ]
        clean, label = data.clean_pictures(own), data.labels[own]
        judged = None
        if judge is not None:
            judged = judge.label(judge.embed(clean), range(len(own)), pictures)
        degree = {name: degrees_of(pictures, scorer) for name, scorer in scorers.items()}
        return _Block(pictures, clean, label, judged, degree, rows)

    blocks = ordered_map(read, range(0, len(data), BLOCK), workers)
    rows = _gather(blocks, scorers, on_progress)
    rows.held_out = dict.fromkeys(sorted(set(data.methods)), False)
    facts = {key: value for key, value in data.facts.items() if key not in ("even", "skipped")}
    return rows, {**facts, "part": data.split or "all", "size": size}


def _gather(
    blocks: Iterator[_Block],
    scorers: Mapping[str, Scorer],
    on_progress: Callable[[int], None],
) -> Rows:
    rows = Rows(degree={name: [] for name in scorers})
    cases: dict[str, dict[str, list[tuple[float, int, WorstPicture]]]] = {
        name: {} for name in scorers
    }
    for block in blocks:
        start = len(rows)
        for source, identity, group, family, side in block.rows:
            rows.source.append(source)
            rows.identity.append(identity)
            rows.group.append(group)
            rows.family.append(family)
            rows.side.append(side)
        rows.label += block.label.astype(np.float64).tolist()
        if block.judged is not None:
            rows.judged += block.judged.astype(np.float64).tolist()
        for name, degree in block.degree.items():
            rows.degree[name] += degree.astype(np.float64).tolist()
            _keep_worst(block, degree, start, cases[name])
        on_progress(len(rows))
    for name, families in cases.items():
        every = [case for heap in families.values() for *_, case in heap]
        every.sort(key=lambda case: (-abs(case.error), case.row))
        rows.worst[name] = every[:WORST]
    return rows


def _keep_worst(
    block: _Block, degree: F32, start: int, cases: dict[str, list[tuple[float, int, WorstPicture]]]
) -> None:
    """Keep the block's largest errors if they are among their family's largest so far."""
    error = (degree - block.label).astype(np.float64)
    for i in np.argsort(-np.abs(error), kind="stable")[:_PER_BLOCK].tolist():
        heap = cases.setdefault(block.rows[i][3], [])
        size = float(abs(error[i]))
        if len(heap) < _PER_FAMILY or size > heap[0][0]:
            case = WorstPicture(
                float(error[i]), start + i, jpeg(block.clean[i]), jpeg(block.pictures[i])
            )
            # The row breaks ties, so that cases themselves are never compared.
            heapq.heappush(heap, (size, -case.row, case))
            if len(heap) > _PER_FAMILY:
                heapq.heappop(heap)
