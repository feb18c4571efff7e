"""Losses of a bins head, averaged over the batch.

A target counts as its bin alone ("hard"), as in the original system: 0.31 and 0.34 are the same of
20 bins. Only the errors on the degree itself see where in its bin a target lies.

Shape:
    output (n, bins) logits, target_degree (n,) -> scalar float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F  # noqa: N812 - the name torch's own documentation uses
from torch import Tensor

from blurgate.errors import ConfigError
from blurgate.training.heads import (
    HeadKind,
    bin_centres,
    bin_index,
    checked_batch,
    expected_degree,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy:
    """Cross-entropy with the target's bin."""

    head: ClassVar[HeadKind] = "bins"

    def __call__(self, output: Tensor, target_degree: Tensor) -> Tensor:
        """Give mean(-log softmax(output)[bin of the target]).

        Raises:
            ShapeError: A shape or value cannot be right.
        """
        output, target = checked_batch(output, target_degree, self.head)
        return F.cross_entropy(output, bin_index(target, output.shape[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class CMSE:
    """Cross-entropy with the target's bin, plus the squared error of the expected degree."""

    head: ClassVar[HeadKind] = "bins"

    ce_weight: float = 1.0
    mse_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the range of the weights."""
        weights = (self.ce_weight, self.mse_weight)
        if not (min(weights) >= 0 and max(weights) > 0):
            raise ConfigError(
                "cmse: weights must be at least 0 and not both 0, "
                f"got ce_weight={self.ce_weight}, mse_weight={self.mse_weight}"
            )

    def __call__(self, output: Tensor, target_degree: Tensor) -> Tensor:
        """Give ce_weight * cross-entropy + mse_weight * mean((expected degree - target)**2).

        Raises:
            ShapeError: A shape or value cannot be right.
        """
        output, target = checked_batch(output, target_degree, self.head)
        crossentropy = F.cross_entropy(output, bin_index(target, output.shape[1]))
        squared = F.mse_loss(expected_degree(output), target)
        return self.ce_weight * crossentropy + self.mse_weight * squared


@dataclass(frozen=True, slots=True, kw_only=True)
class WMSE:
    """The squared error of every bin centre, weighted with the bin's softmax probability.

    It is the squared error of the expected degree plus the variance of the bins, so it also asks
    for a narrow distribution. (The original weighted with sigmoids, which need not sum to 1.)
    """

    head: ClassVar[HeadKind] = "bins"

    def __call__(self, output: Tensor, target_degree: Tensor) -> Tensor:
        """Give the mean over the batch of sum(softmax(output) * (centre - target)**2).

        Raises:
            ShapeError: A shape or value cannot be right.
        """
        output, target = checked_batch(output, target_degree, self.head)
        centres = bin_centres(output.shape[1], device=output.device)
        return (output.softmax(1) * (centres - target[:, None]) ** 2).sum(1).mean()
