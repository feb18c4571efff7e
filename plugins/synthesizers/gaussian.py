"""`gaussian`: a Gaussian kernel, the common stand-in for every soft lens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from blurgate.hookspecs import hookimpl
from blurgate.interfaces import Register
from blurgate.training import psf
from blurgate.training.blur import KernelBlur, column, positive, rows, severities

if TYPE_CHECKING:
    from blurgate.training.arrays import Array, Arrays
    from blurgate.training.interfaces import Params
    from blurgate.training.streams import Streams
    from blurgate.types import F32


class Gaussian(KernelBlur):
    """A Gaussian, integrated over the pixels.

    Rows: sigma_px (pixels of the 112 px crop). Severity s is a sigma of s * max_sigma.

    Args:
        max_sigma: Sigma at severity 1, in crop pixels.

    Raises:
        ConfigError: `max_sigma` is not above 0.
    """

    name = "gaussian"

    def __init__(self, *, max_sigma: float = 7.0) -> None:
        self._max = positive("max_sigma", max_sigma)

    def sample(self, streams: Streams, severity: F32 | None = None, /) -> list[Params]:
        """Draw sigmas."""
        share = severities(severity, len(streams))
        sigma = streams.uniform("sigma", 0, self._max)
        return rows(self.name, sigma_px=sigma if share is None else np.array(share) * self._max)

    def raw_kernels(self, params: Sequence[Params], px: float, arrays: Arrays) -> Array:
        """Make the Gaussians."""
        return psf.gaussians(arrays, column(params, "sigma_px", arrays) * px)


@hookimpl
def register_synthesizers(register: Register) -> None:
    """Register `gaussian`."""
    register("gaussian", Gaussian)
