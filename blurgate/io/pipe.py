"""Reading a named pipe, or one of a shell's `<(...)`, without waiting for ever."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from blurgate.errors import DecodeError
from blurgate.io.text import shown

_RETRY_S: Final = 0.05


class Pipe:
    """What comes out of a pipe, as the file-like object that PyAV reads from.

    Args:
        handle: The pipe, open and not blocking.
        name: Its path, for messages.
        timeout_s: A pipe that gives nothing for so long is taken for stalled.
    """

    def __init__(self, handle: int, name: str, timeout_s: float) -> None:
        self._handle = handle
        self.name = name
        self._timeout_s = timeout_s
        self._begun = False

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; none at the end.

        Raises:
            TimeoutError: Nothing came for too long, or nobody has opened the other end.
        """
        until = time.monotonic() + self._timeout_s
        while (left_s := until - time.monotonic()) > 0:
            if not select.select([self._handle], [], [], left_s)[0]:
                break
            try:
                data = os.read(self._handle, size)
            except BlockingIOError:
                continue
            if data or self._begun:
                self._begun = True
                return data
            # Without a writer a pipe looks as if it were at its end already.
            time.sleep(_RETRY_S)
        raise TimeoutError(f"nothing came for {self._timeout_s:g} seconds")


@contextmanager
def opened_pipe(path: str, timeout_s: float) -> Iterator[Pipe | None]:
    """Open a pipe; gives None for whatever else there is, or for nothing.

    Raises:
        DecodeError: It is a device or a socket, which no file can be read from.
        OSError: It cannot be opened.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        yield None  # whoever opens it will say why
        return
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise DecodeError(f"{shown(path)} is a device or a socket, not a file", source=path)
    if not stat.S_ISFIFO(mode):
        yield None
        return
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        yield Pipe(handle, path, timeout_s)
    finally:
        os.close(handle)
