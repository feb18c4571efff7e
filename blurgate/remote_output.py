"""Results that go to an fsspec address: made here, and brought there whole.

A table or folder is written in a work folder on this machine, where a run can be interrupted and
resumed like any other, and goes up when it is complete. So nothing at the address is ever half a
table: an object store shows an object when all of it is there; on other file systems a file goes up
under another name and is renamed. Of a folder, the journal goes last, and says that it is whole.

The work folder is one per address below `BLURGATE_WORK_DIR`, or the user's cache folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from blurgate.errors import NO_ROOM, BlurgateError, ConfigError, EnvironmentLackError, InputError
from blurgate.files import TEMPORARY, folder_of, write_json
from blurgate.folders import PICTURE_FOLDERS, noted_settings, result_files
from blurgate.io.remote import filesystem
from blurgate.io.text import digest, reason, shown
from blurgate.journal import JOURNAL, read_journal
from blurgate.locking import alone_at
from blurgate.scoring import check_is_table, journal_path
from blurgate.sharding import note_path

WORK_VARIABLE: Final = "BLURGATE_WORK_DIR"
_OBJECT_STORES: Final = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss"))
_HEAD_BYTES: Final = 1 << 16


class RemoteTable:
    """A table at an address.

    Args:
        address: The table.
        option: What named it, for messages.
        again: How a command that could not bring it up is run again, for messages.

    Raises:
        InputError: The address cannot be used.
        EnvironmentLackError: A package is missing.
    """

    def __init__(self, address: str, option: str, *, again: str = "with --resume") -> None:
        self.address = address
        self._option = option
        self._again = again
        self._files, self._path = filesystem(address)
        self._work = work_folder(address)
        self._taken = self._work.with_name(self._work.name + ".taken")
        self.local = self._work / _name_of(address)
        """Where the table is made; after `begin`, it may be where a complete one was taken to."""

    def begin(self, *, resume: bool) -> None:
        """Make room for the table, or for going on with it.

        Args:
            resume: Go on with what an earlier run on this machine left. If it left nothing, the
                table that is there is taken here, to be checked like one of this machine.

        Raises:
            ConfigError: What is there would be replaced, and is not a table of `blurgate score`.
        """
        begun = resume and self._work.is_dir() and any(self._work.iterdir())
        with told(self.address, self._again):
            there = self._files.exists(self._path)
            if there and (begun or not resume):
                self._check_replaced()
        shutil.rmtree(self._taken, ignore_errors=True)
        if not resume:
            _discard(self._work)
        self._work.mkdir(parents=True, exist_ok=True)
        if there and resume and not begun:
            with told(self.address, self._again):
                self._take_down()

    def _check_replaced(self) -> None:
        if self._files.isdir(self._path):
            raise ConfigError(f"{shown(self.address)} is a folder; choose another {self._option}")
        with self._files.open(self._path, "rb", block_size=_HEAD_BYTES) as file:
            check_is_table(file, self.address, self._option)

    def _take_down(self) -> None:
        self._taken.mkdir()
        self.local = self._taken / self.local.name
        for path in (self.local, note_path(self.local)):
            if self._files.exists(self._remote(path)):
                self._files.get_file(self._remote(path), str(path))

    def publish(self) -> None:
        """Bring the complete table up, unless it came from there, and clear the work folder."""
        if not self.local.is_file() or journal_path(self.local).exists():
            raise ConfigError(f"{self.local} is not complete; run the same command with --resume")
        if self.local.parent == self._work:
            with told(self.address, self._again):
                self._bring_up()
        for folder in (self._work, self._taken):
            _discard(folder)

    def _bring_up(self) -> None:
        _make_folder(self._files, self._path)
        note = note_path(self.local)
        if self._files.exists(self._remote(note)):
            self._files.rm_file(self._remote(note))  # of the table that is replaced
        for path in (self.local, note):
            if path.is_file():
                put(self._files, path, self._remote(path))

    def _remote(self, path: Path) -> str:
        return f"{self._path}{path.name.removeprefix(self.local.name)}"


class RemoteFolder:
    """A folder of `blurgate filter` at an address.

    Args:
        address: The folder.
        joined: What tells a folder that `blurgate merge` makes from any other; empty for a run.

    Raises:
        InputError: The address cannot be used.
        EnvironmentLackError: A package is missing.
    """

    def __init__(self, address: str, *, joined: str = "") -> None:
        self.address = address
        self._again = "again" if joined else "with --resume"
        self._files, path = filesystem(address)
        self._path = path.rstrip("/")
        self.local = work_folder(address) / (f"joined-{joined}" if joined else "folder")
        """Where the folder is made."""
        self._taken = self.local.with_name("taken")  # beside a folder that goes on with what is up
        self._old = self.local.with_name("replaced")  # names of what goes from there before it is

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Make room for the folder, or for going on with it.

        Raises:
            ConfigError: The address is in use and neither is set; or it holds something that is no
                complete folder of ours, and `overwrite` would have to delete it.
        """
        there = self.check_usable(resume=resume, overwrite=overwrite)
        if there and resume and not self.local.exists():
            self._take_down()
        if not resume:
            _discard(self.local.parent)
        self.local.parent.mkdir(parents=True, exist_ok=True)

    def check_usable(self, *, resume: bool, overwrite: bool) -> bool:
        """Check that the address may be used, and change nothing; tell whether something is there.

        Raises:
            ConfigError: As `begin` does.
        """
        there, ours = self._in_use()
        if there and not ours and not (resume and self.local.exists()):
            raise ConfigError(
                f"{self.address} is not empty and holds no results of blurgate; "
                "choose another --out"
            )
        if there and not resume and not overwrite:
            raise ConfigError(
                f"{self.address} is not empty: use --resume to continue it, --overwrite to begin "
                "anew, or another --out"
            )
        return there

    def begin_joined(self) -> bool:
        """Make room for a folder that is joined of parts.

        Returns:
            Whether an earlier attempt has joined it: it has only to be brought up.

        Raises:
            ConfigError: The address is in use, and not by what such an attempt brought up.
        """
        again = self.local.exists()
        there, ours = self._in_use()
        if ours or (there and not again):
            raise ConfigError(f"{self.address} is in use; choose another --out")
        if not again:
            _discard(self.local.parent)
        return again

    def _in_use(self) -> tuple[bool, bool]:
        """Tell whether there is something at the address, and whether it is a folder of ours."""
        with told(self.address, self._again):
            there = self._files.exists(self._path) and bool(self._files.ls(self._path))
            return there, there and self._files.exists(f"{self._path}/{JOURNAL}")

    def _take_down(self) -> None:
        """Take what a resumed run needs to know: table, journal and summary, not the pictures."""
        temporary = self.local.with_name(self.local.name + TEMPORARY)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        with told(self.address, self._again):
            for name in (JOURNAL, *self._there()):
                self._files.get_file(f"{self._path}/{name}", str(temporary / name))
        self._taken.touch()
        temporary.replace(self.local)  # all or nothing: what lies there is gone on with

    def publish(self) -> None:
        """Bring the complete folder up, the journal last, and clear the work folder."""
        if read_journal(self.local / JOURNAL)[1] is None:
            raise ConfigError(f"{self.local} is not complete; run the same command with --resume")
        with told(self.address, self._again):
            journal = f"{self._path}/{JOURNAL}"
            if self._files.exists(journal) or self._old.exists():
                self._clear(journal)
            names = sorted(p for p in self.local.rglob("*") if p.is_file() and p.name != JOURNAL)
            made: set[str] = set()
            for path in [*names, self.local / JOURNAL]:
                target = f"{self._path}/{path.relative_to(self.local).as_posix()}"
                parent = target.rpartition("/")[0]
                if parent not in made:
                    _make_folder(self._files, target)
                    made.add(parent)
                put(self._files, path, target)
        _discard(self.local.parent)

    def _clear(self, journal: str) -> None:
        """Take back that the folder is whole, until the new one is; an old run's files go.

        They are noted here before: without the journal nothing there tells of them.
        """
        if not self._taken.exists() and not self._old.exists():
            write_json(self._old, self._there())
        if self._files.exists(journal):
            self._files.rm_file(journal)
        if not self._old.exists():
            return
        for path in (f"{self._path}/{name}" for name in json.loads(self._old.read_bytes())):
            if self._files.exists(path):
                self._files.rm_file(path)
        for path in (f"{self._path}/{name}" for name in PICTURE_FOLDERS):
            if self._files.exists(path):
                self._files.rm(path, recursive=True)
        self._old.unlink()

    def _there(self) -> list[str]:
        """Name the files of the run that is there, but the journal."""
        with self._files.open(f"{self._path}/{JOURNAL}", "rb") as lines:
            names = result_files(noted_settings(lines.readline()))
        return [name for name in names if self._files.isfile(f"{self._path}/{name}")]


def put(files: Any, source: Path, target: str) -> None:
    """Bring a file up; it appears whole."""
    if _is_object_store(files):
        files.put_file(str(source), target)
        return
    folder, slash, name = target.rpartition("/")
    temporary = f"{folder}{slash}.{name}.uploading"
    files.put_file(str(source), temporary)
    if files.exists(target):
        files.rm_file(target)  # not every file system renames over a file
    files.mv(temporary, target)


def taken_down(address: str, folder: Path) -> Path:
    """Take a part, a table with its note or a folder, here to be joined.

    Args:
        address: The part.
        folder: Where it goes, in a folder of its own.

    Raises:
        InputError: It cannot be had.
    """
    files, path = filesystem(address)
    path = path.rstrip("/")
    here = folder / digest(address) / _name_of(address)
    here.parent.mkdir(parents=True, exist_ok=True)
    try:
        if files.isdir(path):
            files.get(path + "/", str(here) + "/", recursive=True)
            return here
        files.get_file(path, str(here))
        for beside in (note_path(here), journal_path(here)):
            name = path + beside.name.removeprefix(here.name)
            if files.exists(name):
                files.get_file(name, str(beside))
    except Exception as error:
        if _is_full(error):
            raise  # here
        raise InputError(f"{shown(address)} cannot be read: {reason(error)}") from error
    return here


def work_folder(address: str) -> Path:
    """Give where results for an address are made on this machine."""
    from platformdirs import user_cache_path

    named = os.environ.get(WORK_VARIABLE)
    root = Path(named) if named else user_cache_path("blurgate", appauthor=False) / "work"
    return root / digest(address)


@contextmanager
def alone_there(address: str, option: str) -> Iterator[None]:
    """Keep other runs of this machine from an address for the length of a block.

    From before `begin` until after `publish`: they would delete and bring up one work folder.

    Args:
        address: The table or folder.
        option: What named it, for the message.

    Raises:
        ConfigError: Another run is writing to it.
    """
    work = work_folder(address)
    lock = work.with_name(work.name + ".lock")
    with folder_of(lock), alone_at(address, lock, option):
        yield


@contextmanager
def told(address: str, again: str) -> Iterator[None]:
    """Turn whatever a file system raises into one line that names the address.

    Args:
        address: The address.
        again: How the command is run again, such as "with --resume".
    """
    try:
        yield
    except BlurgateError:
        raise
    except Exception as error:
        message = (
            f"{shown(address)} cannot be written: {reason(error)}; what was done is kept, so mend "
            f"it and run the same command {again}"
        )
        if _is_full(error):
            raise EnvironmentLackError(message) from error
        raise InputError(message, source=address) from error


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in NO_ROOM


def _discard(folder: Path) -> None:
    """Delete a work folder at one go: a later run would go on with half of one."""
    gone = folder.with_name(folder.name + ".gone")
    shutil.rmtree(gone, ignore_errors=True)  # a kill may have left it
    with suppress(OSError):  # there is none
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _make_folder(files: Any, target: str) -> None:
    """Make the folder of a file where there are such things; a bucket is never made."""
    if not _is_object_store(files):
        files.makedirs(target.rpartition("/")[0], exist_ok=True)


def _is_object_store(files: Any) -> bool:
    protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
    return bool(protocols & _OBJECT_STORES)


def _name_of(address: str) -> str:
    """Name what is at an address on this machine: Windows knows no colons, and devices by name."""
    name = address.rstrip("/").rpartition("/")[2]
    if not name:
        raise ConfigError(f"{shown(address)} names no file")
    return "at-" + re.sub(r"[^\w.-]", "_", name).rstrip(".")
