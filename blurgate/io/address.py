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
_CAMERA: Final = re.compile(r"/dev/video\d+")
# Cameras take their password in the query too, or, with some makers, in the path.
_SECRET: Final = re.compile(
    r"(?i)(?<=[?&/;_])((?:user(?:name)?|usr|login|pass(?:word|wd)?|pwd|token|auth|key|secret)=)"
    r"[^&/;#\s]*?(?=$|[&/;#\s]|_(?:user(?:name)?|usr|login|pass(?:word|wd)?|pwd|channel|stream)=)"
)


def masked(address: str) -> str:
    """Hide user, password and the like in a network address; anything else stays as it is.

    >>> masked("rtsp://admin:pass/w@rd@door/1?token=abc&fps=5")
    'rtsp://***@door/1?token=***&fps=5'
    >>> masked("clips/a@b.mp4")
    'clips/a@b.mp4'
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    # A password may hold unescaped characters that end a host's name in any standard; the last @
    # before the query is taken, since showing too little does no harm.
    place, mark, query = rest.partition("?")
    user, at, host = place.rpartition("@")
    place = f"***@{host}" if at else place
    del user
    return _SECRET.sub(r"\1***", f"{scheme}{separator}{place}{mark}{query}")


def is_live(address: str) -> bool:
    """Tell whether an address is a network address or a camera index, and not a file.

    >>> is_live("rtsp://door/1"), is_live("clip.mp4")
    (True, False)
    """
    if NETWORK.match(address) or _CAMERA.fullmatch(address):
        return True
    return address.isascii() and address.isdecimal() and not Path(address).exists()
