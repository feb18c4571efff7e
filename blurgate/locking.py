"""One process at a time: a lock that dies with its holder."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_RETRY_S = 0.1


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock for the length of a block, waiting for it as long as it takes.

    The system gives the lock back when its holder ends, however it ends, so that a killed process
    never blocks the next one. The file stays: whoever deleted it could delete one that is held.

    Args:
        path: The lock's file; made if there is none. Its content means nothing.
        on_wait: Called once if somebody else holds the lock.

    Raises:
        OSError: The file cannot be made.
    """
    with path.open("ab") as file:
        told = False
        while not _taken(file):
            if not told:
                on_wait()
                told = True
            time.sleep(_RETRY_S)
        yield  # closing the file gives the lock back


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
    except OSError:
        return False
    return True
