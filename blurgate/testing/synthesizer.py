"""The contract of a synthesizer; see `blurgate.training.interfaces.Synthesizer`."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.errors import BlurgateError
from blurgate.host import get_host
from blurgate.testing import ContractError, common
from blurgate.training import colour
from blurgate.training.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blurgate.training.interfaces import Params
    from blurgate.types import F32

_N: Final = 12
_TORCH: Final = 1e-3


class Subject(common.FactorySubject):
    """A synthesizer to check: a registered name or a factory, and its keyword arguments."""

    kind = "synthesizer"
    packages = ()

    def drawn(self, n: int = _N) -> tuple[Any, list[Params]]:
        """Make it and draw parameters of rising severity."""
        synthesizer = self.make()
        severity = np.linspace(0, 1, n, dtype=np.float32)
        return synthesizer, synthesizer.sample(Streams(0, range(n)), severity)


def _light(n: int, side: int = 112) -> F32:
    """Draw pictures in linear light."""
    light: F32 = colour.to_linear(common.noisy_patches(n, side))
    return light


def _energy(images: F32) -> float:
    return float((np.diff(images, axis=1) ** 2).mean() + (np.diff(images, axis=2) ** 2).mean())


def rows_name_their_method_and_survive_json(subject: Subject) -> None:
    """One row per image, with `method`, of values that JSON gives back exactly."""
    synthesizer = subject.make()
    common.require(
        isinstance(getattr(synthesizer, "name", None), str), "`name` must be the registered name"
    )
    if isinstance(subject.plugin, str):
        common.require(
            synthesizer.name == subject.plugin,
            f"`name` is {synthesizer.name!r}, and it is registered as {subject.plugin!r}",
        )
    known = get_host().registry("synthesizer")  # a mix has rows of others
    rows = synthesizer.sample(Streams(0, range(_N)))
    common.require(
        isinstance(rows, list) and len(rows) == _N, f"{_N} streams must give a list of {_N} rows"
    )
    for row in rows:
        common.require(isinstance(row.get("method"), str), f"a row has no `method`: {row}")
        common.require(
            row["method"] == synthesizer.name or row["method"] in known,
            f"`method` must be the synthesizer's name, {synthesizer.name!r}, got {row['method']!r}",
        )
        try:
            back = json.loads(json.dumps(row, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ContractError(f"a row cannot be JSON, {error}: {row}") from error
        common.require(back == row, f"a row is another after JSON: {row} and {back}")


def keeps_shape_dtype_and_range(subject: Subject) -> None:
    """What came in, blurred: float32 in [0, 1] and uint8; the input stays as it is."""
    synthesizer, params = subject.drawn()
    for images in (_light(_N, 64), common.noisy_patches(_N, 64)):
        before = images.copy()
        got = synthesizer.apply(images, params, px=64 / 112)
        common.check_array("blurred pictures", got, images.shape, str(images.dtype))
        if got.dtype == np.float32:
            common.require(
                got.min() >= 0 and got.max() <= 1,
                f"blurred pictures must lie in [0, 1], got {got.min():g} to {got.max():g}",
            )
        common.require(np.array_equal(images, before), "`apply` changed its input")


def takes_no_images(subject: Subject) -> None:
    """No images are ordinary: n = 0."""
    synthesizer = subject.make()
    common.require(synthesizer.sample(Streams(0, [])) == [], "no streams must give []")
    got = synthesizer.apply(np.empty((0, 112, 112, 3), np.uint8), [], px=1)
    common.check_array("no pictures", got, (0, 112, 112, 3), "uint8")


def severity_zero_is_no_blur(subject: Subject) -> None:
    """At severity 0 a picture comes out as it went in."""
    synthesizer, images = subject.make(), _light(_N)
    params = synthesizer.sample(Streams(0, range(_N)), np.zeros(_N, np.float32))
    got = synthesizer.apply(images, params, px=1)
    common.same("pictures before and after severity 0", got, images, 1e-4)


def more_severity_never_sharpens(subject: Subject) -> None:
    """Blur grows with severity: the mean gradient falls from 0 to 1."""
    synthesizer, images = subject.make(), _light(_N)
    energies = []
    for level in (0, 0.25, 0.5, 1):
        severity = np.full(_N, level, np.float32)
        params = synthesizer.sample(Streams(9, range(_N)), severity)
        energies.append(_energy(synthesizer.apply(images, params, px=1)))
    common.require(
        all(a > b for a, b in pairwise(energies)),
        f"blur must grow with severity; mean squared gradients at 0, 1/4, 1/2, 1: {energies}",
    )


def flat_pictures_stay_flat(subject: Subject) -> None:
    """No light is lost or drawn in from outside the borders."""
    synthesizer, params = subject.drawn()
    flat = np.full((_N, 64, 64, 3), 0.6, np.float32)
    got = synthesizer.apply(flat, params, px=64 / 112)
    common.same("a flat picture before and after", got, flat, 1e-3)


def an_image_does_not_depend_on_its_batch(subject: Subject) -> None:
    """An image's row and its blurred pixels are the same to the bit in any batch."""
    synthesizer, images = subject.make(), _light(_N, 64)
    whole = synthesizer.sample(Streams(4, range(_N)))
    wanted = synthesizer.apply(images, whole, px=0.5)
    for step in (1, 5):
        for at in range(0, _N, step):
            part = slice(at, at + step)
            index: Sequence[int] = range(_N)[part]
            rows = synthesizer.sample(Streams(4, index))
            common.require(rows == whole[part], f"rows of images {list(index)} depend on the batch")
            got = synthesizer.apply(images[part], rows, px=0.5)
            common.same(f"images {list(index)} alone and in a batch", got, wanted[part], 0)


def torch_agrees_with_numpy(subject: Subject) -> None:
    """Tensors (n, 3, h, w) come out as arrays (n, h, w, 3) do, within 1e-3."""
    common.need("torch")
    import torch

    synthesizer, params = subject.drawn()
    for side in (112, 150):
        images = _light(_N, side)
        wanted = synthesizer.apply(images, params, px=side / 112)
        tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        got = synthesizer.apply(tensor, params, px=side / 112)
        common.require(
            isinstance(got, torch.Tensor) and got.dtype == torch.float32,
            "a tensor must come out as a tensor of its dtype",
        )
        unchanged = np.array_equal(tensor.numpy().transpose(0, 2, 3, 1), images)
        common.require(unchanged, "`apply` changed its input, a tensor")
        common.same(
            f"torch and NumPy at {side} px", got.numpy().transpose(0, 2, 3, 1), wanted, _TORCH
        )


def refuses_what_does_not_fit(subject: Subject) -> None:
    """Other shapes, too few rows and severities outside [0, 1] raise a `BlurgateError`."""
    synthesizer, params = subject.drawn(2)
    with common.refused("grey pictures", BlurgateError):
        synthesizer.apply(np.zeros((2, 112, 112), np.uint8), params, px=1)
    with common.refused("two rows for one picture", BlurgateError):
        synthesizer.apply(np.zeros((1, 112, 112, 3), np.uint8), params, px=1)
    for severity in ([0.5], [0.5, 1.5]):
        with common.refused(f"severities {severity} for two streams", BlurgateError):
            synthesizer.sample(Streams(0, range(2)), np.array(severity, np.float32))


CHECKS: Final = (
    common.takes_keywords_only,
    rows_name_their_method_and_survive_json,
    keeps_shape_dtype_and_range,
    takes_no_images,
    severity_zero_is_no_blur,
    more_severity_never_sharpens,
    flat_pictures_stay_flat,
    an_image_does_not_depend_on_its_batch,
    torch_agrees_with_numpy,
    refuses_what_does_not_fit,
)
