"""Even labels: drawing severities so that every label comes out equally often.

A sample of faces is blurred at a ladder of severities, each face keeping everything else that is
random, so that every one of them gives a curve from severity to label. From the curves follows what
share of a severity's labels falls into each of `BINS` bins, and from the shares the weights of the
severities that together fill the bins alike (expectation maximisation of a mixture). Severities are
then drawn by these weights.

What sampling leaves uneven, mostly at the top, where a face whose label stays low at any severity
adds to the bins below, is cut off at the end: no bin keeps more than `selection` allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import ConfigError
from blurgate.pipeline import ordered_map
from blurgate.training.pairs import apply_sizes
from blurgate.training.streams import Streams

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from blurgate.training.degrade import Chain, Pair
    from blurgate.training.labels import Labeller
    from blurgate.types import F32, U8

BINS: Final = 20
CELLS: Final = 64
"""Severities are weighted in this many parts of [0, 1], which are finer at the low end."""
LADDER: Final = tuple((i / 16) ** 2 for i in range(17))
"""Severities of the calibration; labels change fastest at the low end."""
TRACKS: Final = (16, 128)
"""Least and most curves that a calibration is made of."""
ROWS_PER_TRACK: Final = 32
"""One curve for this many pictures that are to be made."""
SURPLUS: Final = 0.8
"""A bin is cut to the lowest bin, and to no less than this share of the mean bin."""

_PART: Final = 16  # faces that are blurred together; bounds the memory
_STEPS: Final = 20  # more would follow the sample's chance and crowd the severities together
_POINTS: Final = 8  # severities within a cell at which the curves are read
_GOLDEN: Final = 0.6180339887498949
_ROOT_3: Final = 0.7320508075688772  # less its whole part; never in step with the golden ratio


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """How severities are drawn for one method."""

    low: float
    """The median label at severity 0: what noise and compression alone do."""
    high: float
    """The median label at severity 1."""
    shares: tuple[float, ...]
    """(CELLS + 1,) the share of draws up to severity (i / CELLS) ** 2, from 0 to 1."""

    def severity(self, draw: NDArray[Any]) -> F32:
        """Turn (n,) uniform numbers in [0, 1) into severities in [0, 1]."""
        at = np.linspace(0, 1, len(self.shares)) ** 2
        severity: F32 = np.interp(draw, self.shares, at).astype(np.float32)
        return severity

    def facts(self) -> dict[str, Any]:
        """Give the curve as plain values."""
        return {"low": self.low, "high": self.high, "shares": list(self.shares)}

    @classmethod
    def of(cls, facts: Any) -> Curve:
        """Make the curve of what `facts` gave.

        Raises:
            ConfigError: These are no such values.
        """
        try:
            curve = cls(
                float(facts["low"]), float(facts["high"]), tuple(map(float, facts["shares"]))
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the curve of an even dataset is damaged: {error!r}") from error
        if not bool((np.diff(curve.shares, prepend=0.0) >= 0).all()):
            raise ConfigError("the curve of an even dataset is damaged: its shares fall")
        return curve


def draws(
    seed: int,
    series: int,
    number: Sequence[int] | NDArray[Any],
    epoch: int | NDArray[np.int64] = 0,
) -> NDArray[np.float64]:
    """Give (n,) numbers in [0, 1) that fill it evenly: Weyl's sequence from a random start.

    Args:
        seed: The run's seed.
        series: Which sequence; each starts elsewhere.
        number: (n,) places in the sequence, from 0. Few of them in a row are already even.
        epoch: From 0, one or (n,). So are few epochs of one place, which counting on would not
            give: from one epoch of 233 places to the next, each would move by 0.004.
    """
    start = Streams(seed, [series]).uniform("severities")[0]
    steps = np.asarray(number, np.float64) * _GOLDEN + np.asarray(epoch, np.float64) * _ROOT_3
    spread: NDArray[np.float64] = (start + steps) % 1.0
    return spread


def n_tracks(n_rows: int) -> int:
    """Give how many curves are worth their time for a number of pictures."""
    return min(max(n_rows // ROWS_PER_TRACK, TRACKS[0]), TRACKS[1])


def calibrate(
    chain: Chain,
    crops: Sequence[U8],
    labeller: Labeller,
    *,
    seed: int,
    tracks: int,
    device: torch.device | None = None,
    workers: int = 1,
) -> Curve:
    """Find out how the severities of a chain must be drawn.

    Args:
        chain: What happens to the crops.
        crops: At least one clean crop (s, s, 3); the sample.
        labeller: Makes the labels.
        seed: The run's seed.
        tracks: How many curves; more than there are crops use crops again, with other draws.
        device: Where torch blurs; None: NumPy does.
        workers: Threads; the curve does not depend on them.
    """
    streams = Streams(seed, range(tracks)).fold("calibration")
    parts = [range(at, min(at + _PART, tracks)) for at in range(0, tracks, _PART)]

    def pictures(severity: float, part: range) -> Pair:
        own = [crops[i % len(crops)] for i in part]
        level = np.full(len(part), severity, np.float32)
        return apply_sizes(chain, own, chain.sample(streams[part], level), device)

    clean = [labeller.embed(pictures(0, part).clean) for part in parts]

    def label(step: tuple[float, int]) -> F32:
        severity, number = step
        part = parts[number]
        degraded = pictures(severity, part).degraded
        return labeller.label(clean[number], range(len(part)), degraded)

    steps = ((severity, number) for number in range(len(parts)) for severity in LADDER)
    labels = list(ordered_map(label, steps, workers))
    rungs = len(LADDER)
    rows = [np.stack(labels[at : at + rungs], 1) for at in range(0, len(labels), rungs)]
    return fit(np.concatenate(rows))


def fit(labels: F32) -> Curve:
    """Find out how severities must be drawn.

    Args:
        labels: (t, 17) labels of t faces, each at the severities of `LADDER` with everything else
            that is random left as it is.
    """
    low, high = (float(np.median(labels[:, end])) for end in (0, -1))
    edges = np.linspace(0, 1, CELLS + 1) ** 2
    if not low < high:
        return Curve(low, max(low, high), tuple(edges.tolist()))
    within = (np.arange(_POINTS) + 0.5) / _POINTS
    severity = (edges[:-1, None] + np.diff(edges)[:, None] * within).ravel()
    read = np.stack([np.interp(severity, LADDER, row) for row in labels.astype(np.float64)])
    at = bins(read, low, high).reshape(len(labels), CELLS, _POINTS)
    share = np.stack([(at == number).mean(axis=(0, 2)) for number in range(BINS)])
    weight = np.full(CELLS, 1 / CELLS)
    for _ in range(_STEPS):
        filled = np.maximum(share @ weight, 1e-12)
        weight *= share.T @ (1 / (BINS * filled))
        weight /= weight.sum()
    shares = np.concatenate([[0], np.cumsum(weight)])
    shares = np.round(shares / shares[-1], 9)
    return Curve(round(low, 6), round(high, 6), tuple(shares.tolist()))


def bins(labels: NDArray[Any], low: float, high: float) -> NDArray[np.int64]:
    """Number each label's bin: 0 to BINS - 1 from low to high, bins of that width beyond them."""
    width = (high - low) / BINS or 1.0
    return np.floor((labels.astype(np.float64) - low) / width).astype(np.int64)


def selection(labels: F32, index: NDArray[np.int64], curve: Curve, seed: int) -> NDArray[np.bool_]:
    """Choose the rows that stay: in every bin no more than a level, at random.

    The level is the lowest count of the bins between the curve's low and high, and at least
    `SURPLUS` of their mean; a bin that holds less than the level keeps all it has.

    Args:
        labels: (n,) labels of one method.
        index: (n,) the rows' stream indices.
        curve: What the severities were drawn by.
        seed: The run's seed.

    Returns:
        (n,) whether each row stays.
    """
    if not curve.low < curve.high:
        return np.ones(len(labels), bool)
    at = bins(labels, curve.low, curve.high)
    inside = (at >= 0) & (at < BINS)
    counts = np.bincount(at[inside], minlength=BINS)
    level = max(int(counts.min()), int(np.ceil(SURPLUS * counts.mean())))
    order = np.lexsort((Streams(seed, index).uniform("selection"), at))
    sorted_at = at[order]
    first = np.searchsorted(sorted_at, sorted_at)  # where each one's bin begins
    stays = np.zeros(len(labels), bool)
    stays[order[np.arange(len(order)) - first < level]] = True
    return stays
