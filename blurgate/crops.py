"""Pictures of faces: how they are cut, named and written."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np

from blurgate.errors import InputError
from blurgate.files import TEMPORARY, written_whole
from blurgate.io.text import digest
from blurgate.types import U8, Decision, RoutedFaces, Verdict

CropStyle: TypeAlias = Literal["aligned", "loose", "none"]

LOOSE_MARGIN: Final = 0.3
"""Share of the box's width and height that a loose crop shows on each side of it."""

FOLDERS: Final[dict[Decision, str]] = {"keep": "kept", "review": "review", "reject": "rejected"}
ANNOTATED: Final = "annotated"
CUT: Final = "cut"
VIDEO_FOLDERS: Final = (ANNOTATED, CUT)
"""Of drawn and cut videos; here, because `blurgate.annotating` imports PyAV, which takes time."""


def crop_name(verdict: Verdict) -> str:
    """Give a crop's path relative to the output folder.

    The name depends on the face alone, so that a repeated run writes the same files. The digest
    keeps equally named files of different folders apart; characters that some file system, shell
    or browser treats specially are replaced, so no source can name a path outside the folder.
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(verdict.source.replace("\\", "/")).stem)
    made_of = digest(verdict.source)
    name = f"{stem.lstrip('-')[:48] or 'face'}-{made_of}-{verdict.frame_index:06d}"
    return f"{FOLDERS[verdict.decision]}/{name}-{verdict.face_index}.png"


def loose_crop(image: U8, box: tuple[float, float, float, float]) -> U8:
    """Cut a box with a margin out of its frame, clipped at the frame's edges; at least 1x1 px."""
    h, w = image.shape[:2]
    x1, y1, x2, y2 = box
    mx, my = LOOSE_MARGIN * (x2 - x1), LOOSE_MARGIN * (y2 - y1)
    left, right = (int(np.clip(round(x), 0, w)) for x in (x1 - mx, x2 + mx))
    top, bottom = (int(np.clip(round(y), 0, h)) for y in (y1 - my, y2 + my))
    left, top = min(left, w - 1), min(top, h - 1)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]


def cut_crop(faces: RoutedFaces, verdict: Verdict, style: CropStyle) -> U8 | None:
    """Cut one face's picture out of its frame; None for style none. A view, not a copy."""
    if style == "none":
        return None
    if style == "aligned":
        pixels: U8 = faces.scored.faces.crops[verdict.face_index]
        return pixels
    return loose_crop(faces.frame.image, verdict.box)


def save_crop(folder: Path, verdict: Verdict, pixels: U8) -> str:
    """Write a picture of a face below a folder and give its relative path.

    The file is there whole or not at all.
    """
    name = crop_name(verdict)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise InputError(f"cannot encode the crop {name}", source=verdict.source)
    with written_whole(path, sync=False) as temporary:
        temporary.write_bytes(data.tobytes())
    return name


def delete_crop(folder: Path, name: str) -> None:
    """Delete what `save_crop` has written or half written; nothing else than a name it gives."""
    if re.fullmatch(rf"({'|'.join(FOLDERS.values())})/[A-Za-z0-9_-]+\.png", name):
        for written in (name, name + TEMPORARY):
            (folder / written).unlink(missing_ok=True)
