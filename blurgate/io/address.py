"""Addresses of streams, without what must not be shown."""

from __future__ import annotations

import re
from typing import Final

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
