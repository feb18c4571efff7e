"""The material of a calibration: faces, what became of them, and what was measured on each.

A reference is a face as it was given. A probe is what the gate will see: the reference itself, or a
blurred picture of it. Faces are read, blurred, scored and embedded in parts of `PART`, so memory
holds numbers and not pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import InputError
from blurgate.evaluation.families import ChainFamily, Family, clean_twins, make_family
from blurgate.evaluation.natural import natural_families
from blurgate.io.text import digest
from blurgate.pipeline import ordered_map
from blurgate.stages import degrees_of, six_digits
from blurgate.training.dataset import Dataset, Split
from blurgate.training.faces import Face, FaceReader, Skipped
from blurgate.training.labels import Labeller, labels_of

if TYPE_CHECKING:
    from blurgate.evaluation.verification import Index
    from blurgate.interfaces import Embedder, Scorer
    from blurgate.types import F32, F64, U8


PART: Final = 64
"""Faces in memory at once."""
_SAMPLE: Final = 128  # faces on which a family learns how strong a blur gives which label


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """What was measured: f references and n probes."""

    identities: tuple[str, ...]
    """f: who each reference shows."""
    faces: tuple[Face, ...]
    """The references' pictures; empty for a synth folder."""
    reference_degree: F64
    """(f,) in [0, 1], with the six digits on which the gate decides."""
    reference_embedding: F32 | None
    """(f, d), each of length 1; None without an embedder."""
    owner: Index
    """(n,) the reference that each probe was made of."""
    degree: F64
    """(n,) like `reference_degree`."""
    embedding: F32 | None
    """(n, d) like `reference_embedding`."""
    label: F64 | None
    """(n,) the probes' true degrees in [0, 1]; None where nobody knows them."""
    facts: dict[str, Any]
    """Where all this came from."""

    @property
    def is_changed(self) -> bool:
        """Whether probes are other pictures than the references."""
        return self.degree is not self.reference_degree


def degrees(scorer: Scorer, crops: U8) -> F64:
    """Score crops; gives (n,) float64 as the gate decides on them. Raises as `degrees_of`."""
    return np.array([six_digits(float(degree)) for degree in degrees_of(crops, scorer)], np.float64)


def blur_families(names: Sequence[str], seed: int) -> list[Family]:
    """Make families by name: those of `blurgate.evaluation.families` and `natural`.

    Raises:
        UnknownNameError: There is no such family.
    """
    natural = {family.name: family for family in natural_families(seed)}
    return [natural[name] if name in natural else make_family(name, seed=seed) for name in names]


def material_of_faces(
    faces: Sequence[Face],
    reader: FaceReader,
    scorer: Scorer,
    embedder: Embedder | None,
    *,
    families: Sequence[Family] = (),
    per_image: int = 1,
    seed: int = 0,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> Measured:
    """Measure faces, as they are or blurred.

    Args:
        faces: From `blurgate.training.faces.list_faces`.
        reader: Cuts the crops out.
        scorer: Gives the degrees.
        embedder: Gives embeddings; needed for families, whose blurs are drawn so that labels come
            out evenly.
        families: Each makes `per_image` probes of every face; none: the faces are the probes.
        per_image: How many.
        seed: Decides which faces a family learns its range on.
        workers: Threads that read.
        on_progress: Called with the number of faces that are done.
        on_failure: Called with (path, one line) for every picture that is skipped.

    Raises:
        InputError: No face could be read, or families are given without an embedder.
    """
    labeller = Labeller(embedder) if embedder is not None else None
    if families and labeller is None:
        raise InputError("blurring for a calibration needs an embedder, which says how bad it is")
    if labeller is not None:
        _learn(families, faces, reader, labeller, per_image, seed, workers)
    kept: list[Face] = []
    references, probes = _Numbers(), _Numbers()
    owner: list[int] = []
    done = 0
    for part, crops, n_read in _parts(faces, reader, workers, on_failure):
        start = len(kept)
        kept += part
        if crops:
            references.add(clean_twins(crops), scorer, labeller)
        for family in families:
            for copy in range(per_image):
                index = [face.position * per_image + copy for face in part]
                if crops:
                    probes.add(family.make(crops, index).pictures, scorer, labeller)
                    owner += range(start, len(kept))
        done += n_read
        on_progress(done)
    if not kept:
        raise InputError("none of the pictures gives a face to calibrate on")
    identities = tuple(face.identity for face in kept)
    names = [family.name for family in families]
    facts = {"faces": len(kept), "skipped": len(faces) - len(kept), "blur": names}
    degree, embedding = references.arrays()
    plain = Measured(
        identities=identities,
        faces=tuple(kept),
        reference_degree=degree,
        reference_embedding=embedding,
        owner=np.arange(len(kept)),
        degree=degree,
        embedding=embedding,
        label=None,
        facts=facts,
    )
    if not families:
        return plain
    own = np.array(owner, np.intp)
    probe_degree, probe_embedding = probes.arrays()
    assert embedding is not None
    assert probe_embedding is not None
    label = labels_of(embedding[own], probe_embedding).astype(np.float64)
    return replace(
        plain,
        owner=own,
        degree=probe_degree,
        embedding=probe_embedding,
        label=label,
        facts={**facts, "per_image": per_image},
    )


def material_of_synth(
    folder: Path,
    scorer: Scorer,
    embedder: Embedder | None,
    *,
    split: Split | None = "val",
    on_progress: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Measure a folder of `blurgate synth`: clean twins are references, blurred pictures probes.

    Args:
        folder: The folder.
        scorer: Gives the degrees.
        embedder: Gives embeddings, if there is one.
        split: Which part; None: all.
        on_progress: Called with the number of blurred pictures that are done.

    Raises:
        InputError: The folder holds no dataset, or nothing in that part.
        ConfigError: The dataset is not finished.
    """
    data = Dataset(folder, split=split)
    if not len(data):
        lacking = (
            "labelled pictures"
            if split is None
            else f"pictures of the split {split}; make it with --val, or use --split"
        )
        raise InputError(f"{folder} holds no {lacking}", source=str(folder))
    labeller = Labeller(embedder) if embedder is not None else None
    first = data.clean_rows()
    place = {file: i for i, file in enumerate(first)}
    rows = list(first.values())
    references, probes = _Numbers(), _Numbers()
    for at in range(0, len(rows), PART):
        references.add(data.clean_pictures(rows[at : at + PART]), scorer, labeller)
    for at in range(0, len(data), PART):
        stop = min(at + PART, len(data))
        probes.add(data.pictures(range(at, stop)), scorer, labeller)
        on_progress(stop)
    degree, embedding = references.arrays()
    probe_degree, probe_embedding = probes.arrays()
    return Measured(
        identities=tuple(data.identities[row] for row in rows),
        faces=(),
        reference_degree=degree,
        reference_embedding=embedding,
        owner=np.array([place[file] for file in data.clean_files], np.intp),
        degree=probe_degree,
        embedding=probe_embedding,
        label=data.labels.astype(np.float64),
        facts={
            "faces": len(rows),
            "synth": {key: data.facts.get(key) for key in ("faces", "seed", "per_image")},
            "blur": sorted(set(data.methods)),
            "split": split or "all",
        },
    )


class _Numbers:
    """Degrees and embeddings of pictures that come part by part."""

    def __init__(self) -> None:
        self._degrees: list[F64] = []
        self._embeddings: list[F32] = []

    def add(self, pictures: U8, scorer: Scorer, labeller: Labeller | None) -> None:
        self._degrees.append(degrees(scorer, pictures))
        if labeller is not None:
            self._embeddings.append(labeller.embed(pictures))

    def arrays(self) -> tuple[F64, F32 | None]:
        embeddings = np.concatenate(self._embeddings) if self._embeddings else None
        return np.concatenate([*self._degrees, np.empty(0)]), embeddings


def _parts(
    faces: Sequence[Face],
    reader: FaceReader,
    workers: int,
    on_failure: Callable[[str, str], None],
) -> Iterator[tuple[list[Face], list[U8], int]]:
    """Read faces, `PART` at a time; gives those that could be read, and how many were looked at."""
    read = iter(ordered_map(reader, (face.source for face in faces), workers))
    for at in range(0, len(faces), PART):
        whole: list[Face] = []
        crops: list[U8] = []
        part = faces[at : at + PART]
        for face, crop in zip(part, islice(read, len(part)), strict=True):
            if isinstance(crop, Skipped):
                on_failure(crop.source, crop.error)
            else:
                whole.append(face)
                crops.append(crop)
        yield whole, crops, len(part)


def _learn(
    families: Sequence[Family],
    faces: Sequence[Face],
    reader: FaceReader,
    labeller: Labeller,
    per_image: int,
    seed: int,
    workers: int,
) -> None:
    """Let families that can choose their strength spread the labels evenly."""
    chains = [family for family in families if isinstance(family, ChainFamily)]
    if not chains:
        return
    order = sorted(faces, key=lambda face: digest(f"{seed} {face.position}"))[:_SAMPLE]
    read = ordered_map(reader, (face.source for face in order), workers)
    crops = [crop for crop in read if not isinstance(crop, Skipped)]
    if crops:
        for family in chains:
            family.calibrate(crops, labeller, len(faces) * per_image, workers)
