"""ResNet-18 and ResNet-34: He et al., "Deep Residual Learning for Image Recognition" (2015).

Layer for layer torchvision's `resnet18` and `resnet34`, without the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from blurgate.plugins.backbones.initial import he_initialise


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, *, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) -> (n, channels, h / stride, w / stride), rounded up."""
        inner: Tensor = self.act(self.norm1(self.conv1(x)))
        out: Tensor = self.act(self.norm2(self.conv2(inner)) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """The ResNet of basic blocks.

    Args:
        depths: Blocks in each of the four stages.

    Shape:
        (n, 3, h, w) float32 -> (n, 512), averaged over the picture.
    """

    out_features = 512

    def __init__(self, *, depths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        )
        blocks: list[nn.Module] = []
        channels_in = 64
        for stage, depth in enumerate(depths):
            channels = 64 << stage
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(channels_in=channels_in, channels=channels, stride=stride))
                channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Give the features."""
        features: Tensor = self.blocks(self.stem(images))
        return features.mean((2, 3))


def resnet18() -> ResNet:
    """Make ResNet-18: 11,177,025 parameters with one output."""
    return ResNet(depths=(2, 2, 2, 2))


def resnet34() -> ResNet:
    """Make ResNet-34: 21,285,185 parameters with one output."""
    return ResNet(depths=(3, 4, 6, 3))
