"""The clean faces of an evaluation: read once, with who they show and how large they were."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import numpy as np

from blurgate.errors import ConfigError, DecodeError, InputError
from blurgate.io.images import read_image
from blurgate.io.text import shown
from blurgate.pipeline import ordered_map
from blurgate.training.faces import (
    Face,
    FaceReader,
    Skipped,
    digest,
    find_face,
    list_faces,
    native_side,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.training.faces import Identity
    from blurgate.types import U8

GROUPS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "mebeauty": (r"[^_]+_(?P<group>[^_]+)_.*", {}),
    "utkface": (
        r"\d+_\d+_(?P<group>\d)_.*",
        {"0": "white", "1": "black", "2": "asian", "3": "indian", "4": "other"},
    ),
}
"""Collections whose file names tell a group: pattern of the name without its ending, and what its
codes mean. The groups are the collections' own labels."""


@dataclass(frozen=True, slots=True, eq=False)
class CleanFaces:
    """f clean faces."""

    crops: list[U8]
    """f crops (s, s, 3) uint8 BGR, s from 112."""
    sources: list[str]
    identities: list[str]
    groups: list[str]
    """f names of groups; empty where the file's name tells none."""
    sides: NDArray[np.float64]
    """(f,) pixels of the picture along a side of the crop."""
    faces: list[Face]
    """f: where they come from; empty for a synth folder."""

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.crops)


class GroupNames:
    """Reads a person's group out of a file's name.

    Args:
        pattern: A key of `GROUPS`, or a regular expression for the whole name without its ending;
            the group is the part called `group`, or else the first one in parentheses. None: no
            face has a group.

    Raises:
        ConfigError: The pattern is no regular expression, or has no part in parentheses.
    """

    def __init__(self, pattern: str | None) -> None:
        text, self._meaning = GROUPS.get(pattern or "", (pattern or "", {}))
        try:
            self._pattern = re.compile(text) if pattern is not None else None
        except re.error as error:
            raise ConfigError(f"--groups {pattern}: {error}") from error
        if self._pattern is not None and not self._pattern.groups:
            raise ConfigError(
                f"--groups {pattern}: put the part that names the group in parentheses, such as "
                r"'\w+_(\w+)_\d+', or use " + " or ".join(GROUPS)
            )

    def __call__(self, source: str) -> str:
        """Give the group of a file; "" where its name tells none."""
        stem = PurePath(source.replace("\\", "/")).stem
        found = self._pattern.fullmatch(stem) if self._pattern is not None else None
        if found is None:
            return ""
        name = found["group"] if "group" in found.re.groupindex else found[1]
        return self._meaning.get(name or "", name or "")


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
    groups: str | None = None,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> CleanFaces:
    """Read faces.

    Args:
        faces: What to read.
        reader: Cuts the crops out.
        groups: See `GroupNames`.
        workers: Threads.
        on_progress: Called with the number of pictures that are done.
        on_failure: Called with (path, one line) for every picture that is skipped.

    Raises:
        InputError: No picture gives a face.
        ConfigError: `groups` is no usable pattern, or fits no file.
    """
    group_of = GroupNames(groups)
    kept: list[Face] = []
    crops: list[U8] = []
    sides: list[float] = []
    read = ordered_map(lambda face: _read(reader, face.source), faces, workers)
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
    named = [group_of(face.source) for face in kept]
    if groups is not None and not any(named):
        raise ConfigError(f"--groups {groups} fits no file name, such as {shown(kept[0].source)}")
    return CleanFaces(
        crops,
        [face.source for face in kept],
        [face.identity for face in kept],
        named,
        np.array(sides),
        kept,
    )


def _read(reader: FaceReader, source: str) -> tuple[U8, float] | Skipped:
    """Read one face; gives the crop and its side in pixels of the picture."""
    if reader.detector is None:
        crop = reader(source)
        return crop if isinstance(crop, Skipped) else (crop, float(len(crop)))
    try:
        image = read_image(source)
    except DecodeError as error:
        return Skipped(source, "unreadable", str(error))
    kps = find_face(reader.detector, image, source, reader.pick)
    if kps is None:
        return Skipped(source, "no_face", f"{shown(source)} shows no face")
    crop = reader.aligned(source, image, kps)
    return crop if isinstance(crop, Skipped) else (crop, native_side(kps))
