"""The few array operations that NumPy and torch spell differently.

Kernel maths is written once, on float64 arrays, against an `Arrays` object: `on_numpy()` for the
reference, `on_torch(device)` for the batched backend. Whatever both libraries spell alike is taken
from `xp`, the library itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

Array: TypeAlias = Any
"""A NumPy array or a torch tensor, the same kind throughout one call."""

_STEP = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


class Arrays(Protocol):
    """One array library on one device."""

    @property
    def xp(self) -> Any:
        """The library: `numpy` or `torch`."""
        ...

    @property
    def on_gpu(self) -> bool:
        """Whether the arrays are not in the CPU's memory."""
        ...

    @property
    def block(self) -> int:
        """Rows to work on at once where a row has thousands of values: few on a CPU."""
        ...

    def floats(self, values: Sequence[Any] | NDArray[Any], /) -> Array:
        """Make a float64 array."""
        ...

    def whole(self, values: Array, /) -> Array:
        """Convert to int64."""
        ...

    def single(self, values: Array, /) -> Array:
        """Convert to float32."""
        ...

    def contiguous(self, values: Array, /) -> Array:
        """Lay an array out in memory in the order of its axes."""
        ...

    def sort(self, values: Array, /) -> Array:
        """Sort along the last axis."""
        ...

    def erf(self, values: Array, /) -> Array:
        """Give the error function of each value."""
        ...

    def total(self, size: int, index: Array, values: Array, /) -> Array:
        """Add float64 values up by index: (size,) sums."""
        ...

    def bits(self, keys: NDArray[np.uint64], numbers: NDArray[np.uint64], /) -> tuple[Array, Array]:
        """Give pseudo-random 24-bit integers: splitmix64, from each key the numbers-th values.

        Args:
            keys: uint64; each starts a stream of its own.
            numbers: uint64 from 1, of a shape that broadcasts with that of the keys.

        Returns:
            Two arrays of integers in [0, 2**24), equal in both libraries.
        """
        ...


class _OnNumpy:
    xp = np
    on_gpu = False
    block = 16

    def floats(self, values: Sequence[Any] | NDArray[Any]) -> Array:
        return np.asarray(values, np.float64)

    def whole(self, values: Array) -> Array:
        return values.astype(np.int64)

    def single(self, values: Array) -> Array:
        return values.astype(np.float32)

    def contiguous(self, values: Array) -> Array:
        return np.ascontiguousarray(values)

    def sort(self, values: Array) -> Array:
        return np.sort(values, axis=-1)

    def erf(self, values: Array) -> Array:
        return np.array([math.erf(v) for v in values.ravel().tolist()]).reshape(values.shape)

    def total(self, size: int, index: Array, values: Array) -> Array:
        return np.bincount(index.ravel(), values.ravel(), size)

    def bits(self, keys: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> tuple[Array, Array]:
        mixed = mix(keys + np.uint64(_STEP) * numbers)
        return mixed >> np.uint64(40), mixed & np.uint64(0xFFFFFF)


class _OnTorch:
    def __init__(self, device: torch.device) -> None:
        import torch

        self.xp = torch
        self.on_gpu = device.type != "cpu"
        self.block = 1 << 16 if self.on_gpu else 16
        self._device = device

    def floats(self, values: Sequence[Any] | NDArray[Any]) -> Array:
        return self.xp.as_tensor(values, dtype=self.xp.float64, device=self._device)

    def whole(self, values: Array) -> Array:
        return values.to(self.xp.int64)

    def single(self, values: Array) -> Array:
        return values.to(self.xp.float32)

    def contiguous(self, values: Array) -> Array:
        return values.contiguous()

    def sort(self, values: Array) -> Array:
        return values.sort(dim=-1).values

    def erf(self, values: Array) -> Array:
        return self.xp.erf(values)

    def total(self, size: int, index: Array, values: Array) -> Array:
        sums = self.xp.zeros(size, dtype=self.xp.float64, device=self._device)
        return sums.scatter_add_(0, index.reshape(-1), values.reshape(-1))

    def bits(self, keys: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> tuple[Array, Array]:
        # torch has no full set of uint64 operations; int64 has the same bits, wraps likewise and
        # needs only the sign bits masked away after each shift.
        first, number = (
            self.xp.as_tensor(values.view(np.int64), device=self._device)
            for values in (keys, numbers)
        )
        mixed = first + number * _signed(_STEP)
        for shift, factor in _MIX:
            mixed = (mixed ^ ((mixed >> shift) & ((1 << (64 - shift)) - 1))) * _signed(factor)
        return (mixed >> 40) & 0xFFFFFF, mixed & 0xFFFFFF


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble (n, ...) uint64 values: the finaliser of splitmix64, a bijection."""
    for shift, factor in _MIX:
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


@cache
def on_numpy() -> Arrays:
    """Give the operations on NumPy arrays."""
    return _OnNumpy()


@cache
def on_torch(device: torch.device) -> Arrays:
    """Give the operations on torch tensors of a device."""
    return _OnTorch(device)


def normals(arrays: Arrays, keys: NDArray[np.uint64], count: int) -> Array:
    """Draw standard normal numbers, the same ones on NumPy and torch to float32 rounding.

    Args:
        arrays: Where to draw them.
        keys: (n,) uint64; a row depends on its own key only.
        count: Numbers per row.

    Returns:
        (n, count) float32.
    """
    if len(keys) > arrays.block:
        parts = [keys[at : at + arrays.block] for at in range(0, len(keys), arrays.block)]
        return arrays.xp.concatenate([normals(arrays, part, count) for part in parts])
    numbers = np.arange(1, (count + 1) // 2 + 1, dtype=np.uint64)[None, :]
    return arrays.xp.concatenate(normal_pairs(arrays, keys[:, None], numbers), 1)[:, :count]


def normal_pairs(
    arrays: Arrays, keys: NDArray[np.uint64], numbers: NDArray[np.uint64]
) -> tuple[Array, Array]:
    """Draw pairs of independent standard normal numbers (Box-Muller on 24-bit uniforms).

    Args:
        arrays: Where to draw them.
        keys: uint64, one per stream.
        numbers: uint64 from 1: which pairs of the streams; broadcasts with the keys.

    Returns:
        Two float32 arrays of the broadcast shape, no number beyond 5.9.
    """
    xp = arrays.xp
    first, second = arrays.bits(keys, numbers)
    radius = xp.sqrt(-2 * xp.log((arrays.single(first) + 0.5) * 2.0**-24))
    angle = arrays.single(second) * (2 * math.pi * 2.0**-24)
    return radius * xp.cos(angle), radius * xp.sin(angle)
