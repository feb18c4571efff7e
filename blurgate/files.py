"""Files that are there whole or not at all; values out of files that anybody may have written."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeGuard

from blurgate.errors import ConfigError, naming
from blurgate.io.text import shown
from blurgate.locking import LOCK

TEMPORARY: Final = ".tmp"


@contextmanager
def written_whole(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path beside a file, which becomes the file at the end of the block.

    It is brought to the disk before, unless `sync` is off. After an error it is gone, and the old
    file stays.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with naming(path):
            yield temporary
            if sync:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, chunks: Iterable[str]) -> None:
    """Write a text file that is there whole or not at all."""
    with (
        written_whole(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        file.writelines(chunks)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON for people and programs; the file is there whole or not at all."""
    write_atomically(path, [json.dumps(value, indent=1) + "\n"])


def is_unused(folder: Path, first: str) -> bool:
    """Whether a folder holds nothing, or nothing but a torn beginning and the lock of a run.

    Args:
        folder: It exists.
        first: The file that a run writes first, with `write_atomically`.
    """
    return all(path.name in (first + TEMPORARY, LOCK) for path in folder.iterdir())


def check_not_replaced(names: Iterable[str], replaced: Iterable[Path], folder: Path) -> None:
    """Check that no input is among the results that overwriting deletes before it is read.

    Args:
        names: Paths of the inputs.
        replaced: Files and folders that go.
        folder: Of the results, for the message.

    Raises:
        ConfigError: One is.
    """
    going = {path.resolve() for path in replaced}
    for name in names:
        path = Path(name).resolve()
        if not going.isdisjoint((path, *path.parents)):
            raise ConfigError(
                f"{shown(name)} is one of the results in {folder}, which --overwrite deletes; "
                "choose another --out"
            )


@contextmanager
def folder_of(path: Path) -> Iterator[None]:
    """Make the folder of a file for a block that writes it; what is left empty goes again.

    So what cannot be made is an error before the work, and work that fails leaves nothing.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # it holds something, or could not be made
                folder.rmdir()
        raise


def matching(word: str) -> list[str]:
    """Resolve a pattern that the shell left, as on Windows.

    Returns:
        Sorted paths; the word itself where that is one, or where nothing matches.
    """
    if not glob.has_magic(word) or os.path.lexists(word):
        return [word]
    return sorted(glob.glob(word)) or [word]  # noqa: PTH207 - keeps "../"


def parsed_object(data: bytes) -> dict[str, Any] | None:
    """Read a JSON object that anybody may have written; None where it is damaged, or none."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def are_plain(settings: object) -> bool:
    """Tell whether a value of a file can be the settings of `blurgate filter` or `blurgate score`.

    Nothing in these is nested, so that they can be compared and shown whatever the file held.
    """
    return isinstance(settings, dict) and all(
        value is None or isinstance(value, str | int | float) for value in settings.values()
    )


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Give the first key, by name, in which two settings differ."""
    return next((k for k in sorted({*one, *other}) if one.get(k) != other.get(k)), None)


def is_count(value: object) -> TypeGuard[int]:
    """Tell whether a value of a file is a number of things, or of bytes."""
    return type(value) is int and 0 <= value < 1 << 63
