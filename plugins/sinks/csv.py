"""`csv`: comma-separated values as RFC 4180 has them, with LF line ends and UTF-8."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Final

from blurgate.hookspecs import hookimpl
from blurgate.interfaces import Register, Scalar
from blurgate.plugins.sinks.text import SIGNIFICANT_DIGITS, TextSink

_QUOTED: Final = re.compile(r'["\r\n]')


class CsvSink(TextSink):
    """Writes a head line and one line per row; empty fields stand for no value."""

    def head(self) -> str:
        """Give the column names."""
        return _line([column.name for column in self._columns])

    def line(self, values: Sequence[Scalar]) -> str:
        """Give one row; floats have six significant digits."""
        return _line([_text(value) for value in values])


def _text(value: Scalar) -> str:
    if value is None:
        return ""
    return f"{value:.{SIGNIFICANT_DIGITS}g}" if isinstance(value, float) else str(value)


def _line(fields: Sequence[str]) -> str:
    plain = ",".join(fields)
    if len(fields) > 1 and plain.count(",") < len(fields) and not _QUOTED.search(plain):
        return plain + "\n"  # as good as every row; a writer of Python's takes five times as long
    text = io.StringIO()
    # Python quotes what is part of its line end: a lone CR in a name would end the row for readers.
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue().removesuffix("\r\n") + "\n"


@hookimpl
def register_sinks(register: Register) -> None:
    """Register `csv`."""
    register("csv", CsvSink)
