"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, 2019) without squeeze-excitation, with ReLU6.

Google's variant for small devices, made of MobileNetV2's blocks. Layer for layer timm's
`efficientnet_lite0` (symmetric padding, batch-norm epsilon 1e-5), without the classifier and
without drop-path, which timm's default leaves out too.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from blurgate.plugins.backbones.initial import he_initialise
from blurgate.plugins.backbones.mobilenetv2 import Block, convolution

STEM_CHANNELS: Final = 32
STAGES: Final = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
"""Expansion, kernel, channels, blocks, stride of the first block."""


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 without its classifier: 3,372,289 parameters with one output.

    Shape:
        (n, 3, h, w) float32 -> (n, 1280), averaged over the picture.
    """

    out_features = 1280

    def __init__(self) -> None:
        super().__init__()
        channels_in = STEM_CHANNELS
        layers = convolution(3, channels_in, 3, stride=2)
        for expansion, kernel, channels, depth, first_stride in STAGES:
            for index in range(depth):
                layers.append(
                    Block(
                        channels_in=channels_in,
                        channels=channels,
                        expansion=expansion,
                        kernel=kernel,
                        stride=first_stride if index == 0 else 1,
                    )
                )
                channels_in = channels
        layers += convolution(channels_in, self.out_features, 1)
        self.layers = nn.Sequential(*layers)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Give the features."""
        features: Tensor = self.layers(images)
        return features.mean((2, 3))
