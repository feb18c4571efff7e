"""What a detector is trained on: one picture at a time, with its faces.

`Samples` is the contract between the data (`compose.Composed`, or anything else a caller writes)
and the trainer. A sample depends on nothing but the seed, the epoch and its index, so a training
that is interrupted and resumed sees the very pictures it would have seen.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blurgate.errors import ShapeError
from blurgate.pipeline import ordered_map

__all__ = ["Sample", "Samples", "first_epoch"]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One training picture and what is known of the faces in it.

    Raises:
        ShapeError: When the arrays do not agree in number, shape or kind.
    """

    image: NDArray[np.uint8]
    """Shape: (h, w, 3). Colours BGR, 0..255."""

    boxes: NDArray[np.float32]
    """Shape: (n, 4). x1, y1, x2, y2 in pixels of `image`; they may reach past its border."""

    kps: NDArray[np.float32]
    """Shape: (n, 5, 2). x, y of left eye, right eye, nose, left and right mouth corner, as seen
    in the picture; NaN in every value of a face whose points are not known."""

    ignore: NDArray[np.bool_]
    """Shape: (n,). True for a region that is neither a face to learn nor background."""

    def __post_init__(self) -> None:
        """Check the arrays against each other."""
        n = len(self.boxes)
        wanted: dict[str, tuple[NDArray[Any], Any, tuple[int, ...]]] = {
            "image": (self.image, np.uint8, (*self.image.shape[:2], 3)),
            "boxes": (self.boxes, np.float32, (n, 4)),
            "kps": (self.kps, np.float32, (n, 5, 2)),
            "ignore": (self.ignore, np.bool_, (n,)),
        }
        for name, (value, kind, shape) in wanted.items():
            if value.dtype != kind or value.shape != shape:
                raise ShapeError(
                    f"a sample's {name} is {value.dtype} {value.shape}, not"
                    f" {np.dtype(kind)} {shape}"
                )


class Samples(Protocol):
    """A source of training pictures that can be asked for any of them, in any order."""

    def __len__(self) -> int:
        """Pictures in one epoch."""
        ...

    def sample(self, epoch: int, index: int) -> Sample:
        """One picture of one epoch: the same one whenever it is asked for.

        Args:
            epoch: From 0.
            index: 0 to len - 1.

        Returns:
            A square picture of the source's size, augmented.
        """
        ...

    def share(self, folder: Path, *, workers: int = 1) -> None:
        """Put into files what other processes need; asked for before some are started.

        Args:
            folder: Where to. It may be removed once every process has given a sample.
            workers: Threads.
        """
        ...

    def unshare(self) -> None:
        """Let go of these files in this process: the others have ended, and they are removed."""
        ...


def first_epoch(samples: Samples, workers: int) -> Generator[Sample]:
    """Give the samples of epoch 0 in their order, composed in several threads."""
    return ordered_map(lambda i: samples.sample(0, i), iter(range(len(samples))), workers)
