"""Applying a chain to crops of different sizes, on NumPy or on a torch device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blurgate.errors import ConfigError, EnvironmentLackError
from blurgate.host import get_host
from blurgate.training.blur import Iterated
from blurgate.training.degrade import Chain, Pair
from blurgate.types import CROP_SIZE

if TYPE_CHECKING:
    import torch

    from blurgate.training.interfaces import Params, Synthesizer
    from blurgate.types import U8


def make_chain(
    method: str,
    *,
    options: Mapping[str, Any] | None = None,
    iterative: int = 1,
    linear: bool = True,
    noise: bool = True,
    compression: bool = True,
    harsh: float = 0.0,
) -> Chain:
    """Make the chain of a registered synthesizer.

    Args:
        method: Its name or alias.
        options: What the synthesizer is made with; see its docstring.
        iterative: How many blurs are applied one after the other.
        linear: Blur light and not sRGB codes.
        noise: Add sensor noise.
        compression: Compress.
        harsh: Share of the pictures with the noise and compression of a poor camera.

    Raises:
        UnknownNameError: Nobody registered the name.
        ConfigError: An option is not possible.
    """
    synthesizer: Synthesizer = get_host().registry("synthesizer")[method].make(**(options or {}))
    if iterative != 1:
        synthesizer = Iterated(synthesizer, iterative)
    return Chain(synthesizer, linear=linear, noise=noise, compression=compression, harsh=harsh)


def apply_sizes(
    chain: Chain,
    crops: Sequence[U8],
    params: Sequence[Params],
    device: torch.device | None = None,
) -> Pair:
    """Make the pictures of crops whose sizes may differ.

    Args:
        chain: What happens to them.
        crops: n arrays (s, s, 3) uint8 BGR, each s its own.
        params: n rows of parameters, in the order of the crops.
        device: Where torch does the work; None: on NumPy, the reference.

    Returns:
        NumPy (n, 112, 112, 3) pictures in the order of the crops.
    """
    pair = Pair(*(np.empty((len(crops), CROP_SIZE, CROP_SIZE, 3), np.uint8) for _ in "cd"))
    for at in same_side([len(crop) for crop in crops]):
        batch = np.stack([crops[i] for i in at])
        rows = [params[i] for i in at]
        made = chain.apply(batch, rows) if device is None else _on(device, chain, batch, rows)
        pair.clean[at], pair.degraded[at] = made.clean, made.degraded
    return pair


def _on(device: torch.device, chain: Chain, crops: U8, params: Sequence[Params]) -> Pair:
    made = chain.apply(to_tensor(crops, device), params)
    return Pair(to_numpy(made.clean), to_numpy(made.degraded))


def to_tensor(crops: U8, device: torch.device) -> torch.Tensor:
    """Bring (n, s, s, 3) to a device as (n, 3, s, s)."""
    import torch

    return torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).contiguous()


def to_numpy(pictures: torch.Tensor) -> U8:
    """Bring (n, 3, s, s) back as (n, s, s, 3)."""
    return pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def same_side(sides: Sequence[int]) -> list[list[int]]:
    """Group the positions of equal sides, in order.

    >>> same_side([112, 224, 112])
    [[0, 2], [1]]
    """
    groups: dict[int, list[int]] = {}
    for i, side in enumerate(sides):
        groups.setdefault(side, []).append(i)
    return list(groups.values())


def torch_device(name: str) -> torch.device:
    """Give the torch device of a name: cpu, cuda or cuda:N.

    Raises:
        EnvironmentLackError: torch is not installed, or it sees no such GPU.
        ConfigError: The name is no device.
    """
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ConfigError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N")
    try:
        import torch
    except ModuleNotFoundError as error:
        raise EnvironmentLackError(
            "blurring on a device needs torch, which is not installed; run: pip install "
            '"blurgate[train]", or use --device cpu'
        ) from error
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise EnvironmentLackError(
            f"{name} was asked for, and torch sees {torch.cuda.device_count()} GPUs; "
            "use --device cpu"
        )
    return torch.device(name)
