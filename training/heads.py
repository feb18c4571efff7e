"""Heads: features -> raw output -> blur degree.

What is trained on is the raw output (n, outputs); what is exported is the degree (n,) in [0, 1].

    regression   one linear output; the degree is the output, cut off at 0 and 1
    complex      the same behind hidden layers ("complex regressor")
    bins20, 40   logits of equal bins of [0, 1]; the degree is the expectation over the bin centres

Linear layers start as normal weights of deviation 0.01 and zero biases, as the classifiers of
MobileNetV2 and SqueezeNet do; hidden ones by He et al. (2015). A regression output starts at 0.5,
the middle of its range. There is no dropout: it shifts the scale that a regression has to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

from blurgate.errors import ShapeError, UnknownNameError

__all__ = [
    "HEADS",
    "BinsHead",
    "Head",
    "HeadKind",
    "RegressionHead",
    "bin_centres",
    "bin_index",
    "checked_batch",
    "expected_degree",
    "make_head",
]

HeadKind: TypeAlias = Literal["regression", "bins"]
"""What a loss can be taken of."""

COMPLEX_HIDDEN: Final = (100,)
"""Hidden widths of the "complex regressor". The ResNet files of the original's table are about
0.2 MB larger than the network with one linear output; one hidden layer of 100 accounts for that."""


def bin_centres(bins: int, *, device: torch.device | None = None) -> Tensor:
    """Give the centres of equal bins of [0, 1], made on the device: a copy would wait for it.

    >>> bin_centres(4).tolist()
    [0.125, 0.375, 0.625, 0.875]
    """
    return (torch.arange(bins, device=device) + 0.5) / bins


def bin_index(degree: Tensor, bins: int) -> Tensor:
    """Give the bin that each degree lies in; a border belongs to the upper bin, 1 to the last.

    >>> bin_index(torch.tensor([0.0, 0.25, 0.9, 1.0]), 4).tolist()
    [0, 1, 3, 3]
    """
    return (degree * bins).long().clamp(0, bins - 1)


def expected_degree(logits: Tensor) -> Tensor:
    """Give the expectation of the bin centres under the softmax of the logits.

    Shape:
        (n, bins) float -> (n,) float32 in [0.5 / bins, 1 - 0.5 / bins].

    >>> expected_degree(torch.zeros(1, 20)).tolist()
    [0.5]
    """
    centres = bin_centres(logits.shape[1], device=logits.device)
    return (logits.float().softmax(1) * centres).sum(1)


def checked_batch(output: Tensor, target: Tensor, kind: HeadKind) -> tuple[Tensor, Tensor]:
    """Check what a loss was given, and give it in float32.

    Values are looked at where that is free: on the CPU. On a GPU it would make every step wait for
    the device; there the labels have to be checked where they are made, and the loss when logged.

    Args:
        output: (n, 1) for regression, (n, bins) for bins: a head's raw output.
        target: (n,) true degrees in [0, 1].
        kind: The head that the loss needs.

    Raises:
        ShapeError: A shape is wrong, the batch is empty, or a value is not finite or not in range.
    """
    fits = output.ndim == 2 and (output.shape[1] == 1) == (kind == "regression")
    if not fits or len(output) == 0:
        wanted = (
            "(n, 1) of a regression head" if kind == "regression" else "(n, bins) of a bins head"
        )
        raise ShapeError(f"this loss needs an output {wanted}, n >= 1; got {tuple(output.shape)}")
    if target.shape != output.shape[:1] or not target.is_floating_point():
        raise ShapeError(
            f"targets must be float of shape ({len(output)},), one degree per output; "
            f"got {target.dtype} of {tuple(target.shape)}"
        )
    output, target = output.float(), target.float()
    if target.device.type == "cpu" and not bool(((target >= 0) & (target <= 1)).all()):
        raise ShapeError(f"target degrees must lie in [0, 1]; got {target.min()} to {target.max()}")
    if output.device.type == "cpu" and not bool(output.isfinite().all()):
        raise ShapeError("the network's output is not finite: lower the learning rate")
    return output, target


def _layers(in_features: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        linear = nn.Linear(in_features, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU(inplace=True)]
        in_features = width
    last = nn.Linear(in_features, outputs)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class RegressionHead(nn.Module):
    """Linear layers to one output.

    Args:
        in_features: Number of features.
        hidden: Widths of hidden layers, each followed by a ReLU.

    Shape:
        (n, in_features) -> (n, 1), unbounded.
    """

    kind: Final[HeadKind] = "regression"
    outputs: Final = 1

    def __init__(self, *, in_features: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.layers = _layers(in_features, hidden, self.outputs)
        nn.init.constant_(self.layers[-1].bias, 0.5)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Give the raw output."""
        output: Tensor = self.layers(features)
        return output

    def degree(self, output: Tensor) -> Tensor:
        """Cut the output off at 0 and 1; (n, 1) -> (n,) float32."""
        return output[:, 0].float().clamp(0, 1)


class BinsHead(nn.Module):
    """Linear layers to the logits of equal bins of [0, 1].

    Args:
        in_features: Number of features.
        bins: Number of bins.
        hidden: Widths of hidden layers, each followed by a ReLU.

    Shape:
        (n, in_features) -> (n, bins).
    """

    kind: Final[HeadKind] = "bins"

    def __init__(self, *, in_features: int, bins: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.outputs = bins
        self.layers = _layers(in_features, hidden, bins)

    def forward(self, features: Tensor) -> Tensor:
        """Give the raw output."""
        output: Tensor = self.layers(features)
        return output

    def degree(self, output: Tensor) -> Tensor:
        """Give the expectation over the bin centres; (n, bins) -> (n,) float32."""
        return expected_degree(output)


Head: TypeAlias = RegressionHead | BinsHead

HEADS: Final[Mapping[str, Callable[..., Head]]] = {
    "regression": RegressionHead,
    "complex": partial(RegressionHead, hidden=COMPLEX_HIDDEN),
    "bins20": partial(BinsHead, bins=20),
    "bins40": partial(BinsHead, bins=40),
}
"""Name -> factory with the keyword arguments `in_features` and, where it is not set, `hidden`."""


def make_head(name: str, *, in_features: int, hidden: Sequence[int] | None = None) -> Head:
    """Make a head.

    Args:
        name: One of `HEADS`.
        in_features: Number of features that the backbone gives.
        hidden: Widths of hidden layers instead of the head's own.

    Raises:
        UnknownNameError: There is no such head.
    """
    if name not in HEADS:
        raise UnknownNameError("head", name, HEADS)
    if hidden is None:
        return HEADS[name](in_features=in_features)
    return HEADS[name](in_features=in_features, hidden=hidden)
