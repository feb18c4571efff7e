"""One process at a time: a lock that dies with its holder."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from blurgate.errors import ConfigError
from blurgate.io.text import shown

LOCK: Final = "run.lock"
"""Held by the run that writes to a folder; a killed run leaves it, and means nothing by it."""
_RETRY_S: Final = 0.1
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that have no locks, as some of clusters."""


@contextmanager
def locked(path: Path, *, busy: Exception | None = None) -> Iterator[None]:
    """Hold a lock for the length of a block.

    The system gives the lock back when its holder ends, however it ends, so that a killed process
    never blocks the next one. On a file system without locks nobody is kept out.

    Args:
        path: The lock's file. It is made, and deleted at the end; its content means nothing.
        busy: Raised if somebody else holds the lock; None: wait for it as long as it takes.

    Raises:
        OSError: The file cannot be made.
    """
    while True:
        file = path.open("ab")
        try:
            while not _taken(file):
                if busy is not None:
                    raise busy
                time.sleep(_RETRY_S)
            if _is_at(file, path):
                break
        except BaseException:
            file.close()
            raise
        file.close()  # its holder deleted it meanwhile, and somebody else may hold a new one
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not delete what is open
            path.unlink()
        file.close()
        if sys.platform == "win32":  # there it fails if somebody else has opened it by now
            with suppress(OSError):
                path.unlink()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other runs out of it for the length of a block.

    Raises:
        ConfigError: Another run is in it, or it is a file, or a link that leads nowhere.
    """
    check_is_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with alone_at(folder, folder / LOCK, "--out"):
        yield


@contextmanager
def alone_at(target: Path | str, lock: Path, option: str) -> Iterator[None]:
    """Keep other runs from writing to one place for the length of a block.

    Args:
        target: The file, folder or address, for the message.
        lock: The lock's file; see `locked`.
        option: Where the user said `target`.

    Raises:
        ConfigError: Another run is writing to it.
    """
    busy = ConfigError(
        f"another run is writing to {shown(str(target))}; wait until it ends, or choose another "
        f"{option}"
    )
    with locked(lock, busy=busy):
        yield


def check_is_folder(folder: Path, option: str = "--out") -> None:
    """Check that it is a folder, or can be made.

    Args:
        folder: Where it is to be.
        option: What named it, for the message.

    Raises:
        ConfigError: It or a folder above it is a file, or it is a link that leads nowhere.
    """
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise ConfigError(f"{there} is a file; choose another {option}")
    if folder.is_symlink() and not folder.exists():
        raise ConfigError(f"{folder} is a link that leads nowhere; choose another {option}")


def _taken(file: IO[bytes]) -> bool:
    """Try to take the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
