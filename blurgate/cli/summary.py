"""What a run ends with: a table on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from blurgate.counting import Progress

_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN_BLOCKS = "_.:-=+*#"


def sparkline(counts: Sequence[int], *, unicode: bool = True) -> str:
    """Draw a histogram in one line; a bin that is not empty never looks empty.

    >>> sparkline([0, 1, 4, 8]), sparkline([0, 1, 4, 8], unicode=False)
    (' ▁▄█', ' _-#')
    """
    blocks = _BLOCKS if unicode else _PLAIN_BLOCKS
    most = max(counts, default=0)
    return "".join(" " if n == 0 else blocks[-(-n * len(blocks) // most) - 1] for n in counts)


def print_summary(progress: Progress, where: Path | str) -> None:
    """Write the summary to stderr."""
    if sys.stderr.isatty():
        _print_table(progress, where)
    else:
        typer.echo("\n".join(plain_summary(progress, where)), err=True)


def plain_summary(progress: Progress, where: Path | str) -> Iterator[str]:
    """Give the summary as lines that survive a log file."""
    counts = progress.totals
    dropped = sum(entry.get("frames_dropped", 0) for entry in progress.first)
    why = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.reasons.items()))
    yield (
        f"{progress.n_sources} sources, {counts.frames} frames"
        + (f" ({counts.frames_failed} more could not be read)" if counts.frames_failed else "")
        + (f" ({dropped} dropped: not looked at in time)" if dropped else "")
    )
    yield (
        f"{counts.faces} faces: {counts.kept} kept, {counts.review} to review, "
        f"{counts.rejected} rejected" + (f"; reasons: {why}" if why else "")
    )
    yield (f"{progress.elapsed_s:.1f} s, {progress.frames_per_s:.1f} frames/s; results in {where}")


def _print_table(progress: Progress, where: Path | str) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    console.print(_table(progress, console.width))
    counts = progress.totals
    # A terminal of an old code page has no block characters; rich knows what it can show.
    unicode = console.encoding.lower().startswith("utf")
    if counts.faces:
        line = sparkline(counts.degrees, unicode=unicode)
        console.print(Text(f"blur degree  0 [{line}] 1"))
    for reason, n in sorted(counts.reasons.items()):
        console.print(Text(f"{_REASONS.get(reason, reason)}: {n}"))
    console.print(
        Text(
            f"{progress.elapsed_s:.1f} s, {progress.frames_per_s:.1f} frames/s; results in {where}"
        )
    )


_REASONS = {
    "blur": "blurred, or in doubt",
    "too_small": "too small",
    "not_best_shot": "not among the best of its track",
}


def _table(progress: Progress, width: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from blurgate.io.text import shown

    totals = progress.totals
    dropped = any("frames_dropped" in entry for entry in progress.first)
    numbers = ["frames", *(["dropped"] if dropped else []), "faces", "kept", "review", "rejected"]
    table = Table(box=SIMPLE_HEAD, show_footer=progress.n_sources > 1, pad_edge=False)
    table.add_column("source", "all", no_wrap=True)
    rest = 16  # status and margins
    for name in numbers:
        total = "" if name == "dropped" else f"{getattr(totals, name):,}"
        rest += max(len(name), len(total)) + 3
        table.add_column(name, total, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for entry in progress.first:
        cells = [entry.get("frames_dropped") if n == "dropped" else entry[n] for n in numbers]
        table.add_row(
            Text(_tail(shown(entry["source"]), max(12, width - rest))),
            *("" if n is None else f"{n:,}" for n in cells),
            Text("" if entry["status"] == "ok" else entry["status"], "red"),
        )
    more = progress.n_sources - len(progress.first)
    if more > 0:
        table.add_row(Text(f"and {more:,} more"))
    return table


def _tail(name: str, width: int) -> str:
    """Give the end of a long path: that is where names differ."""
    return name if len(name) <= width else "..." + name[-(width - 3) :]
