"""The folder that `blurgate filter` writes: may it be used, and what is replaced in it.

Overwriting deletes one file after another and may be killed in between. The journal says so before
the first one goes, and is replaced by that of the new run when all are gone: at no moment does it
promise results that are not there, and the folder stays one of ours, which can be overwritten.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from blurgate import files
from blurgate.crops import FOLDERS, VIDEO_FOLDERS
from blurgate.errors import ConfigError
from blurgate.files import TEMPORARY, is_unused, parsed_object, write_atomically
from blurgate.io.sources import Source
from blurgate.journal import JOURNAL
from blurgate.locking import check_is_folder
from blurgate.rowfiles import FORMATS, ROWS_SUFFIX

SUMMARY: Final = "summary.json"
PICTURE_FOLDERS: Final = (*FOLDERS.values(), *VIDEO_FOLDERS)
"""Folders of crops, drawings and cuts in it."""
_FORMAT: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")  # the names that a sink can have
_BESIDE: Final = ("", TEMPORARY, ROWS_SUFFIX, ROWS_SUFFIX + TEMPORARY)
"""What follows a table's name, or a killed run may have left beside it."""
_EMPTYING: Final = "emptying"
"""Stands in a journal's first line while the results are being deleted."""


def prepare(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that the folder may be used; with `overwrite`, empty it of results.

    The journal of what was overwritten stays, and says that it is; a new one must replace it.

    Raises:
        ConfigError: It holds something, and neither word allows to go on.
    """
    check_usable(folder, resume=resume, overwrite=overwrite)
    if overwrite and not resume and (folder / JOURNAL).is_file():
        _empty(folder)


def check_usable(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that the folder may be used, as it is or when it has been emptied; change nothing.

    Raises:
        ConfigError: It is none, or holds something, and neither word allows to go on.
    """
    check_is_folder(folder)
    if not folder.exists() or is_unused(folder, JOURNAL):
        return
    if not (folder / JOURNAL).is_file():
        raise ConfigError(
            f"{folder} is not empty and holds no results of blurgate; choose another --out"
        )
    if overwrite and not resume:
        return
    if (parsed_object(_first_line(folder)) or {}).get(_EMPTYING):
        raise ConfigError(
            f"{folder} was being overwritten when that was interrupted: use --overwrite to begin "
            "anew, or another --out"
        )
    if not resume:
        raise ConfigError(
            f"{folder} is not empty: use --resume to continue it, --overwrite to begin anew, or "
            "another --out"
        )


def check_not_replaced(sources: Iterable[Source], folder: Path) -> None:
    """Check that no source is among the results that overwriting deletes before it is read.

    Raises:
        ConfigError: One is.
    """
    folders = (folder / name for name in PICTURE_FOLDERS)
    names = (source.name for source in sources if source.kind != "live")
    files.check_not_replaced(names, (folder / JOURNAL, *_files(folder), *folders), folder)


def _empty(folder: Path) -> None:
    """Delete the results, but not the journal, which says from the beginning that they go."""
    line = {"settings": settings_in(folder), _EMPTYING: True}
    write_atomically(folder / JOURNAL, [json.dumps(line) + "\n"])
    for path in _files(folder):
        path.unlink(missing_ok=True)
    for name in PICTURE_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def result_files(settings: Mapping[str, Any]) -> list[str]:
    """Name the files that a run may have written, but the journal; a `faces.mp4` is not ours.

    Args:
        settings: Of its journal, which a stranger may have written.
    """
    of_run = str(settings.get("table"))  # a plugin may have named it
    formats = {*FORMATS, of_run} if _FORMAT.fullmatch(of_run) else FORMATS
    return [SUMMARY, *(f"faces.{form}{end}" for form in sorted(formats) for end in _BESIDE)]


def noted_settings(line: bytes) -> dict[str, Any]:
    """Give the settings in a journal's first line; a damaged one has none."""
    settings = (parsed_object(line) or {}).get("settings")
    return settings if isinstance(settings, dict) else {}


def _files(folder: Path) -> list[Path]:
    """List the files that the run in a folder may have written, but the journal."""
    return [folder / name for name in result_files(settings_in(folder))]


def settings_in(folder: Path) -> dict[str, Any]:
    """Give the settings of the run in a folder; none where its journal tells none."""
    return noted_settings(_first_line(folder))


def _first_line(folder: Path) -> bytes:
    """Read the journal's first line; none where there is no journal."""
    try:
        with (folder / JOURNAL).open("rb") as lines:
            return lines.readline()
    except OSError:
        return b""
