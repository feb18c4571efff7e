"""The folder that `blurgate filter` writes: may it be used, and what is replaced in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from blurgate.annotating import FOLDERS as VIDEO_FOLDERS
from blurgate.crops import FOLDERS
from blurgate.errors import ConfigError
from blurgate.io.sources import Source
from blurgate.journal import JOURNAL, is_unused

SUMMARY: Final = "summary.json"
_PICTURES: Final = (*FOLDERS.values(), *VIDEO_FOLDERS)


def prepare(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the folder, or check that it may be used; with `overwrite`, empty it of results.

    Raises:
        ConfigError: It holds something, and neither word allows to go on.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    if is_unused(folder, JOURNAL):
        return
    ours = (folder / JOURNAL).is_file()
    if resume and ours:
        return
    if not (overwrite and ours):
        way_out = (
            ": use --resume to continue it, --overwrite to begin anew, or another --out"
            if ours
            else " and holds no results of blurgate; choose another --out"
        )
        raise ConfigError(f"{folder} is not empty{way_out}")
    for name in _PICTURES:
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in (folder / SUMMARY, *folder.glob("faces.*"), folder / JOURNAL):
        path.unlink(missing_ok=True)


def check_not_replaced(sources: Iterable[Source], folder: Path) -> None:
    """Check that no source lies among the results that overwriting deletes before it is read.

    Raises:
        ConfigError: One does.
    """
    replaced = {(folder / name).resolve() for name in _PICTURES}
    for source in sources:
        if source.kind != "live" and not replaced.isdisjoint(Path(source.name).resolve().parents):
            raise ConfigError(
                f"{source.name} is one of the results in {folder}, which --overwrite deletes; "
                "choose another --out"
            )
