"""Small pictures of the faces of results: from the crops, or cut out of pictures still there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from blurgate.crops import loose_crop
from blurgate.errors import BlurgateError, DecodeError
from blurgate.io.images import is_image, read_image
from blurgate.pipeline import ordered_map
from blurgate.report.page import jpeg
from blurgate.report.results import Results
from blurgate.types import U8

SIDE: Final = 72
"""Longer side of a small picture in pixels."""
_QUALITY: Final = 70


@dataclass(slots=True)
class Thumbs:
    """The small pictures of a page."""

    jpeg: dict[int, bytes] = field(default_factory=dict)
    """Position in `Results.faces` -> JPEG, at most `SIDE` pixels wide and high."""
    possible: int = 0
    """Faces that have a crop, or whose source was a picture."""
    asked: int = 0
    """Of these, the faces that were chosen."""
    gone: int = 0
    """Pictures of sources that are no longer where they were, or no longer pictures."""
    broken: list[str] = field(default_factory=list)
    """One line for each crop that the table names and that cannot be shown."""


def make_thumbs(
    results: Results,
    most: int,
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Thumbs:
    """Make the small pictures of some results.

    Where there are more than `most`, they are taken evenly over the faces sorted from sharp to
    blurred, the sharpest and the blurriest included.

    Args:
        results: What was read.
        most: How many at most; 0 makes none.
        workers: Threads that read pictures; the result does not depend on it.
        on_progress: Called with (done, total) after every file.
    """
    thumbs = Thumbs()
    jobs = _jobs(results, most, thumbs)
    within = results.folder.resolve()

    def work(job: _Job) -> list[tuple[int, bytes | None, str]]:
        return list(_read(results, job, within))

    for done, made in enumerate(ordered_map(work, jobs, workers), 1):
        for index, thumb, problem in made:
            if thumb is not None:
                thumbs.jpeg[index] = thumb
            elif problem:
                thumbs.broken.append(problem)
            else:
                thumbs.gone += 1
        on_progress(done, len(jobs))
    return thumbs


@dataclass(slots=True)
class _Job:
    """A file, and the faces in it."""

    path: Path
    is_crop: bool
    faces: list[int] = field(default_factory=list)


def _jobs(results: Results, most: int, thumbs: Thumbs) -> list[_Job]:
    faces = results.faces
    # Looking into a source costs as much as reading a crop, and most faces have one.
    asked = {face.source for face in faces if not face.crop and face.time_s is None}
    cuttable = {place: _cuttable(results, results.sources[place].name) for place in asked}
    possible = [
        i
        for i, face in enumerate(faces)
        if face.crop or (face.time_s is None and cuttable[face.source] is not None)
    ]
    thumbs.possible = len(possible)
    possible.sort(key=lambda i: faces[i].blur_degree)
    if len(possible) > most:
        places = np.linspace(0, len(possible) - 1, most).round().astype(int)
        possible = [possible[i] for i in places]
    thumbs.asked = len(possible)
    jobs: dict[tuple[Path, bool], _Job] = {}
    for i in possible:
        crop = faces[i].crop
        path = results.folder / crop if crop else cuttable[faces[i].source]
        assert path is not None
        jobs.setdefault((path, bool(crop)), _Job(path, bool(crop))).faces.append(i)
    return list(jobs.values())


def _cuttable(results: Results, name: str) -> Path | None:
    """Give the picture that a source was, as named or beside the table; None for anything else."""
    if results.kind == "synth" or "://" in name or name.isdecimal() or "\0" in name:
        return None
    for path in (Path(name), results.folder / name):
        try:
            if path.is_file():
                return path if is_image(path) else None
        except OSError:  # a name that this system cannot have
            return None
    return Path(name)  # gone; counted when it is to be read


def _read(results: Results, job: _Job, within: Path) -> Iterator[tuple[int, bytes | None, str]]:
    """Give (face, JPEG or None, what is wrong) of each face in a file."""
    try:
        image = _crop(results, job.path, within) if job.is_crop else read_image(job.path)
    except (BlurgateError, OSError) as error:
        for i in job.faces:
            yield i, None, str(error) if job.is_crop else ""
        return
    for i in job.faces:
        box = None if job.is_crop else results.faces[i].box
        yield i, small(image if box is None else loose_crop(image, box)), ""


def _crop(results: Results, path: Path, within: Path) -> U8:
    """Read a face's picture, which must lie in the results' folder, resolved: `within`."""
    # A table from elsewhere must not put a reader's own files into a page that is passed on.
    if not path.resolve().is_relative_to(within):
        raise DecodeError(f"the crop {path} lies outside of {results.folder}", source=str(path))
    return read_image(path)


def small(picture: U8) -> bytes:
    """Shrink a picture to `SIDE` pixels, never enlarge it, and give it as JPEG.

    Args:
        picture: (H, W, 3) uint8 BGR.
    """
    h, w = picture.shape[:2]
    scale = min(1.0, SIDE / max(h, w))
    if scale < 1:
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return jpeg(picture, _QUALITY)
