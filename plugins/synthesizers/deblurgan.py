"""`deblurgan`: random camera shake.

The motion model is that of G. Boracchi and A. Foi, "Modeling the performance of image restoration
from motion blur" (IEEE TIP, 2012), with the settings of DeblurGAN (Kupyn et al., CVPR 2018) but for
`expl`, which goes up to 0.01 there: the smaller values here make far straighter paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from blurgate.hookspecs import hookimpl
from blurgate.interfaces import Register
from blurgate.training import psf
from blurgate.training.arrays import on_numpy
from blurgate.training.blur import KernelBlur, positive, rows, severities

if TYPE_CHECKING:
    from blurgate.training.arrays import Array, Arrays
    from blurgate.training.interfaces import Params
    from blurgate.training.streams import Streams
    from blurgate.types import F32

EXPL: Final = (0.003, 0.001, 0.0007, 0.0005, 0.0003, 0.0001)
EXPOSURES: Final = (0.1, 0.5, 1.0)


class Deblurgan(KernelBlur):
    """A kernel from the first part of a random path of 60 crop pixels.

    Rows: the path's expl, centripetal, shake, jitter, angle_deg and seed, the exposure (share of
    the path that is seen: 0.1, 0.5 or 1) and path_px (length of that share, in pixels of the 112 px
    crop). Drawn without a severity, the path has its published size: path_px = 60 * exposure.
    Severity s keeps the path's shape and scales it to path_px = s * max_path. The kernel is centred
    on its centre of mass, because a face is aligned again after it was blurred.

    Args:
        max_path: Length of the seen path at severity 1, in crop pixels.

    Raises:
        ConfigError: `max_path` is not above 0.
    """

    name = "deblurgan"

    def __init__(self, *, max_path: float = psf.PATH_PX) -> None:
        self._max = positive("max_path", max_path)

    def sample(self, streams: Streams, severity: F32 | None = None, /) -> list[Params]:
        """Draw paths; their many single steps are drawn from the row's seed."""
        share = severities(severity, len(streams))
        exposure = np.array(streams.choice("exposure", EXPOSURES))
        path = exposure * psf.PATH_PX if share is None else np.array(share) * self._max
        return rows(
            self.name,
            path_px=path,
            exposure=exposure,
            expl=streams.choice("expl", EXPL),
            centripetal=streams.uniform("centripetal", 0, 0.7),
            shake=streams.uniform("shake", 0, 0.2),
            jitter=streams.uniform("jitter", 0, 10),
            angle_deg=streams.uniform("angle", 0, 360),
            seed=streams.seeds("path"),
        )

    def raw_kernels(self, params: Sequence[Params], px: float, arrays: Arrays) -> Array:
        """Walk the paths and gather them into kernels."""
        if arrays.on_gpu:
            return psf.shakes(arrays, params, px)
        # 2000 small steps one after the other: on a CPU NumPy takes them three times as fast.
        return arrays.floats(psf.shakes(on_numpy(), params, px))


@hookimpl
def register_synthesizers(register: Register) -> None:
    """Register `deblurgan`."""
    register("deblurgan", Deblurgan)
