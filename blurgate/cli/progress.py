"""The progress bar: on stderr, and only where somebody can see it move."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    total: int | None, unit: str, *, quiet: bool
) -> Iterator[Callable[[int, str], None]]:
    """Show a bar while the block runs; without a terminal nothing is written.

    Args:
        total: Steps until the end; None when nobody knows, as for a camera.
        unit: What one step is, such as frames.
        quiet: Show nothing.

    Yields:
        What shows (steps that are done, a line of text).
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
