"""What an address says by itself: a stream, a video; and what of it must not be shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

VIDEO_SUFFIXES: Final = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".flv"),
        *(".mkv", ".webm", ".avi", ".divx", ".wmv", ".asf", ".ogv", ".y4m", ".ivf", ".nut"),
        *(".ts", ".mts", ".m2ts", ".m2t", ".mpg", ".mpeg", ".vob", ".mxf", ".dv"),
        *(".h264", ".264", ".hevc", ".h265", ".265", ".av1", ".obu", ".mjpeg", ".mjpg"),
    )
)
"""File name endings, in lower case, that stand for a video."""

NETWORK: Final = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|rtp|srt)://", re.IGNORECASE)
ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""Begins the address of a stream, or of a file behind fsspec."""
_CAMERA: Final = re.compile(r"/dev/video\d+")
# Cameras take their password in the query too, or, with some makers, in the path.
_SECRET: Final = re.compile(
    r"(?i)(?<=[?&/;_])((?:user(?:name)?|usr|login|pass(?:word|wd)?|pwd|token|auth|key|secret)=)"
    r"[^&/;#\s]*?(?=$|[&/;#\s]|_(?:user(?:name)?|usr|login|pass(?:word|wd)?|pwd|channel|stream)=)"
)
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:/]*)(:\d*)?/")
"""Begins what follows the scheme where no login does: a name, a port, a path."""
_PASSWORD: Final = re.compile(r"(://[^/:]*:)[^/]*(?=@)")


def masked(address: str) -> str:
    """Hide user, password and the like in an address; anything else stays as it is.

    >>> masked("rtsp://admin:pass/w@rd@door/1?token=abc&fps=5")
    'rtsp://***@door/1?token=***&fps=5'
    >>> masked("sftp://me:password@host/user=alice/a@b.mp4?token=abc")
    'sftp://me:***@host/user=alice/a@b.mp4?token=***'
    >>> masked("clips/a@b.mp4")
    'clips/a@b.mp4'
    """
    if not ADDRESS.match(address):
        return address
    if not NETWORK.match(address):  # `user=alice` is a folder there, and `a@b.mp4` a file
        path, mark, query = address.partition("?")
        return _PASSWORD.sub(r"\1***", path) + _SECRET.sub(r"\1***", mark + query)
    scheme, separator, rest = address.partition("://")
    # A password may hold unescaped characters that end a host's name in any standard; the last @
    # before the query is taken, since showing too little does no harm.
    place, mark, query = rest.partition("?")
    if "@" in query and "@" not in place and not _HOST.match(place):
        place, mark, query = rest, "", ""  # the ? is in the password
    _, at, host = place.rpartition("@")
    place = f"***@{host}" if at else place
    return _SECRET.sub(r"\1***", f"{scheme}{separator}{place}{mark}{query}")


def holds_secret(address: str) -> bool:
    """Tell whether a file's address holds a password or the like, even one that is hidden.

    >>> holds_secret("sftp://me:***@host/a.mp4"), holds_secret("file:///user=alice/a@b.mp4")
    (True, False)
    """
    path, mark, query = address.partition("?")
    return bool(_PASSWORD.search(path) or _SECRET.search(mark + query))


def is_live(address: str) -> bool:
    """Tell whether an address is a network address or a camera index, and not a file.

    >>> is_live("rtsp://door/1"), is_live("clip.mp4")
    (True, False)
    """
    if NETWORK.match(address) or _CAMERA.fullmatch(address):
        return True
    return address.isascii() and address.isdecimal() and not Path(address).exists()
