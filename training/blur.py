"""What the synthesizers share: checks, colour handling, the two backends, blurs in turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import ConfigError, ShapeError
from blurgate.training import colour, convolve, psf
from blurgate.training.arrays import on_numpy, on_torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from blurgate.training.arrays import Array, Arrays
    from blurgate.training.interfaces import Params, Synthesizer
    from blurgate.training.streams import Streams
    from blurgate.types import F32

_BATCH: Final = 256  # kernels made at once; bounds memory, and amortises the trajectories' steps


class Blur(ABC):
    """A synthesizer whose subclass blurs float32 images in linear light on each backend."""

    name: str

    @abstractmethod
    def sample(self, streams: Streams, severity: F32 | None = None, /) -> list[Params]:
        """Draw parameters, one row per stream; see `Synthesizer.sample`."""

    @abstractmethod
    def blur_numpy(self, images: F32, params: Sequence[Params], px: float) -> F32:
        """Blur (n, h, w, 3) float32; may overshoot [0, 1]."""

    @abstractmethod
    def blur_torch(self, images: Tensor, params: Sequence[Params], px: float) -> Tensor:
        """Blur (n, 3, h, w) float32; may overshoot [0, 1]."""

    def apply(self, images: Array, params: Sequence[Params], /, *, px: float) -> Array:
        """Blur images, each with its own parameters; see `Synthesizer.apply`.

        Raises:
            ShapeError: The images are not a batch of three channels in uint8 or float32, or there
                are not as many rows as images.
            ConfigError: `px` is not above 0.
        """
        on_cpu = isinstance(images, np.ndarray)
        _check(images, 3 if on_cpu else 1, len(params))
        if not 0 < px < float("inf"):
            raise ConfigError(f"px must be the working pixels per crop pixel, above 0; got {px}")
        if not len(images):
            return images
        coded = str(images.dtype).endswith("uint8")
        light = colour.to_linear(images) if coded else images
        blur: Any = self.blur_numpy if on_cpu else self.blur_torch
        out = blur(light, params, px).clip(0, 1)
        return colour.to_srgb(out) if coded else out


class KernelBlur(Blur):
    """A blur that is a convolution."""

    @abstractmethod
    def raw_kernels(self, params: Sequence[Params], px: float, arrays: Arrays) -> Array:
        """Make (n, k, k) float64 kernels, k odd, of any sum; see `blurgate.training.psf`."""

    def kernels(self, params: Sequence[Params], px: float = 1.0) -> F32:
        """Make the kernels of some rows.

        Args:
            params: n rows from `sample`.
            px: Working pixels per crop pixel.

        Returns:
            (n, k, k) float32, k odd, each summing to 1. They are convolved, not correlated.
        """
        own = [psf.normalised(kernel) for kernel in self.raw_kernels(params, px, on_numpy())]
        reach = max((len(kernel) // 2 for kernel in own), default=0)
        out = np.zeros((len(own), 2 * reach + 1, 2 * reach + 1), np.float32)
        for i, kernel in enumerate(own):
            rim = reach - len(kernel) // 2
            out[i, rim : rim + len(kernel), rim : rim + len(kernel)] = kernel
        return out

    def blur_numpy(self, images: F32, params: Sequence[Params], px: float) -> F32:
        """Blur (n, h, w, 3) float32, image by image with a kernel as small as it may be."""
        out = np.empty_like(images)
        for start in range(0, len(params), _BATCH):
            kernels = self.raw_kernels(params[start : start + _BATCH], px, on_numpy())
            for i, kernel in enumerate(kernels, start):
                out[i] = convolve.convolve_image(images[i], psf.normalised(kernel))
        return out

    def blur_torch(self, images: Tensor, params: Sequence[Params], px: float) -> Tensor:
        """Blur (n, 3, h, w) float32 in one go; the kernels are made on the images' device."""
        kernels = self.raw_kernels(params, px, on_torch(images.device))
        kernels = kernels / kernels.sum((1, 2), keepdim=True)
        return convolve.convolve_batch(images, kernels.float())


class Iterated:
    """Several blurs of one synthesizer, one after the other.

    Rows hold the single blurs under `steps`, in their order. Every step has the whole severity.

    Args:
        synthesizer: What blurs; each step draws afresh.
        times: How often, at least 1.

    Raises:
        ConfigError: `times` is below 1.
    """

    def __init__(self, synthesizer: Synthesizer, times: int) -> None:
        if times < 1:
            raise ConfigError(f"a blur cannot be iterated {times} times; use 1 or more")
        self._synthesizer = synthesizer
        self._times = times
        self.name = synthesizer.name

    def sample(self, streams: Streams, severity: F32 | None = None, /) -> list[Params]:
        """Draw the parameters of every step; see `Synthesizer.sample`."""
        steps = [
            self._synthesizer.sample(streams.fold(f"step {i}"), severity)
            for i in range(self._times)
        ]
        return [{"method": self.name, "steps": list(row)} for row in zip(*steps, strict=True)]

    def apply(self, images: Array, params: Sequence[Params], /, *, px: float) -> Array:
        """Blur images step by step in linear light; see `Synthesizer.apply`."""
        on_cpu = isinstance(images, np.ndarray)
        _check(images, 3 if on_cpu else 1, len(params))
        coded = str(images.dtype).endswith("uint8")
        out = colour.to_linear(images) if coded else images
        for i in range(self._times):
            out = self._synthesizer.apply(out, [row["steps"][i] for row in params], px=px)
        return colour.to_srgb(out) if coded else out


def severities(severity: F32 | None, n: int) -> list[float] | None:
    """Check severities and give them as numbers; None stays None.

    Raises:
        ShapeError: There are not n of them, or one is outside [0, 1].
    """
    if severity is None:
        return None
    values = np.asarray(severity, np.float64)
    if values.shape != (n,) or not bool(((values >= 0) & (values <= 1)).all()):
        raise ShapeError(f"severity must be {n} numbers in [0, 1], got {severity!r}")
    return [float(v) for v in values]


def rows(name: str, **columns: Sequence[Any] | NDArray[Any]) -> list[Params]:
    """Turn columns of n values into n rows of plain Python values with `method` in front."""
    plain = [c.tolist() if isinstance(c, np.ndarray) else list(c) for c in columns.values()]
    return [
        {"method": name, **dict(zip(columns, values, strict=True))}
        for values in zip(*plain, strict=True)
    ]


def column(params: Sequence[Params], key: str, arrays: Arrays) -> Array:
    """Gather one number of every row as (n,) float64."""
    return arrays.floats([row[key] for row in params])


def positive(what: str, value: float) -> float:
    """Check an option that must be a number above 0.

    Raises:
        ConfigError: It is not.
    """
    if not 0 < value < float("inf"):
        raise ConfigError(f"{what} must be a number above 0, got {value!r}")
    return float(value)


def _check(images: Array, channel_axis: int, n: int) -> None:
    shape, kind = tuple(images.shape), str(images.dtype).rpartition(".")[2]
    if len(shape) != 4 or shape[channel_axis] != 3 or kind not in ("uint8", "float32"):
        layout = "(n, h, w, 3)" if channel_axis == 3 else "(n, 3, h, w)"
        raise ShapeError(f"images must be uint8 or float32 {layout}, got {kind} of {shape}")
    if shape[0] != n:
        raise ShapeError(f"{n} rows of parameters for {shape[0]} images")
