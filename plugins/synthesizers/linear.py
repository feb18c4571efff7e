"""`linear`: uniform straight motion, what the original system calls "defocus"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from blurgate.errors import ConfigError
from blurgate.hookspecs import hookimpl
from blurgate.interfaces import Register
from blurgate.training import psf
from blurgate.training.blur import KernelBlur, column, positive, rows, severities

if TYPE_CHECKING:
    from blurgate.training.arrays import Array, Arrays
    from blurgate.training.interfaces import Params
    from blurgate.training.streams import Streams
    from blurgate.types import F32


class Linear(KernelBlur):
    """Motion along a line of uniform speed, centred so that the face stays where it is.

    Rows: length_px (pixels of the 112 px crop, whatever the working resolution) and angle_deg
    (counter-clockwise from the horizontal as seen). Severity s is a length of s * max_length.

    Args:
        max_length: Length at severity 1, in crop pixels.
        angle: A fixed angle in degrees, or None for a random one.
        draw: How lengths are drawn when no severity is given: uniform over the range, or normal
            around half of it with a fifth of it as the standard deviation, cut to the range.

    Raises:
        ConfigError: `max_length` is not above 0, or `draw` is not a known way.
    """

    name = "linear"

    def __init__(
        self,
        *,
        max_length: float = 100.0,
        angle: float | None = None,
        draw: Literal["uniform", "normal"] = "uniform",
    ) -> None:
        if draw not in ("uniform", "normal"):
            raise ConfigError(f"linear's lengths are drawn 'uniform' or 'normal', not {draw!r}")
        self._max = positive("max_length", max_length)
        self._angle = angle
        self._draw = draw

    def sample(self, streams: Streams, severity: F32 | None = None, /) -> list[Params]:
        """Draw lengths and angles."""
        share = severities(severity, len(streams))
        if share is not None:
            length = np.array(share) * self._max
        elif self._draw == "uniform":
            length = streams.uniform("length", 0, self._max)
        else:
            length = streams.normal("length", self._max / 2, self._max / 5).clip(0, self._max)
        angle = streams.uniform("angle", 0, 180)
        if self._angle is not None:
            angle = np.full(len(streams), float(self._angle))
        return rows(self.name, length_px=length, angle_deg=angle)

    def raw_kernels(self, params: Sequence[Params], px: float, arrays: Arrays) -> Array:
        """Make the lines."""
        length = column(params, "length_px", arrays) * px
        return psf.lines(arrays, length, column(params, "angle_deg", arrays) * (math.pi / 180))


@hookimpl
def register_synthesizers(register: Register) -> None:
    """Register `linear`."""
    register("linear", Linear)
