"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, 2019) without squeeze-excitation, with ReLU6.

Google's variant for small devices, made of MobileNetV2's blocks. Layer for layer timm's
`efficientnet_lite0` (symmetric padding, batch-norm epsilon 1e-5), without the classifier and
without drop-path, which timm's default leaves out too.
"""

from __future__ import annotations

from typing import Final

from blurgate.plugins.backbones.mobilenetv2 import Blocks

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


def efficientnet_lite0() -> Blocks:
    """Make EfficientNet-Lite0: 3,372,289 parameters with one output."""
    return Blocks(stem=32, stages=STAGES, out_features=1280)
