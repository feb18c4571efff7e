"""The files of a dataset that `blurgate synth` writes: names, columns, and the facts about it.

    dataset.json                              how it was made, and what came of it
    clean/<name>.png                          112x112 clean twins
    blur_<method>/<name>_<k>.png              blurred pictures
    label_<method>/label/data_label.csv       one row per blurred picture

Until a dataset is finished, its rows lie in rows.csv and journal.jsonl says how far it is.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from blurgate.errors import ConfigError, DecodeError, InputError, naming
from blurgate.interfaces import Column
from blurgate.io.text import reason
from blurgate.types import CROP_SIZE, U8

FORMAT: Final = 1
SETTINGS: Final = "dataset.json"
JOURNAL: Final = "journal.jsonl"
ROWS: Final = "rows.csv"
CLEAN: Final = "clean"

COLUMNS: Final = (
    Column("file", str),
    Column("clean_file", str),
    Column("identity", str),
    Column("split", str),
    Column("method", str),
    Column("parameters", str),
    Column("seed", int),
    Column("index", int),
    Column("label", float),
    Column("embedder", str),
)
HEADER: Final = tuple(column.name for column in COLUMNS)


def clean_file(name: str) -> str:
    """Give the path of a clean twin, relative to the dataset's folder."""
    return f"{CLEAN}/{name}.png"


def blurred_file(method: str, name: str, k: int) -> str:
    """Give the path of a blurred picture, relative to the dataset's folder."""
    return f"blur_{method}/{name}_{k}.png"


def table_file(method: str) -> str:
    """Give the path of a method's table, relative to the dataset's folder."""
    return f"label_{method}/label/data_label.csv"


def write_picture(path: Path, picture: U8) -> None:
    """Write a picture as PNG.

    It is written in place: a picture counts once its row is in the table, and what an interrupted
    run has left without a row is written again.
    """
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise InputError(f"cannot encode {path}", source=str(path))
    with naming(path):
        path.write_bytes(data.tobytes())


def read_picture(path: Path) -> U8:
    """Read a picture of a dataset.

    Returns:
        (112, 112, 3) uint8 BGR.

    Raises:
        DecodeError: It is missing, damaged, or of another size.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DecodeError(f"{path}: {reason(error)}", source=str(path)) from error
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if picture is None or picture.shape != (CROP_SIZE, CROP_SIZE, 3):
        raise DecodeError(
            f"{path} is not a picture of {CROP_SIZE}x{CROP_SIZE} pixels; make the dataset again",
            source=str(path),
        )
    return np.asarray(picture, np.uint8)


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the facts about a dataset.

    Raises:
        InputError: The folder holds no dataset, or one of another format.
    """
    path = folder / SETTINGS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{folder} holds no dataset of blurgate synth ({SETTINGS}: {reason(error)})",
            source=str(folder),
        ) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise InputError(
            f"{path} is not of format {FORMAT}; make the dataset again with this blurgate",
            source=str(folder),
        )
    return facts


def is_dataset(folder: Path) -> bool:
    """Tell whether `blurgate synth` made a folder; a damaged dataset.json counts, another's not."""
    try:
        text = (folder / SETTINGS).read_bytes()
    except (OSError, ValueError):  # there is none, or this is no path at all
        return False
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return True
    return isinstance(facts, dict) and "format" in facts


def check_finished(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a dataset that is not finished.

    Raises:
        ConfigError: It is not.
    """
    if facts.get("rows") is None or os.path.lexists(folder / JOURNAL):
        raise ConfigError(f"the dataset {folder} is not finished; continue it with --resume")


def read_rows(folder: Path, method: str) -> Iterator[dict[str, str]]:
    """Give the rows of a method's table, checked, as they stand there.

    Raises:
        InputError: The table is missing or damaged; the message names the line.
    """
    path = folder / table_file(method)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, strict=True)
            if tuple(rows.fieldnames or ()) != HEADER:
                raise InputError(f"{path} has other columns than a label table", source=str(path))
            for row in rows:
                _check_row(row, f"line {rows.line_num} of {path}")
                yield row
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", source=str(path)) from error


def _check_row(row: dict[str, str], where: str) -> None:
    if None in row or None in row.values():
        raise InputError(f"{where} has not {len(HEADER)} fields")
    try:
        value = float(row["label"])
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise InputError(f"{where}: the label {row['label']!r} is not a number in [0, 1]")
    for file in (row["file"], row["clean_file"]):
        if file.startswith("/") or "\\" in file or ":" in file or ".." in file.split("/"):
            raise InputError(f"{where}: {file!r} is not a path within the dataset")
