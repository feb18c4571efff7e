"""The clean faces of an evaluation: read once, with who they show and how large they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blurgate.errors import InputError
from blurgate.evaluation.groups import GroupNames, check_fit
from blurgate.io.text import digest
from blurgate.pipeline import ordered_map
from blurgate.training.faces import Face, FaceReader, Skipped, list_faces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.evaluation.groups import Groups
    from blurgate.training.config import Identity
    from blurgate.types import U8


@dataclass(frozen=True, slots=True, eq=False)
class CleanFaces:
    """f clean faces."""

    crops: list[U8]
    """f crops (s, s, 3) uint8 BGR, s from 112."""
    sources: list[str]
    identities: list[str]
    groups: list[Groups]
    """f: see `blurgate.evaluation.groups`."""
    sides: NDArray[np.float64]
    """(f,) pixels of the picture along a side of the crop."""
    faces: list[Face]
    """f: where they come from; empty for a synth folder."""

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.crops)


def choose_faces(
    arguments: Sequence[str],
    *,
    identity: Identity = "auto",
    people: int | None = None,
    photos: int | None = None,
    seed: int = 0,
) -> list[Face]:
    """List faces, or a sample of them.

    Args:
        arguments: What `blurgate.training.faces.list_faces` takes.
        identity: What tells who a picture shows, likewise.
        people: At most so many identities, chosen by the seed; None: all.
        photos: At most so many pictures of one, the first by name; None: all.
        seed: Decides who is chosen.
    """
    faces = list_faces(arguments, identity=identity)
    known = sorted({face.identity for face in faces}, key=lambda who: digest(f"{seed} {who}"))
    chosen = set(known[:people])
    taken: dict[str, int] = {}
    out = []
    for face in faces:
        if face.identity in chosen:
            taken[face.identity] = taken.get(face.identity, 0) + 1
            if photos is None or taken[face.identity] <= photos:
                out.append(face)
    return out


def read_clean(
    faces: Sequence[Face],
    reader: FaceReader,
    *,
    groups: Sequence[str] = (),
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> CleanFaces:
    """Read faces.

    Args:
        faces: What to read.
        reader: Cuts the crops out.
        groups: Patterns; see `GroupNames`.
        workers: Threads.
        on_progress: Called with the number of pictures that are done.
        on_failure: Called with (path, one line) for every picture that is skipped.

    Raises:
        InputError: No picture gives a face.
        ConfigError: A pattern of `groups` is not usable, or none fits a file.
    """
    group_of = GroupNames(groups)
    kept: list[Face] = []
    crops: list[U8] = []
    sides: list[float] = []
    read = ordered_map(reader.with_side, (face.source for face in faces), workers)
    for done, (face, got) in enumerate(zip(faces, read, strict=True), 1):
        if isinstance(got, Skipped):
            on_failure(got.source, got.error)
        else:
            kept.append(face)
            crops.append(got[0])
            sides.append(got[1])
        on_progress(done)
    if not kept:
        raise InputError("none of the pictures gives a face to evaluate on; see --align")
    check_fit(groups, [face.source for face in kept])
    return CleanFaces(
        crops,
        [face.source for face in kept],
        [face.identity for face in kept],
        [group_of(face.source) for face in kept],
        np.array(sides),
        kept,
    )
