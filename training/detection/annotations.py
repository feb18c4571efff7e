"""Pictures with the faces in them: reading and writing annotations.

Three layouts are read, told apart by the file's name:

- `annotations.json`: an object, path -> list of faces. A face is `{"box": [x1, y1, x2, y2],
  "kps": [[x, y], ...] or null, "ignore": true or false, "score": s}`, of which only `box` is
  required, or the bare list `[x1, y1, x2, y2]`. Points are left eye, right eye, nose, left and
  right mouth corner as seen in the picture. Paths are relative to the file, with forward slashes.
- `label.txt`, the layout in which RetinaFace (Deng et al., 2020) published five landmarks for
  WIDER FACE: `# path`, then one line per face, `x y w h` and five times `x y visibility`, -1 where
  a point is not known; further columns are passed over.
- any other `.txt`: the ground truth of WIDER FACE (Yang et al., 2016): path, number of faces, then
  per face `x y w h blur expression illumination invalid occlusion pose`; invalid faces are ignored.

A path may not lead out of the folder of its annotations (no `..`, nothing absolute); links that lie
in the folder are followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import InputError
from blurgate.files import write_atomically
from blurgate.io.text import reason, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.types import F32

FILE: Final = "annotations.json"
_WIDER: Final = ("wider_face_train_bbx_gt.txt", "wider_face_val_bbx_gt.txt")
FILES: Final = (
    FILE,
    "label.txt",
    *_WIDER,
    *(f"wider_face_split/{name}" for name in _WIDER),
)
"""Where annotations are looked for in a folder; the first that exists is read."""
_IMAGES: Final = ("", "images", "WIDER_train/images", "WIDER_val/images")
"""Folders, below that of the annotations, in which WIDER FACE's pictures are looked for; those of
the other part are not."""
_WIDER_VAL: Final = "WIDER_val"
"""The folder of WIDER FACE's validation pictures; its texts come together whatever is there."""
LARGEST: Final = 1e6
"""Coordinates beyond this are a mistake: no picture is so large, and sums of them overflow."""
_UNKNOWN: Final = np.full((5, 2), np.nan, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Annotated:
    """One picture and the faces that are known to be in it; none is ordinary."""

    path: Path
    name: str
    """The path as the annotations have it."""
    boxes: F32
    """(n, 4) float32 x1 y1 x2 y2 in pixels, x1 < x2 and y1 < y2; may reach past the picture."""
    kps: F32
    """(n, 5, 2) float32 xy; NaN in every value of a face whose points are not known."""
    ignore: NDArray[np.bool_]
    """(n,) True for what is neither a face to find nor background."""

    def __len__(self) -> int:
        """Number of regions, ignored ones included."""
        return len(self.boxes)


@dataclass(frozen=True, slots=True)
class Face:
    """One annotated region."""

    box: tuple[float, float, float, float]
    kps: Sequence[Sequence[float]] | None = None
    ignore: bool = False
    score: float | None = None
    """Of a detector that found it, in [0, 1]; for people, nothing reads it."""


def read_annotations(where: Path | str) -> list[Annotated]:
    """Read the annotations of a folder, or an annotation file.

    Args:
        where: A folder that holds one of `FILES`, or such a file.

    Returns:
        The pictures in the order of the file.

    Raises:
        InputError: There is none, it cannot be read or is not what it should be (the message names
            the line or the picture), a path leads out of the folder, or a picture is missing.
    """
    file = _find(Path(where))
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{shown(str(file))}: {reason(error)}", source=str(file)) from error
    if file.suffix == ".json":
        found = _from_json(file, text)
        places: Sequence[str] = ("",)
        root = file.parent
    else:
        lines = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
        marked = bool(lines) and lines[0][1].startswith("#")
        found = _from_label(file, lines) if marked else _from_wider(file, lines)
        # The parts name their pictures alike where somebody has renumbered them.
        other = {_WIDER[0]: _IMAGES[3], _WIDER[1]: _IMAGES[2]}.get(file.name)
        places = [place for place in _IMAGES if place != other]
        root = file.parent.parent if file.parent.name == "wider_face_split" else file.parent
    pictures = list(_placed(file, root, places, found))
    if not pictures:
        raise InputError(f"{shown(str(file))} names no picture", source=str(file))
    return pictures


def own_parts(folder: Path) -> tuple[Path, Path | None] | None:
    """Give what a folder itself has for training and for validation, if it says so.

    Returns:
        Folders or annotation files; no second one where nothing is for validation.
    """
    train, val = folder / "train", folder / "val"
    if train.is_dir() and val.is_dir():
        return train, val
    if any((folder / name).is_file() for name in FILES[:2]):
        return None
    if train.is_dir() and any((train / name).is_file() for name in FILES[:2]):
        return train, None
    if not (folder / _WIDER_VAL).is_dir():
        return None
    for place in (folder, folder / "wider_face_split"):
        if all((place / name).is_file() for name in _WIDER):
            return place / _WIDER[0], place / _WIDER[1]
    return None


def part_for_evaluation(where: Path | str) -> Path:
    """Give what of a folder is for validation, or the folder itself where it does not say."""
    folder = Path(where)
    if any((folder / name).is_file() for name in FILES[:2]):
        return folder
    own = own_parts(folder)
    return own[1] if own is not None and own[1] is not None else folder


def write_annotations(folder: Path, pictures: Mapping[str, Iterable[Face]]) -> Path:
    """Write `annotations.json` into a folder, replacing an earlier one as a whole.

    Args:
        folder: Exists.
        pictures: Path, relative to the folder and with forward slashes -> its faces.

    Returns:
        The file.
    """
    rows = []
    for name, faces in pictures.items():
        _check_inside(folder / FILE, name)
        listed = json.dumps([_as_json(face) for face in faces])
        rows.append(f"{json.dumps(name)}: {listed}")
    file = folder / FILE
    write_atomically(file, ["{\n", ",\n".join(rows), "\n}\n"])
    return file


def _as_json(face: Face) -> dict[str, Any]:
    row: dict[str, Any] = {"box": [round(float(v), 2) for v in face.box], "kps": None}
    if face.kps is not None:
        row["kps"] = [[round(float(v), 2) for v in point] for point in face.kps]
    row["ignore"] = bool(face.ignore)
    if face.score is not None:
        row["score"] = round(float(face.score), 4)
    return row


def _find(where: Path) -> Path:
    if where.is_file():
        return where
    for name in FILES:
        if (where / name).is_file():
            return where / name
    raise InputError(
        f"{shown(str(where))} holds no annotations; there should be one of {', '.join(FILES)} in "
        "it: label pictures with scripts/make_detection_data.py, or see docs/detector-data.md",
        source=str(where),
    )


def _from_json(file: Path, text: str) -> Iterator[tuple[str, list[Face], str]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(file, f"is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise _bad(file, "must be an object of path -> list of faces")
    for name, rows in content.items():
        if not isinstance(rows, list):
            raise _bad(file, f"of {shown(name)}: the faces must be a list, not {rows!r:.40}")
        faces = []
        for i, row in enumerate(rows):
            at = f"of {shown(name)}, face {i}"
            entry = {"box": row} if isinstance(row, list) else row
            if not isinstance(entry, dict):
                raise _bad(file, f"{at}: must be an object with a box, or four numbers")
            kps, ignore = entry.get("kps"), entry.get("ignore", False)
            if not isinstance(ignore, bool):
                raise _bad(file, f"{at}: ignore must be true or false, not {ignore!r:.40}")
            if kps is not None and not (
                isinstance(kps, list) and len(kps) == 5 and all(_numbers(p, 2) for p in kps)
            ):
                raise _bad(
                    file, f"{at}: kps must be five pairs of numbers up to {LARGEST:g} or null"
                )
            faces.append(Face(_box(file, at, entry.get("box")), kps, ignore))
        yield name, faces, f"of {shown(name)}"


def _from_wider(
    file: Path, lines: Sequence[tuple[int, str]]
) -> Iterator[tuple[str, list[Face], str]]:
    at = 0
    while at < len(lines):
        number, name = lines[at]
        count = lines[at + 1][1] if at + 1 < len(lines) else "nothing"
        if not count.isdecimal():
            raise _bad(
                file, f"line {number + 1}: the number of faces of {shown(name)} must follow its"
                f" path, not {count!r:.40}; for five landmarks use the layout of label.txt"
            )  # fmt: skip
        n = int(count)
        body = lines[at + 2 : at + 2 + n]
        if len(body) < n:
            raise _bad(file, f"ends within the {n} faces of {shown(name)}, at line {number}")
        faces = []
        for line, row in body:
            values = _row(file, line, row)
            if values[2] > 0 and values[3] > 0:  # WIDER FACE holds some faces without extent
                invalid = len(values) > 7 and values[7] == 1
                faces.append(Face(_from_size(values), None, invalid))
        at += 2 + n
        # A picture without faces is followed by a row of zeros in the published file.
        if n == 0 and at < len(lines) and set(lines[at][1].split()) == {"0"}:
            at += 1
        yield name, faces, f"line {number}"


def _from_label(
    file: Path, lines: Sequence[tuple[int, str]]
) -> Iterator[tuple[str, list[Face], str]]:
    name, faces, start = "", list[Face](), 0
    for number, row in lines:
        if row.startswith("#"):
            if name:
                yield name, faces, f"line {start}"
            name, faces, start = row[1:].strip(), [], number
            if not name:
                raise _bad(file, f"line {number}: a path must follow #")
            continue
        values = _row(file, number, row)
        if 4 < len(values) < 19:
            raise _bad(file, f"line {number}: x y w h and five times x y visibility are needed")
        if not (values[2] > 0 and values[3] > 0):
            continue
        points = np.array(values[4:19]).reshape(-1, 3)[:, :2]
        known = len(points) == 5 and bool((points >= 0).any(axis=1).all())
        faces.append(Face(_from_size(values), points.tolist() if known else None))
    if name:
        yield name, faces, f"line {start}"


def _placed(
    file: Path,
    root: Path,
    places: Sequence[str],
    found: Iterable[tuple[str, list[Face], str]],
) -> Iterator[Annotated]:
    """Turn faces into arrays and names into paths that exist inside the folder."""
    seen = set()
    for name, faces, at in found:
        _check_inside(file, name)
        if name in seen:
            raise _bad(file, f"{at}: {shown(name)} stands there twice")
        seen.add(name)
        path = next((p for place in places if (p := root / place / name).is_file()), None)
        if path is None:
            looked = ", ".join(shown(str(root / place)) for place in places)
            raise _bad(file, f"{at}: there is no {shown(name)} in {looked}")
        yield Annotated(
            path,
            name,
            np.array([face.box for face in faces], np.float32).reshape(-1, 4),
            np.array(
                [_UNKNOWN if face.kps is None else face.kps for face in faces], np.float32
            ).reshape(-1, 5, 2),
            np.array([face.ignore for face in faces], np.bool_),
        )


def _check_inside(file: Path, name: str) -> None:
    windows = PureWindowsPath(name)
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or windows.drive or windows.root or ".." in windows.parts:
        raise _bad(file, f"has the path {shown(name)}, which is not one inside its folder")


def _row(file: Path, line: int, row: str) -> list[float]:
    try:
        values = [float(v) for v in row.split()]
    except ValueError:
        values = []
    if len(values) < 4 or not all(abs(v) <= LARGEST for v in values):
        raise _bad(
            file,
            f"line {line}: must be numbers up to {LARGEST:g}, x y w h first, not {row!r:.60}",
        )
    return values


def _from_size(values: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, w, h = values[:4]
    return x, y, x + w, y + h


def _box(file: Path, at: str, value: Any) -> tuple[float, float, float, float]:
    if not _numbers(value, 4):
        raise _bad(
            file,
            f"{at}: box must be four numbers x1 y1 x2 y2 up to {LARGEST:g}, not {value!r:.60}",
        )
    x1, y1, x2, y2 = value
    if not (x1 < x2 and y1 < y2):
        raise _bad(file, f"{at}: the box {value} has no extent; it is x1 y1 x2 y2")
    return x1, y1, x2, y2


def _numbers(value: Any, n: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == n
        and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= LARGEST
            for v in value
        )
    )


def _bad(file: Path, why: str) -> InputError:
    return InputError(f"{shown(str(file))} {why}", source=str(file))
