"""The labels in a folder of `blurgate synth`, and figures of how they are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from blurgate.errors import EnvironmentLackError, InputError
from blurgate.files import written_whole
from blurgate.io.text import shown
from blurgate.training.layout import read_rows, table_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from blurgate.types import F64

BINS: Final = 20
"""Bars of a distribution; as many as the coarser of the classifying losses has classes."""
EDGES: Final[F64] = np.arange(BINS + 1) / BINS
"""(21,) the bounds of the bars; each holds its lower bound, the last its upper one too."""
EDGES.setflags(write=False)

_TABLES: Final = table_file("*")
_PREFIX: Final = table_file("").partition("/")[0]
_NEEDED: Final = ("file", "clean_file", "split", "label", "embedder")
_DPI: Final = 150


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The labels that were made with one method, in the order of their table."""

    label: F64
    """(n,) in [0, 1]: 1 - cosine of the embeddings of the clean and the blurred picture."""
    file: tuple[str, ...]
    """n paths of blurred pictures, relative to the folder."""
    clean_file: tuple[str, ...]
    """n paths of their clean twins."""
    n_val: int
    """How many rows are for validation; the others are for training."""
    embedders: tuple[str, ...]
    """Who embedded, each named once; more than one is a mixture that should not be trained on."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.file)


def read_labels(folder: Path) -> dict[str, Labels]:
    """Read every label table of a folder that `blurgate synth` wrote.

    Args:
        folder: The folder; its tables are `label_<method>/label/data_label.csv`.

    Returns:
        Method -> labels, in the order of the names. A table may have no rows.

    Raises:
        InputError: There is no such folder or no table in it, or a table is damaged; the message
            names the table and the line.
    """
    tables = sorted(folder.glob(_TABLES))
    if not tables:
        why = "there is no such folder" if not folder.is_dir() else f"no {_TABLES} in it"
        raise InputError(
            f"{shown(str(folder))} is not a folder of `blurgate synth`: {why}", source=str(folder)
        )
    names = [table.parents[1].name.removeprefix(_PREFIX) for table in tables]
    return {name: _read(folder, name) for name in names}


def histogram(label: F64) -> NDArray[np.int64]:
    """Count the labels in each of the bars between `EDGES`.

    >>> histogram(np.array([0.0, 0.15, 0.99, 1.0])).nonzero()[0].tolist()
    [0, 3, 19]
    """
    counts: NDArray[np.int64] = np.histogram(label, EDGES)[0].astype(np.int64)
    return counts


def all_labels(tables: Mapping[str, Labels]) -> F64:
    """Give the labels of all methods, one method after the other."""
    return np.concatenate([np.empty(0), *(labels.label for labels in tables.values())])


def plot_labels(folder: Path, out: Path) -> list[Path]:
    """Draw the label distribution of every method and of all together.

    Args:
        folder: What `blurgate synth` wrote.
        out: Where the pictures go; made if it is not there. Those of an earlier run are replaced.

    Returns:
        The PNG files: `labels.png`, then `labels_<method>.png` in the order of the names.

    Raises:
        InputError: See `read_labels`.
        EnvironmentLackError: matplotlib is not installed; the message holds the pip command.
    """
    return draw_labels(read_labels(folder), out)


def draw_labels(tables: Mapping[str, Labels], out: Path) -> list[Path]:
    """Draw what `read_labels` gave; see `plot_labels`."""
    make = need_matplotlib()
    from matplotlib import style

    out.mkdir(parents=True, exist_ok=True)
    parts = [("", "all methods", all_labels(tables))]
    parts += [(f"_{name}", shown(name), labels.label) for name, labels in tables.items()]
    paths = []
    with style.context("default"):  # and not as the user's own settings have it
        for suffix, title, label in parts:
            paths.append(out / f"labels{suffix}.png")
            _distribution(make(figsize=(6.4, 4)), title, label, paths[-1])
    return paths


def need_matplotlib() -> type[Figure]:
    """Give matplotlib's `Figure`, which draws without a window and without global state.

    Raises:
        EnvironmentLackError: matplotlib is not installed; the message holds the pip command.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise EnvironmentLackError(
            'figures need matplotlib, which is not installed; run: pip install "blurgate[plot]"'
        ) from error
    return Figure


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as a PNG, whole or not at all, which does not say what version drew it."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png", metadata={"Software": None})


def _distribution(figure: Figure, title: str, label: F64, path: Path) -> None:
    """Draw one distribution, as bars that touch and have hard edges."""
    from matplotlib.ticker import MaxNLocator

    counts = histogram(label)
    axes = figure.add_subplot()
    # Smoothed edges would leave a bright seam where two bars of the same colour meet.
    axes.stairs(counts, EDGES, fill=True, color="#2f6db3", antialiased=False)
    if len(label):
        even = len(label) / BINS
        axes.axhline(even, color="#222222", linewidth=1, linestyle=(0, (5, 3)), antialiased=False)
        axes.set_title(f"dashed: even, {even:,.4g} each", loc="right", fontsize="medium")
    axes.set_title(f"{title}: {len(label):,} labels", loc="left", parse_math=False)
    axes.set_xlabel("label (1 - cosine similarity to the clean picture)")
    axes.set_ylabel(f"pictures per {1 / BINS:g}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(1, counts.max()) * 1.1)
    axes.set_xticks(np.arange(11) / 10)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    save_figure(figure, path, _DPI)


def _read(folder: Path, method: str) -> Labels:
    columns: dict[str, list[str]] = {name: [] for name in _NEEDED}
    for row in read_rows(folder, method):
        for name, values in columns.items():
            values.append(row[name])
    return Labels(
        np.array(list(map(float, columns["label"]))),
        tuple(columns["file"]),
        tuple(columns["clean_file"]),
        columns["split"].count("val"),
        tuple(sorted(set(columns["embedder"]))),
    )
