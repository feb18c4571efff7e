"""`random`: for every image one of the other synthesizers, drawn by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from blurgate.errors import ConfigError, ShapeError
from blurgate.hookspecs import hookimpl
from blurgate.host import get_host
from blurgate.interfaces import Register
from blurgate.training.blur import Blur, severities

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from blurgate.training.interfaces import Params, Synthesizer
    from blurgate.training.streams import Streams
    from blurgate.types import F32

WEIGHTS: Final = {
    "deblurgan": 0.25,
    "linear": 0.2,
    "defocus": 0.15,
    "gaussian": 0.15,
    "lowres": 0.25,
}


class Random(Blur):
    """A mix. A row is a row of the synthesizer that was drawn, its `method` included.

    Args:
        weights: Registered name -> weight, of any sum; outside synthesizers may be among them.

    Raises:
        ConfigError: No weight is above 0, one is below 0, or `random` itself is among them.
        UnknownNameError: Nobody registered one of the names.
    """

    name = "random"

    def __init__(self, *, weights: Mapping[str, float] = WEIGHTS) -> None:
        if self.name in weights or min(weights.values(), default=0) < 0:
            raise ConfigError("a mix needs weights of 0 or more for synthesizers other than itself")
        if not sum(weights.values()) > 0:
            raise ConfigError("a mix needs at least one synthesizer with a weight above 0")
        registry = get_host().registry("synthesizer")
        self._weights = dict(weights)
        self._parts: dict[str, Synthesizer] = {
            name: registry[name].make() for name in self._weights
        }

    def sample(self, streams: Streams, severity: F32 | None = None, /) -> list[Params]:
        """Draw a synthesizer for each image, and let it draw."""
        share = severities(severity, len(streams))
        drawn = streams.choice("method", list(self._weights), list(self._weights.values()))
        out: list[Params] = [{} for _ in drawn]
        for name, at in _groups(drawn):
            level = None if share is None else np.array(share)[at]
            made = self._parts[name].sample(streams[at].fold(name), level)
            for i, row in zip(at, made, strict=True):
                out[int(i)] = row
        return out

    def blur_numpy(self, images: F32, params: Sequence[Params], px: float) -> F32:
        """Blur (n, h, w, 3) float32, method by method."""
        out = np.empty_like(images)
        for name, at in self._methods(params):
            out[at] = self._parts[name].apply(images[at], [params[i] for i in at], px=px)
        return out

    def blur_torch(self, images: Tensor, params: Sequence[Params], px: float) -> Tensor:
        """Blur (n, 3, h, w) float32, method by method."""
        import torch

        out = torch.empty_like(images)
        for name, at in self._methods(params):
            rows = torch.from_numpy(at).to(images.device)
            out[rows] = self._parts[name].apply(images[rows], [params[i] for i in at], px=px)
        return out

    def _methods(self, params: Sequence[Params]) -> list[tuple[str, NDArray[np.int64]]]:
        groups = _groups([row["method"] for row in params])
        for name, _ in groups:
            if name not in self._parts:
                raise ShapeError(f"a row of this mix was made by {name!r}, which is not part of it")
        return groups


def _groups(names: Sequence[str]) -> list[tuple[str, NDArray[np.int64]]]:
    """Give each name with the positions that it stands at, in order."""
    return [
        (name, np.array([i for i, own in enumerate(names) if own == name], np.int64))
        for name in dict.fromkeys(names)
    ]


@hookimpl
def register_synthesizers(register: Register) -> None:
    """Register `random`."""
    register("random", Random)
