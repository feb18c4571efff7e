"""The tables that `blurgate evaluate` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from blurgate.evaluation import group_page, page, utility_page

if TYPE_CHECKING:
    from blurgate.evaluation.evaluating import Evaluation


def text_tables(done: Evaluation) -> Iterator[str]:
    """Give the tables of what was measured, each with its title."""
    if done.fidelity:
        yield "Degrees against labels\n" + page.text_table(*page.summary_rows(done))
        for title, head, rows in page.family_tables(done)[:2]:
            yield f"\n{title}\n" + page.text_table(head, rows)
    if done.judged:
        title = f"\nLabels by {done.judge}, which sees the clean twin, against the labels\n"
        yield title + page.text_table(*page.judged_rows(done))
    if done.protocol is not None:
        yield "\nThe original's protocol\n" + page.text_table(*page.protocol_rows(done))
    if done.leaks is not None:
        yield "\nMean |change| of the degree without blur\n" + page.text_table(
            *page.leak_rows(done)
        )
    for title, head, rows in group_page.group_tables(done):
        yield f"\n{title}\n" + page.text_table(head, rows)
    if done.utility is not None:
        names = list(done.models)
        for recogniser in dict.fromkeys(curve.recogniser for curve in done.utility.curves):
            point = utility_page.POINT
            title = (
                f"\npAUC x 1000 of the FNMR up to 20 / 30 % discarded, {point}, by {recogniser}\n"
            )
            head, rows = utility_page.area_rows(done.utility, recogniser, names, point=point)
            yield title + page.text_table(head, rows)
        yield "\nThe gate at its default threshold\n" + page.text_table(
            *utility_page.gate_rows(done.utility)
        )
