"""The tables that `blurgate evaluate` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from blurgate.cli.columns import columns
from blurgate.evaluation import group_page, page, utility_page

if TYPE_CHECKING:
    from blurgate.evaluation.evaluating import Evaluation


def text_tables(done: Evaluation) -> Iterator[str]:
    """Give the tables of what was measured, each below its title."""
    for title, head, rows in _tables(done):
        right = [c for c in range(len(head)) if any(isinstance(r[c], int | float) for r in rows)]
        cells = [[f"{v:.4f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
        yield "\n".join([title, *columns([head, *cells], right)])


def _tables(done: Evaluation) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[Any]]]]:
    if done.fidelity:
        yield "Degrees against labels", *page.summary_rows(done)
        yield from page.family_tables(done)[:2]
    if done.judged:
        title = f"Labels by {done.judge}, which sees the clean twin, against the labels"
        yield title, *page.judged_rows(done)
    if done.protocol is not None:
        yield "The original's protocol", *page.protocol_rows(done)
    if done.leaks is not None:
        yield "Mean |change| of the degree without blur", *page.leak_rows(done)
    yield from group_page.group_tables(done)
    if done.utility is not None:
        names = list(done.models)
        for recogniser in dict.fromkeys(curve.recogniser for curve in done.utility.curves):
            point = utility_page.POINT
            title = f"pAUC x 1000 of the FNMR up to 20 / 30 % discarded, {point}, by {recogniser}"
            yield title, *utility_page.area_rows(done.utility, recogniser, names, point=point)
        yield "The gate at its default threshold", *utility_page.gate_rows(done.utility)
