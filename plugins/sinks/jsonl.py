"""`jsonl`: one JSON object per line, in UTF-8."""

from __future__ import annotations

import json
from collections.abc import Sequence

from blurgate.hookspecs import hookimpl
from blurgate.interfaces import Register, Scalar
from blurgate.plugins.sinks.text import SIGNIFICANT_DIGITS, TextSink


class JsonlSink(TextSink):
    """Writes one object per row with every column; null stands for no value."""

    encoding_errors = "backslashreplace"  # a stray byte of a file name becomes JSON's own escape

    def head(self) -> str:
        """Give nothing: JSON lines have no head."""
        return ""

    def line(self, values: Sequence[Scalar]) -> str:
        """Give one row; floats have six significant digits."""
        names = (column.name for column in self._columns)
        rounded = dict(zip(names, map(_rounded, values), strict=True))
        return json.dumps(rounded, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: Scalar) -> Scalar:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value


@hookimpl
def register_sinks(register: Register) -> None:
    """Register `jsonl`."""
    register("jsonl", JsonlSink)
