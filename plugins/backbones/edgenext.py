"""EdgeNeXt-xx-small: Maaz et al., "EdgeNeXt: CNN-Transformer Architecture for Mobile" (2022).

Convolutional blocks, and at the end of the last three stages one block that attends over channels.
Layer for layer timm's `edgenext_xx_small`, without the classifier.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - the name torch's own documentation uses
from torch import Tensor, nn

EPS: Final = 1e-6
EXPANSION: Final = 4
HEADS: Final = 4
STAGES: Final = ((24, 2, 3, 0), (48, 2, 5, 2), (88, 6, 7, 3), (168, 2, 9, 4))
"""Channels, blocks, kernel, channel groups of the closing attention block (0: there is none)."""
POSITION_STAGE: Final = 1
"""The only stage whose attention is told where in the picture a pixel is."""
FREQUENCIES: Final = 32
TEMPERATURE: Final = 10000.0
LAYER_SCALE: Final = 1e-6
"""Starting factor of what a block adds to its shortcut."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of an (n, c, h, w) tensor."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel; the shape stays."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def mlp(channels: int) -> nn.Sequential:
    """Widen by `EXPANSION` and narrow again, along the last axis."""
    wide = EXPANSION * channels
    return nn.Sequential(nn.Linear(channels, wide), nn.GELU(), nn.Linear(wide, channels))


def depthwise(channels: int, kernel: int) -> nn.Conv2d:
    """Give a convolution that filters each channel by itself."""
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


class ConvolutionBlock(nn.Module):
    """Depthwise convolution, norm and MLP beside a shortcut."""

    def __init__(self, *, channels: int, kernel: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.filter = depthwise(channels, kernel)
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.mlp = mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, channels, h, w)."""
        inner: Tensor = self.mlp(self.norm(self.filter(x).permute(0, 2, 3, 1)))
        return x + (self.scale * inner).permute(0, 3, 1, 2)


class Position(nn.Module):
    """Sines and cosines of the row and the column, projected to the channels."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(2 * FREQUENCIES, channels, 1)

    def forward(self, height: int, width: int) -> Tensor:
        """Give the (1, channels, height, width) encoding."""
        weight = self.project.weight
        index = torch.arange(FREQUENCIES, device=weight.device)
        frequency = TEMPERATURE ** (2 * (index // 2).float() / FREQUENCIES)
        waves = []
        for length in (height, width):
            place = torch.arange(1, length + 1, device=weight.device).float()
            angle = (place / (length + EPS) * (2 * math.pi))[:, None] / frequency
            waves.append(torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1))
        rows = waves[0].T[:, :, None].expand(-1, -1, width)
        columns = waves[1].T[:, None, :].expand(-1, height, -1)
        encoding: Tensor = self.project(torch.cat((rows, columns))[None].to(weight.dtype))
        return encoding


class ChannelAttention(nn.Module):
    """Attention between channels (cross-covariance): its cost grows linearly with the pixels."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Attend; (n, pixels, channels) -> the same shape."""
        n, pixels, channels = x.shape
        qkv: Tensor = self.qkv(x)
        # -> q, k, v, each (n, heads, channels of a head, pixels)
        q, k, v = qkv.reshape(n, pixels, 3, HEADS, -1).permute(2, 0, 3, 4, 1).unbind(0)
        likeness = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        mixed = (likeness * self.temperature).softmax(-1) @ v
        out: Tensor = self.project(mixed.permute(0, 3, 1, 2).reshape(n, pixels, channels))
        return out


class AttentionBlock(nn.Module):
    """Filter groups of channels, each with the sum of those before it; attend; MLP."""

    def __init__(self, *, channels: int, groups: int, position: bool) -> None:
        super().__init__()
        self.attention_scale = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.scale = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.groups = groups
        # The last group, the only one that may be narrower, is passed on as it is.
        width = math.ceil(channels / groups)
        self.filters = nn.ModuleList(depthwise(width, 3) for _ in range(groups - 1))
        self.position = Position(channels=channels) if position else None
        self.attention_norm = nn.LayerNorm(channels, eps=EPS)
        self.attention = ChannelAttention(channels=channels)
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.mlp = mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, channels, h, w)."""
        height, width = x.shape[2:]
        parts = x.chunk(self.groups, 1)
        filtered: list[Tensor] = []
        for part, filter_ in zip(parts, self.filters, strict=False):
            filtered.append(filter_(filtered[-1] + part if filtered else part))
        tokens = torch.cat((*filtered, parts[-1]), 1).flatten(2).transpose(1, 2)
        if self.position is not None:
            tokens = tokens + self.position(height, width).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention_scale * self.attention(self.attention_norm(tokens))
        inner: Tensor = self.mlp(self.norm(tokens))
        return x + (self.scale * inner).transpose(1, 2).reshape(-1, x.shape[1], height, width)


class EdgeNeXt(nn.Module):
    """EdgeNeXt-xx-small without its classifier: 1,158,385 parameters with one output.

    Weights start truncated normal with deviation 0.02, biases at zero, and every block begins close
    to the identity (layer scale: Touvron et al., 2021), as the paper does.

    Shape:
        (n, 3, h, w) float32 -> (n, 168), averaged over the picture and normalised.
    """

    out_features = STAGES[-1][0]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = 3
        for stage, (channels, depth, kernel, groups) in enumerate(STAGES):
            if stage == 0:
                layers += [nn.Conv2d(channels_in, channels, 4, 4), ChannelNorm(channels, eps=EPS)]
            else:
                layers += [
                    ChannelNorm(channels_in, eps=EPS),
                    nn.Conv2d(channels_in, channels, 2, 2),
                ]
            for _ in range(depth - 1 if groups else depth):
                layers.append(ConvolutionBlock(channels=channels, kernel=kernel))
            if groups:
                layers.append(
                    AttentionBlock(
                        channels=channels, groups=groups, position=stage == POSITION_STAGE
                    )
                )
            channels_in = channels
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(channels_in, eps=EPS)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Give the features."""
        x: Tensor = self.layers(images)
        features: Tensor = self.norm(x.mean((2, 3)))
        return features
