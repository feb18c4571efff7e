"""The report of a folder that `blurgate synth` wrote: one page, and the figures as PNG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import InputError
from blurgate.files import write_atomically
from blurgate.io.text import shown
from blurgate.locking import check_is_folder
from blurgate.report.page import (
    Bars,
    Html,
    bars,
    element,
    facts,
    jpeg,
    page,
    picture,
    section,
    table,
)
from blurgate.training import layout
from blurgate.training.plots import (
    BINS,
    Labels,
    all_labels,
    draw_labels,
    histogram,
    need_matplotlib,
    read_labels,
)
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from blurgate.types import F64

DEGREES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The labels that examples are looked for at."""
NEAR: Final = 0.1
"""How far an example's label may be from the one that was looked for."""
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
PAGE: Final = "report.html"
_JPEG_QUALITY: Final = 92


@dataclass(frozen=True, slots=True)
class DataReport:
    """What `report_data` wrote."""

    page: Path
    figures: tuple[Path, ...]
    rows: int
    """Labels in all tables."""
    problems: tuple[str, ...]
    """One line for each picture that should have been shown and could not be."""


def report_data(folder: Path, out: Path) -> DataReport:
    """Write the report of a dataset.

    Args:
        folder: What `blurgate synth` wrote.
        out: Where the page and the PNG figures go; made if it is not there. Files of an earlier
            report are replaced.

    Returns:
        What was written.

    Raises:
        InputError: The folder holds no dataset, or a table of it is damaged.
        ConfigError: The dataset is not finished, or `out` is a file.
        EnvironmentLackError: matplotlib is not installed.
    """
    need_matplotlib()  # before any work
    check_is_folder(out)
    settings = layout.read_settings(folder)
    layout.check_finished(folder, settings)
    tables = read_labels(folder)
    problems: list[str] = []
    text = _page(folder, tables, settings, problems)
    figures = draw_labels(tables, out)
    path = out / PAGE
    write_atomically(path, [text])
    rows = sum(map(len, tables.values()))
    return DataReport(path, tuple(figures), rows, tuple(problems))


def _page(
    folder: Path, tables: Mapping[str, Labels], settings: Mapping[str, Any], problems: list[str]
) -> str:
    every = all_labels(tables)
    charts = [_chart("all methods", every)]
    charts += [_chart(name, labels.label) for name, labels in tables.items()]
    content = [
        *_warnings(tables),
        section("Labels", _label_note(), element("div", *charts, class_="charts")),
        section("Numbers", _numbers(tables, every)),
        section("Examples", *_examples(folder, tables, problems)),
        section("Settings", facts(settings)),
    ]
    name = folder.resolve().name
    methods = f"{len(tables)} method{'s' if len(tables) != 1 else ''}"
    return page(f"Training data: {name}", *content, note=f"{len(every):,} labels, {methods}")


def _label_note() -> Html:
    return element(
        "p",
        "Label: 1 - cosine similarity between the recognition embeddings of the blurred picture "
        "and of its clean twin; 0 is unharmed. The dashed line is an even distribution.",
        class_="note",
    )


def _warnings(tables: Mapping[str, Labels]) -> Iterator[Html]:
    lines = []
    embedders = sorted({name for labels in tables.values() for name in labels.embedders})
    if len(embedders) > 1:
        lines.append(f"Labels of several embedders are mixed: {', '.join(embedders)}.")
    empty = [name for name, labels in tables.items() if not len(labels)]
    if empty:
        lines.append(f"No labels: {', '.join(empty)}.")
    for line in lines:
        yield element("p", line, class_="warning")


def _chart(title: str, label: F64) -> Html:
    even = len(label) / BINS if len(label) else None
    counts = histogram(label).tolist()
    return bars(Bars(f"{title}: {len(label):,}", counts, "label", "pictures", even))


def _numbers(tables: Mapping[str, Labels], every: F64) -> Html:
    head = ["method", "labels", "train", "val", "clean", "mean", "min"]
    head += [f"{100 * q:g} %" for q in QUANTILES] + ["max", "at 1"]
    rows = [_row(name, t.label, t.n_val, len(set(t.clean_file))) for name, t in tables.items()]
    n_val = sum(labels.n_val for labels in tables.values())
    clean = {file for labels in tables.values() for file in labels.clean_file}
    return table(head, [_row("all", every, n_val, len(clean)), *rows])


def _row(name: str, label: F64, n_val: int, n_clean: int) -> list[object]:
    row: list[object] = [name, len(label), len(label) - n_val, n_val, n_clean]
    if not len(label):
        return row + [""] * (len(QUANTILES) + 4)
    quantiles = np.quantile(label, QUANTILES).tolist()
    row += [float(label.mean()), float(label.min()), *quantiles, float(label.max())]
    return [*row, int((label == 1).sum())]


def _examples(folder: Path, tables: Mapping[str, Labels], problems: list[str]) -> Iterator[Html]:
    note = "Above the clean twin, below the blurred picture with its label."
    yield element("p", note, class_="note")
    methods = []
    for name, labels in tables.items():
        cells = [_example(folder, labels, degree, problems) for degree in DEGREES]
        shots = element("div", *cells, class_="examples")
        methods.append(element("div", element("h3", name), shots))
    yield element("div", *methods, class_="methods")


def _example(folder: Path, labels: Labels, degree: float, problems: list[str]) -> Html:
    """Show the row whose label is nearest to a degree; of equals the first."""
    away = np.abs(labels.label - degree)
    if not len(away) or away.min() > NEAR:
        return element("div", f"no label near {degree:g}", class_="none")
    i = int(away.argmin())
    shots = []
    for what, file in (("clean", labels.clean_file[i]), ("blurred", labels.file[i])):
        try:
            shots.append(picture(_thumbnail(folder, file), f"{what}: {file}", CROP_SIZE))
        except InputError as error:
            problems.append(str(error))
            shots.append(element("div", f"{what} picture missing", class_="none"))
    caption = element("figcaption", f"{labels.label[i]:.3f}", title=labels.file[i])
    return element("figure", *shots, caption)


def _thumbnail(folder: Path, file: str) -> bytes:
    """Give a picture of the dataset as JPEG.

    Raises:
        InputError: It lies outside of the folder, so it is none of the dataset, or cannot be read.
    """
    path = folder / file
    # A table from elsewhere must not put a reader's own files into a page that is passed on.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{shown(file)} lies outside of {folder}", source=file)
    return jpeg(layout.read_picture(path), _JPEG_QUALITY)
