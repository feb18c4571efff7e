"""Losses of a regression head: the one output against the degree, averaged over the batch.

They are taken of the raw output, not of the degree cut off at 0 and 1, so that an output outside of
the range is still pulled back.

Shape:
    output (n, 1), target_degree (n,) -> scalar float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F  # noqa: N812 - the name torch's own documentation uses
from torch import Tensor

from blurgate.errors import ConfigError
from blurgate.training.heads import HeadKind, checked_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class MSE:
    """The squared error."""

    head: ClassVar[HeadKind] = "regression"

    def __call__(self, output: Tensor, target_degree: Tensor) -> Tensor:
        """Give mean((output - target)**2).

        Raises:
            ShapeError: A shape or value cannot be right.
        """
        output, target = checked_batch(output, target_degree, self.head)
        return F.mse_loss(output[:, 0], target)


@dataclass(frozen=True, slots=True, kw_only=True)
class L1:
    """The absolute error."""

    head: ClassVar[HeadKind] = "regression"

    def __call__(self, output: Tensor, target_degree: Tensor) -> Tensor:
        """Give mean(|output - target|).

        Raises:
            ShapeError: A shape or value cannot be right.
        """
        output, target = checked_batch(output, target_degree, self.head)
        return F.l1_loss(output[:, 0], target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Huber:
    """Half the squared error up to `delta`, linear beyond."""

    head: ClassVar[HeadKind] = "regression"

    delta: float = 0.1
    """Where it turns linear. At 1, torch's own default, it is half the MSE: no error reaches it."""

    def __post_init__(self) -> None:
        """Check the range of `delta`."""
        if not self.delta > 0:
            raise ConfigError(f"huber: delta must be above 0, got {self.delta}")

    def __call__(self, output: Tensor, target_degree: Tensor) -> Tensor:
        """Give the mean of e**2 / 2 up to e = |output - target| = delta, delta * (e - delta/2) on.

        Raises:
            ShapeError: A shape or value cannot be right.
        """
        output, target = checked_batch(output, target_degree, self.head)
        return F.huber_loss(output[:, 0], target, delta=self.delta)
