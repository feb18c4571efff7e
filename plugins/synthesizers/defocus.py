"""`defocus`: a lens out of focus, which shows every point as the image of its aperture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

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


class Defocus(KernelBlur):
    """A uniform disc or regular polygon.

    Rows: radius_px (of the disc of the same area, in pixels of the 112 px crop), blades (0: a disc)
    and rotation_deg. Severity s is a radius of s * max_radius.

    Args:
        max_radius: Radius at severity 1, in crop pixels.
        blades: Numbers of aperture blades that are drawn from; 0 is a round aperture.

    Raises:
        ConfigError: `max_radius` is not above 0, or a number of blades is not 0 or 3 to 12.
    """

    name = "defocus"

    def __init__(
        self, *, max_radius: float = 14.0, blades: Sequence[int] = (0, 0, 5, 6, 7, 8, 9)
    ) -> None:
        if not blades or any(b != 0 and not 3 <= b <= 12 for b in blades):
            raise ConfigError(f"blades must be numbers from 3 to 12, or 0; got {tuple(blades)}")
        self._max = positive("max_radius", max_radius)
        self._blades = tuple(int(b) for b in blades)

    def sample(self, streams: Streams, severity: F32 | None = None, /) -> list[Params]:
        """Draw radii and apertures."""
        share = severities(severity, len(streams))
        radius = streams.uniform("radius", 0, self._max)
        if share is not None:
            radius = np.array(share) * self._max
        return rows(
            self.name,
            radius_px=radius,
            blades=streams.choice("blades", self._blades),
            rotation_deg=streams.uniform("rotation", 0, 360),
        )

    def raw_kernels(self, params: Sequence[Params], px: float, arrays: Arrays) -> Array:
        """Make the apertures."""
        return psf.apertures(
            arrays,
            column(params, "radius_px", arrays) * px,
            [row["blades"] for row in params],
            column(params, "rotation_deg", arrays) * (math.pi / 180),
        )


@hookimpl
def register_synthesizers(register: Register) -> None:
    """Register `defocus`."""
    register("defocus", Defocus)
