"""`--viz`: after every epoch, predicted against true degree over the length of a straight motion.

The original system drew these curves to see how its training went: one picture of each of 30 people
at rising lengths, once all at one angle and once each at its own. Mean curves are drawn here with
the spread over people, because a mean hides errors that cancel. `blurgate evaluate` has the whole
protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from blurgate.training.pairs import make_chain
from blurgate.training.plots import need_matplotlib, save_figure
from blurgate.training.streams import Streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.training.labels import Labeller
    from blurgate.types import F32, U8

__all__ = ["PEOPLE", "Curves"]

PEOPLE: Final = 30
LENGTHS: Final = np.arange(0, 100, 5)
"""Pixels of the 112 px crop."""
ANGLES: Final[Mapping[str, float | None]] = {"fixed angle": 0.0, "random angle": None}
_TRUE, _PREDICTED = "#222222", "#2f6db3"


class Curves:
    """Pictures with true degrees, made once, on which every epoch's network is drawn.

    Args:
        clean: (p, 112, 112, 3) uint8 BGR clean faces.
        labeller: Makes the true degrees; the one that labelled the training data.
        seed: Decides the random angles.

    Raises:
        EnvironmentLackError: matplotlib is not installed; the message holds the pip command.
    """

    def __init__(self, clean: U8, labeller: Labeller, *, seed: int = 0) -> None:
        need_matplotlib()
        embedded, n = labeller.embed(clean), len(clean)
        self._pictures: dict[str, list[U8]] = {}
        self.true: dict[str, NDArray[np.float64]] = {}
        """Way -> (20, p) true degrees, by length and person."""
        for way, angle in ANGLES.items():
            chain = make_chain(
                "linear",
                options={"max_length": 100.0, "angle": angle},
                linear=False,  # codes are blurred, as the original does
                noise=False,
                compression=False,
            )
            pictures = []
            for length in LENGTHS:
                streams = Streams(seed, range(int(length) * n, int(length + 1) * n))
                severity = np.full(n, length / 100, np.float32)
                pictures.append(chain.apply(clean, chain.sample(streams, severity)).degraded)
            self._pictures[way] = pictures
            labels = [labeller.label(embedded, range(n), some) for some in pictures]
            self.true[way] = np.stack(labels).astype(np.float64)

    def draw(self, degree: Callable[[U8], F32], title: str, path: Path) -> dict[str, float]:
        """Draw a network's curves.

        Args:
            degree: (n, 112, 112, 3) uint8 BGR -> (n,) degrees.
            title: Stands above the figure.
            path: The PNG file.

        Returns:
            Way -> mean squared error between the two mean curves.
        """
        from matplotlib import style

        found = {
            way: np.stack([degree(some) for some in pictures]).astype(np.float64)
            for way, pictures in self._pictures.items()
        }
        errors = {
            way: float(((found[way].mean(1) - true.mean(1)) ** 2).mean())
            for way, true in self.true.items()
        }
        with style.context("default"):  # and not as the user's own settings have it
            figure = need_matplotlib()(figsize=(9, 4))
            for axes, way in zip(figure.subplots(1, 2, sharey=True), ANGLES, strict=True):
                for name, values, colour in (
                    ("true", self.true[way], _TRUE),
                    ("predicted", found[way], _PREDICTED),
                ):
                    low, high = np.quantile(values, (0.1, 0.9), axis=1)
                    axes.fill_between(LENGTHS, low, high, color=colour, alpha=0.15, linewidth=0)
                    axes.plot(LENGTHS, values.mean(1), color=colour, label=name)
                axes.set_title(f"{way}: MSE of the means {errors[way]:.2g}", fontsize="medium")
                axes.set_xlabel("length of the motion, px of 112")
                axes.set_ylim(0, 1)
                axes.spines[["top", "right"]].set_visible(False)
            figure.axes[0].set_ylabel("blur degree")
            figure.axes[0].legend(frameon=False, loc="lower right")
            people = self.true[next(iter(ANGLES))].shape[1]
            figure.suptitle(f"{title}; {people} faces, mean and 10 to 90 %", fontsize="medium")
            figure.tight_layout()
            path.parent.mkdir(parents=True, exist_ok=True)
            save_figure(figure, path, 110)
        return errors
