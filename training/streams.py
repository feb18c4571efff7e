"""Random numbers that belong to an image, not to a batch.

A `Streams` is the random generator of a batch: one stream per image, keyed by the run's seed and
the image's index. A draw is a pure function of the stream and of the draw's label, so it depends
neither on the other images nor on the batch size, the number of workers or the draws made before.
The same label gives the same numbers again; `fold` makes new streams.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from blurgate.training.arrays import mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.types import F64

T = TypeVar("T")
_SEED_BITS = 53  # the largest width that a JSON reader on doubles keeps exactly


class Streams:
    """One independent random stream per image.

    Args:
        seed: The run's seed, any integer.
        index: (n,) the images' indices in the run, integers from 0.

    >>> whole = Streams(7, range(4)).uniform("angle", 0, 180)
    >>> bool(Streams(7, [2]).uniform("angle", 0, 180)[0] == whole[2])
    True
    """

    def __init__(self, seed: int, index: Sequence[int] | NDArray[Any]) -> None:
        number = np.asarray(index, np.uint64).reshape(-1)
        self._keys = mix(mix(number + np.uint64(1)) ^ _hash(f"seed {seed}"))

    def __len__(self) -> int:
        """Number of images."""
        return len(self._keys)

    def __getitem__(self, rows: NDArray[Any] | Sequence[int]) -> Streams:
        """Give the streams of some of the images."""
        return self._with(self._keys[np.asarray(rows)])

    def fold(self, label: str) -> Streams:
        """Give streams that are independent of these, for a part that draws by its own labels."""
        return self._with(self._mixed(f"fold {label}"))

    def uniform(self, label: str, low: float = 0.0, high: float = 1.0) -> F64:
        """Draw (n,) float64 from [low, high)."""
        unit = (self._mixed(label) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * unit

    def log_uniform(self, label: str, low: float, high: float) -> F64:
        """Draw (n,) float64 from [low, high), every octave alike; both bounds above 0."""
        return np.asarray(np.exp(self.uniform(label, math.log(low), math.log(high))))

    def normal(self, label: str, mean: float, std: float) -> F64:
        """Draw (n,) float64 from a normal distribution (Box-Muller)."""
        radius = np.sqrt(-2 * np.log1p(-self.uniform(f"{label} radius")))
        unit: F64 = radius * np.cos(self.uniform(f"{label} angle", 0, 2 * np.pi))
        return mean + std * unit

    def choice(
        self, label: str, options: Sequence[T], weights: Sequence[float] | None = None
    ) -> list[T]:
        """Draw n of the options.

        Args:
            label: The draw's name.
            options: What to draw from.
            weights: One per option, not all 0, of any sum; None: all alike.

        Returns:
            One option per image.
        """
        bounds = np.cumsum(np.ones(len(options)) if weights is None else weights)
        at = np.searchsorted(bounds[:-1], self.uniform(label, 0, bounds[-1]), side="right")
        return [options[i] for i in at.tolist()]

    def seeds(self, label: str) -> list[int]:
        """Draw n integers in [0, 2**53): seeds for numbers that are too many to record."""
        return [int(key) for key in self._mixed(label) >> np.uint64(64 - _SEED_BITS)]

    def _mixed(self, label: str) -> NDArray[np.uint64]:
        return mix(self._keys ^ _hash(label))

    def _with(self, keys: NDArray[np.uint64]) -> Streams:
        other = object.__new__(Streams)
        other._keys = keys
        return other


def keys_of(seeds: Sequence[int], label: str) -> NDArray[np.uint64]:
    """Turn seeds, as `Streams.seeds` draws them, into (n,) uint64 keys for bulk draws."""
    return mix(np.array(seeds, np.uint64) ^ _hash(label))


@cache
def _hash(label: str) -> np.uint64:
    digest = hashlib.blake2b(label.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
