"""Putting file names and library errors into one line for the user."""

from __future__ import annotations

import hashlib
from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes what begins so for a formula and may run it."""


def shown(name: str) -> str:
    r"""Give a name as it can stand in a line: escaped if it holds line ends and the like.

    >>> print(shown("a b.jpg"), shown("a\nb.jpg"))
    a b.jpg 'a\nb.jpg'
    """
    return name if name.isprintable() else repr(name)


def reason(error: BaseException) -> str:
    """Give what an error says, in one line.

    >>> reason(FileNotFoundError(2, "No such file or directory", "x.jpg"))
    'No such file or directory'
    """
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def digest(name: str) -> str:
    """Give 64 bits of a name's SHA-256 in hex: what is made of a million files is named by it.

    >>> digest("films/Zoë 1.mov")
    '50a0797d6620ea03'
    """
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def harmless(name: str, separator: str = "/") -> str:
    """Give a path that no spreadsheet takes for a formula; it leads to the same file.

    >>> print(harmless("=1+1.png"), harmless("a.png"))
    ./=1+1.png a.png
    """
    return f".{separator}{name}" if name.startswith(_FORMULA) else name
