"""From a clean crop to a pair: the picture that a camera would have made of it, and its clean twin.

    crop -> linear light -> blur -> sensor noise -> 8-bit sRGB -> compression -> 112 px   degraded
    crop ------------------------------------------------------------------> 112 px      clean twin

The crop is worked on at its own resolution, so that blur, noise and blocks shrink together in the
last step as they do when a face is aligned. Nothing but the blur depends on the severity: noise and
compression are drawn on their own and strike unblurred pictures too, no picture is stretched to
another contrast, and borders are mirrored. A picture of label 0 for training is therefore the
degraded one at severity 0, never the clean twin, which would be known by its lack of noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from blurgate.errors import ConfigError, ShapeError, blamed
from blurgate.training import colour, compress, convolve
from blurgate.training.arrays import normals, on_numpy, on_torch
from blurgate.training.streams import keys_of
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray
    from torch import Tensor

    from blurgate.training.arrays import Array, Arrays
    from blurgate.training.interfaces import Params, Synthesizer
    from blurgate.training.streams import Streams
    from blurgate.types import F32, U8

    Range: TypeAlias = tuple[float, float]

PHOTONS: Final = (500.0, 50000.0)
"""Range of the photons that make white: from a phone in a dim room to daylight."""
READ_NOISE: Final = (0.0002, 0.002)
"""Range of the noise that does not depend on the light, as a standard deviation; white is 1."""
CODECS: Final[dict[str | None, float]] = {"jpeg": 0.45, "h264": 0.45, None: 0.1}
QUALITY: Final = (30, 95)
QP: Final = (18, 34)

# The same where a camera is poor: hardly any light, few bits.
HARSH_PHOTONS: Final = (30.0, 500.0)
HARSH_READ_NOISE: Final = (0.002, 0.01)
HARSH_QUALITY: Final = (8, 30)
HARSH_QP: Final = (34, 44)

_CHUNK: Final = 64  # pictures that are held in floating point at once
_CHUNK_GPU: Final = 1024  # the same on a GPU, which wants many and has memory for them
_ROUNDING: Final = 1e-3  # what NumPy and torch may differ by


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A batch of pictures with their clean twins, in the order of the crops."""

    clean: Array
    """NumPy (n, 112, 112, 3) or torch (n, 3, 112, 112), uint8 BGR."""
    degraded: Array
    """The same shape and kind."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Draws and applies everything that happens to a crop.

    A row of parameters says all that is done: `blur` (the synthesizer's row), `light` ("linear" or
    "srgb"), `photons`, `read_noise` and `noise_seed` (None without noise), `codec` and `strength`
    (None without compression). Switching a part off leaves the draws of the others as they are.
    """

    synthesizer: Synthesizer
    linear: bool = True
    """Blur light and not sRGB codes."""
    noise: bool = True
    compression: bool = True
    harsh: float = 0.0
    """Share of the pictures that a poor camera took: its noise and its compression are drawn from
    the `HARSH_` ranges, each on its own."""
    margin: int = 0
    """Working pixels around the crop on each side: blurred along, and cut off in the last step."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.harsh <= 1:
            raise ConfigError(f"harsh is a share from 0 to 1, got {self.harsh:g}")
        if self.margin < 0:
            raise ConfigError(f"the margin is a number of pixels from 0, got {self.margin}")

    def sample(self, streams: Streams, severity: F32 | None = None) -> list[Params]:
        """Draw the parameters of n images; see `Synthesizer.sample`.

        Args:
            streams: The random streams of n images.
            severity: (n,) in [0, 1], or None to let the synthesizer draw over its range.

        Returns:
            n rows.
        """
        n = len(streams)
        with blamed("synthesizer", self.synthesizer.name):
            blur = self.synthesizer.sample(streams.fold("blur"), severity)
            if len(blur) != n:
                raise ShapeError(f"{len(blur)} rows for {n} images")
        camera = streams.fold("camera")
        dark = camera.uniform("dark") < self.harsh
        coarse = camera.uniform("coarse") < self.harsh
        photons = _drawn(camera.log_uniform, "photons", PHOTONS, HARSH_PHOTONS, dark)
        read = _drawn(camera.log_uniform, "read noise", READ_NOISE, HARSH_READ_NOISE, dark)
        seeds = camera.seeds("noise")
        codecs = camera.choice("codec", list(CODECS), list(CODECS.values()))
        quality = _drawn(camera.uniform, "quality", _whole(QUALITY), _whole(HARSH_QUALITY), coarse)
        qp = _drawn(camera.uniform, "qp", _whole(QP), _whole(HARSH_QP), coarse)
        out: list[Params] = []
        for i in range(n):
            codec = codecs[i] if self.compression else None
            drawn = quality[i] if codec == "jpeg" else qp[i]
            out.append(
                {
                    "blur": blur[i],
                    "light": "linear" if self.linear else "srgb",
                    "photons": photons[i] if self.noise else None,
                    "read_noise": read[i] if self.noise else None,
                    "noise_seed": seeds[i] if self.noise else None,
                    "codec": codec,
                    "strength": None if codec is None else math.floor(drawn),
                }
            )
        return out

    def apply(self, crops: Array, params: Sequence[Params]) -> Pair:
        """Make the pictures of a batch of crops.

        Args:
            crops: uint8 BGR, NumPy (n, s, s, 3) or torch (n, 3, s, s): the framing of the 112 px
                crop, with `margin` more on each side, at any resolution.
            params: n rows from `sample`, or read back from JSON.

        Returns:
            The pictures. On NumPy they are the same to the bit whatever else is in the batch; torch
            differs by the model of JPEG (see `compress`) and otherwise by a rounding.

        Raises:
            ShapeError: The crops are not such a batch, or there are not n rows.
        """
        channels_last = isinstance(crops, np.ndarray)
        side = _side(crops, channels_last, len(params))
        if side <= 2 * self.margin:
            raise ShapeError(f"crops of {side} pixels have no room for margins of {self.margin}")
        px = (side - 2 * self.margin) / CROP_SIZE
        if not channels_last:
            return Pair(self._shrink_batch(crops), self._degrade_batch(crops, params, px))
        pair = Pair(*(np.empty((len(crops), CROP_SIZE, CROP_SIZE, 3), np.uint8) for _ in "cd"))
        for at in range(0, len(crops), _CHUNK):
            part = slice(at, at + _CHUNK)
            pictures = self._degrade_images(crops[part], params[part], px)
            for i, picture in enumerate(pictures, at):
                pair.clean[i] = self._shrink(crops[i])
                pair.degraded[i] = self._shrink(picture)
        return pair

    def _degrade_images(self, crops: U8, params: Sequence[Params], px: float) -> list[U8]:
        light = self._blurred(crops, params, px)
        return [_exposed(light[i], row) for i, row in enumerate(params)]

    def _degrade_batch(self, crops: Tensor, params: Sequence[Params], px: float) -> Tensor:
        import torch

        light: Tensor = self._blurred(crops, params, px)
        size = 8 if light.device.type == "cpu" else _CHUNK_GPU  # 8: what a CPU's caches hold
        parts = [slice(at, at + size) for at in range(0, len(light), size)]
        pictures = [_exposed_batch(light[part], params[part]) for part in parts]
        shrunk = [self._shrink_batch(picture) for picture in pictures]
        return torch.cat(shrunk) if shrunk else self._shrink_batch(crops)

    def _blurred(self, crops: Array, params: Sequence[Params], px: float) -> Array:
        """Blur uint8 crops as their rows say; gives float32 linear light."""
        blur = [row["blur"] for row in params]
        if all(row["light"] == "linear" for row in params):
            return self._applied(colour.to_linear(crops), blur, px)
        if any(row["light"] == "linear" for row in params):
            raise ConfigError(
                "a batch is blurred either in linear light or in sRGB codes, not both"
            )
        codes = crops.astype(np.float32) if isinstance(crops, np.ndarray) else crops.float()
        return colour.decode(self._applied(codes / 255, blur, px))

    def _applied(self, images: Array, blur: Sequence[Params], px: float) -> Array:
        with blamed("synthesizer", self.synthesizer.name):
            out = self.synthesizer.apply(images, blur, px=px)
            if out.shape != images.shape:
                raise ShapeError(f"{tuple(out.shape)} for images of {tuple(images.shape)}")
            if out.dtype != images.dtype:
                raise ShapeError(f"{out.dtype} for images of {images.dtype}")
            # On a GPU it would wait for the result; NumPy is the reference anyway.
            on_cpu = isinstance(out, np.ndarray) or out.device.type == "cpu"
            if on_cpu and len(out) and not (out.min() >= -_ROUNDING and out.max() <= 1 + _ROUNDING):
                raise ShapeError(f"values from {out.min():g} to {out.max():g}, outside [0, 1]")
        return out

    def _shrink(self, picture: U8) -> U8:
        """Bring one picture to 112 px; see `_shrink_batch`."""
        inner = picture[self.margin : len(picture) - self.margin or None]
        inner = inner[:, self.margin : picture.shape[1] - self.margin or None]
        if len(inner) == CROP_SIZE:
            return inner
        how = cv2.INTER_AREA if len(inner) > CROP_SIZE else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(inner, (CROP_SIZE, CROP_SIZE), interpolation=how), np.uint8)

    def _shrink_batch(self, pictures: Tensor) -> Tensor:
        """Bring pictures (n, 3, s, s) uint8 to 112 px.

        Alignment warps the decoded frame bilinearly. At half size that is the mean of four pixels,
        which is what averaging by area gives; at other sizes the mean by area differs from a plain
        warp only in not aliasing. Enlarging is bilinear.
        """
        import torch

        inner = slice(self.margin, pictures.shape[2] - self.margin)
        cut = pictures[:, :, inner, inner]
        if cut.shape[2] == CROP_SIZE:
            return cut.contiguous()
        matrix = torch.from_numpy(convolve.box_matrix(cut.shape[2], CROP_SIZE))
        matrix = matrix.to(cut.device, torch.float32)
        return (matrix @ cut.float() @ matrix.T + 0.5).clamp(0, 255).to(torch.uint8)


def _drawn(
    draw: Callable[..., NDArray[np.float64]],
    name: str,
    usual: Range,
    harsh: Range,
    where: NDArray[np.bool_],
) -> list[float]:
    """Draw n numbers, of one range or of the other."""
    drawn: list[float] = np.where(where, draw(name, *harsh), draw(name, *usual)).tolist()
    return drawn


def _whole(limits: tuple[int, int]) -> Range:
    """Give the range whose numbers, cut to whole ones, are from the first to the last."""
    return limits[0], limits[1] + 1


def sensor_noise(light: Array, normal: Array, photons: Array, read_noise: Array) -> Array:
    """Add what a sensor adds to light: Poisson noise of the photons and Gaussian read noise.

    One normal number z per value stands for both: light + std * (z + a * (z**2 - 1)) / sqrt(1 + 2 *
    a**2), with a sixth of the sum's skewness for a (Cornish and Fisher). Mean and variance are
    those of the sum, before what lies outside of [0, 1] is cut off; so is the skewness where it is
    small, which is from a few photons on.

    Args:
        light: float32 linear light in [0, 1].
        normal: Standard normal numbers of the same shape.
        photons: How many make white, a number or an array that broadcasts.
        read_noise: Standard deviation above 0, likewise.

    Returns:
        float32 linear light in [0, 1].
    """
    variance = light / photons + read_noise * read_noise
    std = variance**0.5  # a root is the same to the bit whatever else is in a batch; powers are not
    a = light / (6 * photons * photons * variance * std)
    return (light + std * (normal + a * (normal * normal - 1)) / (1 + 2 * a * a) ** 0.5).clip(0, 1)


def _exposed(light: F32, row: Params) -> U8:
    """Take one picture's light (h, w, 3) through sensor and codec."""
    if row["photons"] is not None:
        z = normals(on_numpy(), keys_of([row["noise_seed"]], "sensor"), light.size)
        light = sensor_noise(light, z.reshape(light.shape), row["photons"], row["read_noise"])
    codes: U8 = colour.to_srgb(light)
    if row["codec"] is None:
        return codes
    return compress.compress_image(codes, row["codec"], row["strength"])


def _exposed_batch(light: Tensor, params: Sequence[Params]) -> Tensor:
    """Take a batch's light (n, 3, h, w) through sensor and codec."""
    noisy = [i for i, row in enumerate(params) if row["photons"] is not None]
    if noisy:
        light = light.clone()
        light[noisy] = _noisy_batch(light[noisy], [params[i] for i in noisy])
    codes: Tensor = colour.to_srgb(light)
    coded = [i for i, row in enumerate(params) if row["codec"] is not None]
    if coded:
        codec = [params[i]["codec"] for i in coded]
        strength = [params[i]["strength"] for i in coded]
        codes[coded] = compress.compress_batch(codes[coded], codec, strength)
    return codes


def _noisy_batch(light: Tensor, params: Sequence[Params]) -> Tensor:
    arrays: Arrays = on_torch(light.device)
    n, c, h, w = light.shape
    keys = keys_of([row["noise_seed"] for row in params], "sensor")
    z = normals(arrays, keys, h * w * c).reshape(n, h, w, c).permute(0, 3, 1, 2)
    photons, read = (
        arrays.single(arrays.floats([row[key] for row in params]))[:, None, None, None]
        for key in ("photons", "read_noise")
    )
    noisy: Tensor = sensor_noise(light, z, photons, read)
    return noisy


def _side(crops: Array, channels_last: bool, n: int) -> int:
    shape, kind = tuple(crops.shape), str(crops.dtype).rpartition(".")[2]
    layout = "(n, s, s, 3)" if channels_last else "(n, 3, s, s)"
    side = shape[2] if len(shape) == 4 else 0
    if kind != "uint8" or shape != ((n, side, side, 3) if channels_last else (n, 3, side, side)):
        raise ShapeError(f"crops must be uint8 {layout} with n = {n} rows, got {kind} of {shape}")
    return side
