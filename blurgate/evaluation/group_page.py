"""The page's and the terminal's tables of groups of people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from blurgate.evaluation import leaks as leak
from blurgate.report.page import Html, element, table

if TYPE_CHECKING:
    from blurgate.evaluation.evaluating import Evaluation

Table: TypeAlias = tuple[list[str], list[list[Any]]]
"""Head and rows."""

ABOUT: Final = (
    "Groups as the collection's own file names tell them. ±: half of the 95 % interval, with the "
    "pictures of one person counted as hanging together; groups that differ by less are alike as "
    "far as these people can tell."
)
ABOUT_LEAKS: Final = (
    "Faces from the groups in turn. at first: mean value of the unchanged "
    "faces, where sharp ones should all get the same; moved: how far the changes above move it in "
    "the mean, without its sign."
)


def axes(done: Evaluation, part: str) -> list[str]:
    """Give the axes on which at least two groups are to be compared."""
    first = next(iter(done.fidelity.values()), {})
    return [axis for axis, named in first.get(part, {}).items() if len(named) > 1]


def group_rows(done: Evaluation, axis: str, part: str) -> Table:
    """Give the table of one axis: a row for each group and scorer."""
    head = ["", "scorer", "people", "pictures", "MAE", "±", "bias", "±"]
    fields = ["mae", "mae_pm", "bias", "bias_pm"]
    if part == "groups":  # among sharp pictures there is nothing to rank
        head, fields = [*head, "Spearman"], [*fields, "spearman"]
    by = {name: parts[part][axis] for name, parts in done.fidelity.items()}
    rows = []
    for group in next(iter(by.values())):
        for name, groups in by.items():
            one = groups[group]
            about: list[Any] = [group, name, one["persons"], one["n"]]
            rows.append([*about, *("" if one[k] is None else one[k] for k in fields)])
    return head, rows


def leak_axes(done: Evaluation) -> list[str]:
    """Give the axes on which the leak tests compare at least two groups."""
    found = done.leaks
    return [] if found is None else [a for a, named in found.groups.items() if len(named) > 1]


def leak_group_rows(done: Evaluation, axis: str) -> Table:
    """Give the table of one axis: a row for each group and scorer, the label first."""
    assert done.leaks is not None
    head = ["", "scorer", "faces"]
    head += [f"{state}, {what}" for state in leak.STATES for what in ("at first", "moved")]
    rows: list[list[Any]] = []
    for group, one in done.leaks.groups[axis].items():
        for name, levels in {"the label": one.label, **one.degree}.items():
            cells = [levels[state] for state in leak.STATES]
            numbers = [v for level in cells for v in (level.mean, level.moved)]
            rows.append([group, name, one.faces, *numbers])
    return head, rows


def leak_groups(done: Evaluation) -> Iterator[Html]:
    """Show what the leak tests found in the groups."""
    found = leak_axes(done)
    if found:
        yield element("h3", "By group of people")
        yield element("p", ABOUT_LEAKS, class_="note")
    for axis in found:
        if axis != "group":
            yield element("h3", axis)
        yield table(*leak_group_rows(done, axis))


def group_tables(done: Evaluation) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Give (title, head, rows) of everything about groups, for the terminal."""
    for part, what in (("groups", "Degrees against labels"), ("groups_sharp", "Without blur")):
        for axis in axes(done, part):
            yield (f"{what}, by {axis}", *group_rows(done, axis, part))
    for axis in leak_axes(done):
        yield (f"Levels and mean |change| without blur, by {axis}", *leak_group_rows(done, axis))
