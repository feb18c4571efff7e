"""MobileNetV2: Sandler et al., "Inverted Residuals and Linear Bottlenecks" (2018).

Layer for layer torchvision's `mobilenet_v2` at widths 0.25 and 0.5, without the classifier.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torch import Tensor, nn

from blurgate.plugins.backbones.initial import he_initialise

STAGES: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels at width 1, blocks, stride of the first block."""
LAST_CHANNELS: Final = 1280


def multiple_of_8(channels: float) -> int:
    """Round to the nearest multiple of 8, at least 8 and never more than a tenth downwards.

    >>> [multiple_of_8(c) for c in (4, 12, 80, 11.9)]
    [8, 16, 80, 16]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def convolution(
    channels_in: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Give a convolution with batch norm and ReLU6."""
    return [
        nn.Conv2d(
            channels_in, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(channels),
        nn.ReLU6(inplace=True),
    ]


class Block(nn.Module):
    """Widen (1x1), filter each channel, narrow (1x1, linear); a shortcut where shapes agree."""

    def __init__(
        self, *, channels_in: int, channels: int, expansion: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        wide = channels_in * expansion
        widen = convolution(channels_in, wide, 1) if expansion != 1 else []
        self.layers = nn.Sequential(
            *widen,
            *convolution(wide, wide, kernel, stride=stride, groups=wide),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) -> (n, channels, h / stride, w / stride), rounded up."""
        out: Tensor = self.layers(x)
        return x + out if self.shortcut else out


class Blocks(nn.Module):
    """A network of such blocks without its classifier.

    Args:
        stem: Channels of the first convolution.
        stages: Expansion, kernel, channels, blocks, stride of the first block.
        out_features: Channels of the last convolution.

    Shape:
        (n, 3, h, w) float32 -> (n, out_features), averaged over the picture.
    """

    def __init__(
        self, *, stem: int, stages: Iterable[tuple[int, int, int, int, int]], out_features: int
    ) -> None:
        super().__init__()
        self.out_features = out_features
        channels_in = stem
        layers = convolution(3, stem, 3, stride=2)
        for expansion, kernel, channels, depth, first_stride in stages:
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
        layers += convolution(channels_in, out_features, 1)
        self.layers = nn.Sequential(*layers)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Give the features."""
        features: Tensor = self.layers(images)
        return features.mean((2, 3))


def _at_width(width: float) -> Blocks:
    """Make MobileNetV2 with fewer channels, but for the last layer's, which stay."""
    return Blocks(
        stem=multiple_of_8(32 * width),
        stages=[(t, 3, multiple_of_8(c * width), n, s) for t, c, n, s in STAGES],
        out_features=LAST_CHANNELS,
    )


def mobilenetv2_025() -> Blocks:
    """Make MobileNetV2 at width 0.25: 239,393 parameters with one output."""
    return _at_width(0.25)


def mobilenetv2_05() -> Blocks:
    """Make MobileNetV2 at width 0.5: 688,961 parameters with one output."""
    return _at_width(0.5)
