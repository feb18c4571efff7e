"""Training for 8 bits: the network learns with its activations rounded as its 8-bit twin's will be.

Rounding happens forwards only, gradients pass it as if it were not there (the straight-through
estimator; Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference"). Weights are not rounded: per channel and with seven bits that
costs a twin a small part of what its activations cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["rounded", "rounded_activations"]

STEPS: Final = 255
_PLACES: Final = (_BatchNorm, nn.SiLU, nn.Hardswish, nn.GELU)
"""Modules whose output is rounded: convolutions, which batch normalisation closes, and activations
that leave the grid on which their input lies. ReLUs stay on it."""
_FUSED: Final = (nn.ReLU, nn.ReLU6)
"""Activations that are one with the convolution before them, so that only what they give is
rounded, in steps that cover no negative numbers."""


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        whole = values.float()  # bfloat16 has no more steps than these, and they would add up
        low, high = torch.aminmax(whole)
        step = ((high - low) / STEPS).clamp(min=torch.finfo(torch.float32).tiny)
        return ((whole - low) / step).round_().mul_(step).add_(low).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


def rounded(values: Tensor) -> Tensor:
    """Round to 256 even steps from the least to the largest value; gradients pass unchanged.

    Args:
        values: Float of any shape, not empty.
    """
    return cast(Tensor, _Rounded.apply(values))  # type: ignore[no-untyped-call]


@contextmanager
def rounded_activations(model: nn.Module) -> Iterator[None]:
    """Let a network's modules round what they give, while the network is in training mode.

    Validation, in eval mode, sees the network as it is.
    """

    def close(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return rounded(output) if model.training else None

    fused: dict[nn.Module, nn.Module] = {
        norm: activation
        for parent in model.modules()
        if isinstance(parent, nn.Sequential)
        for norm, activation in pairwise(parent)
        if isinstance(norm, _BatchNorm) and isinstance(activation, _FUSED)
    }
    hooks = [
        fused.get(module, module).register_forward_hook(close)
        for module in model.modules()
        if isinstance(module, _PLACES)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
