"""The progress bar: on stderr, and only where somebody can see it move."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """Shows how far a run is."""

    def __call__(self, done: int, text: str) -> None:
        """Show `done` steps and a line of text."""
        ...


@contextmanager
def progress_bar(total: int | None, unit: str, *, quiet: bool) -> Iterator[Bar]:
    """Show a bar while the block runs; without a terminal nothing is written.

    Args:
        total: Steps until the end; None when nobody knows, as for a camera.
        unit: What one step is, such as frames.
        quiet: Show nothing.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f} " + unit),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(compact=True),
    )
    shown = 0.0
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, text="")

        def show(done: int, text: str) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown >= 0.1:  # rich locks and measures text; ten times a second is enough
                shown = now
                bar.update(task, completed=done, text=text)

        yield show
