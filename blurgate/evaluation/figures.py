"""PNG figures of an evaluation, where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from blurgate.evaluation.fidelity import LEAST
from blurgate.evaluation.output import FIGURES
from blurgate.evaluation.page import WAYS
from blurgate.evaluation.protocol import LENGTHS
from blurgate.training.plots import need_matplotlib, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from blurgate.evaluation.evaluating import Evaluation

COLOURS: Final = (
    "#2f6db3", "#c2571a", "#2b8a4b", "#8a4bb0", "#b8860b", "#c0345c", "#16858c", "#6b7078",
)  # fmt: skip
"""The page's colours in the light."""
_DPI: Final = 130


def draw_evaluation(done: Evaluation, folder: Path) -> list[Path]:
    """Draw what was measured.

    Args:
        done: What was measured.
        folder: Where the pictures go; those of an earlier run are replaced.

    Returns:
        The PNG files: `reliability.png` with one panel per family, `original.png` in the manner of
        the original's figure, `leaks.png`.

    Raises:
        EnvironmentLackError: matplotlib is not installed.
    """
    make = need_matplotlib()
    from matplotlib import style

    paths = []
    with style.context("default"):  # and not as the user's own settings have it
        for name, wanted, draw in zip(
            FIGURES,
            (done.rows, done.protocol, done.leaks),
            (_reliability, _original, _leaks),
            strict=True,
        ):
            if wanted is not None:
                figure = draw(make, done)
                paths.append(folder / name)
                save_figure(figure, paths[-1], _DPI)
    return paths


def _reliability(make: type[Figure], done: Evaluation) -> Figure:
    assert done.rows is not None
    parts: list[tuple[str, str | None]] = [("all pictures", None)]
    parts += [
        (f"{name} (held out)" if held else name, name) for name, held in done.rows.held_out.items()
    ]
    columns = min(4, len(parts))
    rows = -(-len(parts) // columns)
    figure = make(figsize=(3.1 * columns, 3.0 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(parts) :]:
        axes.set_axis_off()
    for axes, (title, family) in zip(grid.flat, parts, strict=False):
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=(0, (5, 3)))
        for number, (name, found) in enumerate(done.fidelity.items()):
            one = found["all"] if family is None else found["families"][family]
            curve = one["reliability"]
            kept = [i for i, n in enumerate(curve["n"]) if n >= LEAST]
            x, y = ([curve[k][i] for i in kept] for k in ("degree", "label"))
            label = name if family is None else None
            axes.plot(x, y, "o-", markersize=3, color=_colour(number), label=label)
        axes.set_title(title, fontsize="medium", parse_math=False)
        _unit(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel("mean label")
    for axes in grid[-1]:
        axes.set_xlabel("degree")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _original(make: type[Figure], done: Evaluation) -> Figure:
    protocol = done.protocol
    assert protocol is not None
    figure = make(figsize=(10, 4.6), layout="constrained")
    for axes, (way, title) in zip(figure.subplots(1, 2), WAYS.items(), strict=True):
        curves = protocol.curves(way)
        first = way == next(iter(WAYS))
        label = "true" if first else None
        axes.plot(LENGTHS, curves["true"], color="#222222", linewidth=2.4, label=label)
        for number, name in enumerate(done.models):
            mse = protocol.errors(name, way)["mse_of_means"]
            axes.plot(LENGTHS, curves[name], color=_colour(number), label=name if first else None)
            place = (0.98, 0.02 + 0.055 * (len(done.models) - 1 - number))
            axes.text(
                *place, f"MSE {mse:.4f}", color=_colour(number), ha="right",
                transform=axes.transAxes, fontsize="small",
            )  # fmt: skip
        axes.set_title(f"{len(protocol.identities)} people, {title}", fontsize="medium")
        axes.set_xlabel("length of the line, pixels of the 112 px crop")
        axes.set_ylabel("mean degree of blur")
        axes.set_xlim(0, 99)
        axes.set_ylim(0, 1.02)
        axes.grid(visible=True, color="#e2e2e2")
    figure.legend(loc="outside lower center", ncols=5, fontsize="small")
    return figure


def _leaks(make: type[Figure], done: Evaluation) -> Figure:
    found = done.leaks
    assert found is not None
    changes = list(next(iter(found.label.values())))
    figure = make(figsize=(10, 0.34 * len(changes) + 1.6), layout="constrained")
    for axes, state in zip(figure.subplots(1, 2, sharey=True), found.label, strict=True):
        places = list(range(len(changes)))[::-1]
        for number, name in enumerate(done.models):
            x = [found.degree[name][state][change].mean_abs for change in changes]
            label = name if state == "sharp" else None
            axes.plot(x, places, "o", markersize=5, color=_colour(number), label=label)
        x = [found.label[state][change].mean_abs for change in changes]
        label = "the label itself" if state == "sharp" else None
        axes.plot(x, places, "|", markersize=11, color="#222222", label=label)
        axes.set_yticks(places, changes)
        axes.set_xlim(left=0)
        axes.grid(visible=True, color="#e2e2e2")
        axes.set_title(f"{state} faces", fontsize="medium")
        axes.set_xlabel("mean |change| of the degree")
    figure.legend(loc="outside lower center", ncols=5, fontsize="small")
    return figure


def _unit(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.grid(visible=True, color="#e2e2e2")


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
