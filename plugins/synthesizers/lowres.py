"""`lowres`: too few pixels on the face, the commonest reason why a face in video is soft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from blurgate.hookspecs import hookimpl
from blurgate.interfaces import Register
from blurgate.training import resample
from blurgate.training.arrays import on_numpy, on_torch
from blurgate.training.blur import Blur, column, positive, rows, severities

if TYPE_CHECKING:
    from torch import Tensor

    from blurgate.training.arrays import Arrays
    from blurgate.training.interfaces import Params
    from blurgate.training.streams import Streams
    from blurgate.types import F32

# What scalers in cameras, codecs and image libraries do; nearest is rare and looks it.
DOWN: Final = {"area": 0.5, "bicubic": 0.2, "bilinear": 0.2, "nearest": 0.1}
_BLOCK: Final = 4
UP: Final = {"bicubic": 0.4, "bilinear": 0.55, "nearest": 0.05}


class Lowres(Blur):
    """Down to a coarser sampling pitch and up again.

    Rows: factor (the pitch in pixels of the 112 px crop: at factor 4 the crop is 28 pixels wide),
    down and up (names of filters) and phase_x, phase_y (where the coarse grid lies, in [-0.5, 0.5)
    of a pitch). Severity s is a factor of s * max_factor; a pitch finer than the working pixels
    leaves a picture as it is, so the smallest severities do nothing: those below
    1 / (max_factor * px).

    Args:
        max_factor: Factor at severity 1.

    Raises:
        ConfigError: `max_factor` is not above 1.
    """

    name = "lowres"

    def __init__(self, *, max_factor: float = 14.0) -> None:
        self._max = 1 + positive("max_factor - 1", max_factor - 1)

    def sample(self, streams: Streams, severity: F32 | None = None, /) -> list[Params]:
        """Draw factors, filters and phases."""
        share = severities(severity, len(streams))
        factor = streams.log_uniform("factor", 1, self._max)
        return rows(
            self.name,
            factor=factor if share is None else np.array(share) * self._max,
            down=streams.choice("down", list(DOWN), list(DOWN.values())),
            up=streams.choice("up", list(UP), list(UP.values())),
            phase_x=streams.uniform("phase x", -0.5, 0.5),
            phase_y=streams.uniform("phase y", -0.5, 0.5),
        )

    def blur_numpy(self, images: F32, params: Sequence[Params], px: float) -> F32:
        """Resample (n, h, w, 3) float32, image by image."""
        out = np.empty_like(images)
        size = (images.shape[1], images.shape[2])
        for i, row in enumerate(params):
            out[i] = resample.apply_image(images[i], *_axes([row], size, px, on_numpy()))
        return out

    def blur_torch(self, images: Tensor, params: Sequence[Params], px: float) -> Tensor:
        """Resample (n, 3, h, w) float32: in one go, on a CPU few of like pitch at once."""
        import torch

        size = (int(images.shape[2]), int(images.shape[3]))
        arrays = on_torch(images.device)
        if images.device.type != "cpu":
            return resample.apply_batch(arrays, images, *_axes(params, size, px, arrays))
        out = torch.empty_like(images)
        order = column(params, "factor", arrays).argsort()
        for some in (order[at : at + _BLOCK] for at in range(0, len(order), _BLOCK)):
            axes = _axes([params[i] for i in some.tolist()], size, px, arrays)
            out[some] = resample.apply_batch(arrays, images[some], *axes)
        return out


def _axes(
    params: Sequence[Params], size: tuple[int, int], px: float, arrays: Arrays
) -> tuple[tuple[resample.Taps, resample.Taps], tuple[resample.Taps, resample.Taps]]:
    """Plan the resampling of the columns and of the rows."""
    pitch = arrays.xp.clip(column(params, "factor", arrays) * px, 1, None)
    down, up = [row["down"] for row in params], [row["up"] for row in params]
    # The grid moves by less than what it is coarser: at pitch 1 it lies on the pixels.
    vertical, horizontal = (
        resample.axis(arrays, side, pitch, column(params, phase, arrays) * (pitch - 1), down, up)
        for side, phase in zip(size, ("phase_y", "phase_x"), strict=True)
    )
    return vertical, horizontal


@hookimpl
def register_synthesizers(register: Register) -> None:
    """Register `lowres`."""
    register("lowres", Lowres)
