"""A backbone of one's own, in one file: `blurgate train --plugin plain-cnn` after pip install."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blurgate import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from blurgate.interfaces import Register


def plain_cnn(*, width: int = 16) -> nn.Module:
    """Make four strided convolutions and the mean over the picture.

    torch is imported when somebody chooses this backbone; `blurgate --help` stays fast.
    """
    from torch import nn

    layers: list[nn.Module] = []
    channels = 3
    for factor in (1, 2, 4, 8):
        layers += [
            nn.Conv2d(channels, factor * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(factor * width),
            nn.ReLU(),
        ]
        channels = factor * width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.out_features = channels  # how many features the head gets
    return network


@hookimpl
def register_backbones(register: Register) -> None:
    """Called by blurgate; the factory runs only when the name is chosen."""
    register("plain-cnn", plain_cnn)
