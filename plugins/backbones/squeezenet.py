"""SqueezeNet 1.1: Iandola et al., "AlexNet-level accuracy with 50x fewer parameters" (2016).

Layer for layer torchvision's `squeezenet1_1` up to its classifier. That classifier is a 1x1
convolution, a ReLU and an average; the linear head that stands in its place averages first, which
is the same but for the ReLU. With one output, that ReLU would learn nothing wherever it gives 0.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

STAGES: Final = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)
"""Per stage, per fire module: channels after squeezing, channels of each of the two expansions."""


class Fire(nn.Module):
    """Squeeze (1x1), then expand with 1x1 and 3x3 filters side by side."""

    def __init__(self, *, channels_in: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels_in, squeezed, 1)
        self.expand1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) -> (n, 2 * expanded, h, w)."""
        x = self.act(self.squeeze(x))
        return torch.cat((self.act(self.expand1(x)), self.act(self.expand3(x))), 1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 without its classifier: 723,009 parameters with one output.

    Weights start uniform with variance 2 / fan-in (He et al., 2015), biases at zero: there is no
    batch norm, so it is the size of the activations that has to be kept.

    Shape:
        (n, 3, h, w) float32 -> (n, 512), averaged over the picture.
    """

    out_features = 512

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(inplace=True)]
        channels_in = 64
        for stage in STAGES:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            for squeezed, expanded in stage:
                layers.append(Fire(channels_in=channels_in, squeezed=squeezed, expanded=expanded))
                channels_in = 2 * expanded
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Give the features."""
        features: Tensor = self.layers(images)
        return features.mean((2, 3))
