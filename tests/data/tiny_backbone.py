"""A plugin for tests: the backbone `tiny`, which has all kinds of state and trains in moments."""

from __future__ import annotations

import torch
from torch import nn

from blurgate.hookspecs import hookimpl


class Tiny(nn.Module):
    """Convolutions with batch norm, and dropout, which draws from torch's own generator."""

    def __init__(self, *, features=16):
        super().__init__()
        self.out_features = features
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 4, 4, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, features, 4, 4),
            nn.ReLU(),
            nn.Dropout(0.1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images).mean((2, 3))


@hookimpl
def register_backbones(register):
    """Register `tiny`."""
    register("tiny", Tiny, aliases=("tiniest",))
