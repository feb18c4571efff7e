"""The backbone of YOLOv5 v6.0, nano size, written from its published layer table.

A stem and four stages of a strided convolution and a C3 block (a cross-stage partial block: Wang et
al., "CSPNet", 2019), closed by SPPF, which pools three times in a row in place of the pyramid of He
et al. (2014). The features are flattened and not averaged, so the side of the picture is fixed.
`yolov5n_x` is the stock backbone; `yolov5n_xx` has half the channels in its last stage, and
`yolov5n_xx_relu` besides ReLU instead of SiLU in its first layers, whose outputs are largest: in
8 bits onnxruntime runs a convolution and its ReLU as one, and a SiLU as two passes of its own.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from blurgate.plugins.backbones.initial import he_initialise

STEM_CHANNELS: Final = 16
STAGES: Final = ((32, 1), (64, 2), (128, 3))
"""Channels and bottlenecks of all stages but the last, at nano size (0.25 wide, 0.33 deep)."""
SPPF_KERNEL: Final = 5
RELU_LAYERS: Final = 5
"""The stem and two stages, from 56 to 14 pixels wide."""


class Convolution(nn.Sequential):
    """A convolution with batch norm and SiLU; `kernel // 2` of padding unless told otherwise."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        padding: int | None = None,
    ) -> None:
        pad = kernel // 2 if padding is None else padding
        super().__init__(
            nn.Conv2d(channels_in, channels, kernel, stride, pad, bias=False),
            nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03),
            nn.SiLU(inplace=True),
        )


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolution beside a shortcut."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Convolution(channels, channels), Convolution(channels, channels, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, channels, h, w)."""
        inner: Tensor = self.layers(x)
        return x + inner


class C3(nn.Module):
    """Half of the channels go through the bottlenecks and half around them."""

    def __init__(self, *, channels: int, depth: int) -> None:
        super().__init__()
        half = channels // 2
        self.through = Convolution(channels, half)
        self.around = Convolution(channels, half)
        self.join = Convolution(channels, channels)
        self.bottlenecks = nn.Sequential(*(Bottleneck(channels=half) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, channels, h, w)."""
        both = torch.cat((self.bottlenecks(self.through(x)), self.around(x)), 1)
        out: Tensor = self.join(both)
        return out


class SPPF(nn.Module):
    """The features beside themselves pooled once, twice and three times."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.narrow = Convolution(channels, channels // 2)
        self.join = Convolution(channels * 2, channels)
        self.pool = nn.MaxPool2d(SPPF_KERNEL, 1, padding=SPPF_KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, channels, h, w)."""
        levels: list[Tensor] = [self.narrow(x)]
        for _ in range(3):
            levels.append(self.pool(levels[-1]))
        out: Tensor = self.join(torch.cat(levels, 1))
        return out


class YOLOv5n(nn.Module):
    """The YOLOv5n backbone with flattened features.

    Args:
        last_channels: Channels of the last stage.

    Shape:
        (n, 3, 112, 112) float32 -> (n, out_features).
    """

    def __init__(self, *, last_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [Convolution(3, STEM_CHANNELS, 6, stride=2, padding=2)]
        channels_in = STEM_CHANNELS
        for channels, depth in (*STAGES, (last_channels, 1)):
            layers.append(Convolution(channels_in, channels, 3, stride=2))
            layers.append(C3(channels=channels, depth=depth))
            channels_in = channels
        self.layers = nn.Sequential(*layers, SPPF(channels=last_channels))
        self.out_features = last_channels * 4 * 4  # 112 px, halved five times and rounded up
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Give the features."""
        features: Tensor = self.layers(images)
        return features.flatten(1)


def yolov5n_x() -> YOLOv5n:
    """Make the stock YOLOv5n backbone."""
    return YOLOv5n(last_channels=256)


def yolov5n_xx() -> YOLOv5n:
    """Make the YOLOv5n backbone with half the channels in its last stage."""
    return YOLOv5n(last_channels=128)


def yolov5n_xx_relu() -> YOLOv5n:
    """Make `yolov5n_xx` with ReLU in its first layers; the same weights fit."""
    network = yolov5n_xx()
    for module in network.layers[:RELU_LAYERS].modules():
        if isinstance(module, Convolution):
            module[-1] = nn.ReLU(inplace=True)
    return network
