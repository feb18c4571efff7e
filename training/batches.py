"""What a training loop is fed with: batches of pictures with their degrees, in a repeatable order.

A feed gives an epoch's batches in an order that the seed and the epoch decide, so that an epoch can
be repeated. Every process of a distributed run takes its own share of the same order.
`blurgate.training.feeds` reads folders, `blurgate.training.live` blurs faces as they are asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from blurgate.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.types import U8

__all__ = ["Feed", "Pictures", "order", "shares", "sharp"]


class Pictures(NamedTuple):
    """A batch, on whatever device it was made."""

    pictures: Tensor
    """(n, 3, 112, 112) uint8 BGR."""
    degrees: Tensor
    """(n,) float32 true degrees in [0, 1]."""


class Feed(Protocol):
    """Training and validation pictures."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the data is, as plain values; a resumed run has to have the same."""
        ...

    def steps(self, batch: int, *, world: int = 1) -> int:
        """Give the number of batches of an epoch, per process."""
        ...

    def train(
        self, epoch: int, batch: int, *, rank: int = 0, world: int = 1
    ) -> Generator[Pictures]:
        """Give an epoch's batches, all of one size; what is left over is left out.

        Args:
            epoch: From 0.
            batch: Pictures per batch and process; fewer if there are not so many.
            rank: Which process this is, from 0.
            world: How many there are.
        """
        ...

    def val(self, batch: int) -> Generator[Pictures]:
        """Give the validation pictures, the same every time; the last batch may be smaller."""
        ...

    def clean_val(self, count: int) -> U8:
        """Give clean validation faces, (up to count, 112, 112, 3) uint8 BGR, one per identity."""
        ...


def shares(count: int, batch: int, world: int) -> tuple[int, int]:
    """Give (batches, pictures per batch) of one process."""
    share = count // world
    if share < 2:
        raise ConfigError(f"{count} training pictures are too few for {world} processes")
    step = min(batch, share)
    return share // step, step


def sharp(count: int, share: float) -> int:
    """Give how many pictures of a batch, its first, show the clean face instead; see `clean`."""
    return round(count * share)


def order(
    count: int, seed: int, epoch: int, batch: int, rank: int, world: int
) -> Iterator[NDArray[np.int64]]:
    """Give the numbers of the pictures of each batch of one process."""
    batches, step = shares(count, batch, world)
    whole = np.random.default_rng([seed, epoch]).permutation(count)[rank::world]
    for number in range(batches):
        yield whole[number * step : (number + 1) * step]
