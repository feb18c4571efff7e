"""The network of our own face detector: small, SCRFD-shaped, written from the papers.

What is taken from where:

- SCRFD (Guo et al., 2021, arXiv 2105.04714): three levels at strides 8, 16 and 32 with two square
  anchors per cell, most of the computation in the early stages, a narrow PAFPN, one light stack of
  convolutions per level that scores, boxes and landmarks share.
- MobileNet (Howard et al., 2017, arXiv 1704.04861): depthwise and pointwise convolutions.
- PANet (Liu et al., 2018, arXiv 1803.01534): a path up after the feature pyramid's path down.

Where a stage halves the resolution, an average over 2 x 2 pixels comes before the depthwise
convolution, which keeps stride 1. It costs the same in onnxruntime; the bfloat16 gradient of a
depthwise convolution with stride 2 takes torch on a CPU ten times as long.

An anchor's prediction is in units of half its side: box distances as exp(raw), landmark offsets as
raw. A fresh network therefore predicts boxes of its anchors' size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blurgate.plugins.detectors.scrfd import ANCHORS, COLUMNS, STRIDES

__all__ = [
    "LARGEST",
    "SIDES",
    "DetectorNet",
    "NetShape",
    "Predictions",
    "anchors",
    "count_macs",
    "fold",
    "lower_scores",
    "predictions",
    "prepare",
    "rows_below",
]

SIDES: Final = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
"""Sides in pixels of the two square anchors of each stride's cells."""
MEAN: Final = 127.5
STD: Final = 128.0
_PRIOR: Final = 0.01  # the score of a fresh network, as in the focal loss paper
LARGEST: Final = 4.0
"""Raw distances end at plus and minus this: e^4 is 55 half anchors, further off is no face."""


@dataclass(frozen=True, slots=True)
class NetShape:
    """Widths and depths."""

    stem: int = 16
    """Channels at stride 2."""
    widths: tuple[int, int, int, int] = (40, 72, 144, 256)
    """Channels at strides 4, 8, 16, 32."""
    depths: tuple[int, int, int, int] = (2, 3, 4, 3)
    """Blocks at strides 4, 8, 16, 32."""
    neck: int = 32
    """Channels of the PAFPN."""
    head: int = 80
    """Channels of a level's head."""
    stacked: int = 2
    """Blocks of a level's head."""


class Predictions(NamedTuple):
    """What a network says of a batch; rows as `anchors` lists them."""

    logits: Tensor
    """(n, rows) float32, before the sigmoid."""
    boxes: Tensor
    """(n, rows, 4) float32, x1 y1 x2 y2 in pixels, not clipped."""
    kps: Tensor
    """(n, rows, 10) float32, x and y of five landmarks in pixels."""


class Anchors(NamedTuple):
    """The anchors of a picture size: stride by stride, cell by cell in rows, small before large."""

    centres: Tensor
    """(rows, 2) float32, x and y in pixels: the cell's number times the stride, as SCRFD has it."""
    halves: Tensor
    """(rows,) float32, half the anchor's side in pixels."""


class DetectorNet(nn.Module):
    """Finds faces; `forward` gives raw predictions for `predictions` or an export to decode.

    Args:
        shape: Widths and depths.

    Shape:
        (n, 3, h, w) float32 RGB as `prepare` gives it, h and w multiples of 32 -> for each stride
        (n, h / stride * w / stride, 2, 15): raw score, four distances, ten offsets of two anchors.
    """

    def __init__(self, shape: NetShape | None = None) -> None:
        super().__init__()
        shape = shape or NetShape()
        self.shape = shape
        self.stem = _conv(3, shape.stem, 3, 2)
        self.stages = nn.ModuleList()
        before = shape.stem
        for width, depth in zip(shape.widths, shape.depths, strict=True):
            blocks = [_separable(before, width, halve=True)]
            blocks += [_separable(width, width) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            before = width
        neck = shape.neck
        self.lateral = nn.ModuleList(_conv(width, neck, 1) for width in shape.widths[1:])
        self.smooth = nn.ModuleList(_conv(neck, neck, 3) for _ in STRIDES)
        self.down = nn.ModuleList(_conv(neck, neck, 3, 2) for _ in STRIDES[1:])
        self.path = nn.ModuleList(_conv(neck, neck, 3) for _ in STRIDES[1:])
        self.heads = nn.ModuleList(_head(shape) for _ in STRIDES)
        self._initialise()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Give the raw predictions of each stride."""
        return self.predict(self.features(images))

    def predict(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Give the raw predictions of each stride from its features."""
        out = []
        for head, feature in zip(self.heads, features, strict=True):
            raw: Tensor = head(feature)
            rows = raw.permute(0, 2, 3, 1)
            out.append(rows.reshape(rows.shape[0], -1, ANCHORS, sum(COLUMNS)).float())
        return out

    def features(self, images: Tensor) -> list[Tensor]:
        """Give what the neck makes of pictures: (n, neck, h / stride, w / stride) per stride."""
        x = self.stem(images)
        levels: list[Tensor] = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number:
                levels.append(x)
        levels = [conv(level) for conv, level in zip(self.lateral, levels, strict=True)]
        for i in (1, 0):
            levels[i] = levels[i] + nn.functional.interpolate(levels[i + 1], scale_factor=2.0)
        levels = [conv(level) for conv, level in zip(self.smooth, levels, strict=True)]
        for i, (down, path) in enumerate(zip(self.down, self.path, strict=True)):
            levels[i + 1] = path(levels[i + 1] + down(levels[i]))
        return levels

    def learn_from(self, stride: int) -> None:
        """Keep everything still that finer strides' predictions come from as well.

        Args:
            stride: The finest whose predictions may change.
        """
        self.requires_grad_(False)
        for i, own in enumerate(STRIDES):
            if own >= stride:
                before = (self.down[i - 1], self.path[i - 1]) if i else ()
                for module in (self.smooth[i], self.heads[i], *before):
                    module.requires_grad_(True)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for head in self.heads:
            assert isinstance(head, nn.Sequential)
            last = head[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)
            with torch.no_grad():
                last.bias.view(ANCHORS, -1)[:, 0] = -math.log((1 - _PRIOR) / _PRIOR)


def prepare(pictures: Tensor) -> Tensor:
    """Turn (n, 3, h, w) uint8 BGR into the network's input: float32 RGB, (pixel - 127.5) / 128."""
    rgb = pictures.flip(1).float()
    return rgb.sub_(MEAN).mul_(1 / STD).contiguous(memory_format=torch.channels_last)


def anchors(h: int, w: int, device: torch.device | str = "cpu") -> Anchors:
    """List the anchors of pictures of a size, both sides multiples of 32.

    >>> listed = anchors(32, 64)
    >>> listed.centres[3].tolist(), float(listed.halves[3])
    ([8.0, 0.0], 16.0)
    """
    centres, halves = [], []
    for stride, sides in zip(STRIDES, SIDES, strict=True):
        y, x = torch.meshgrid(torch.arange(h // stride), torch.arange(w // stride), indexing="ij")
        cells = torch.stack([x, y], -1).reshape(-1, 1, 2) * float(stride)
        centres.append(cells.expand(-1, ANCHORS, 2).reshape(-1, 2))
        halves.append((torch.tensor(sides) / 2).repeat(len(cells)))
    return Anchors(torch.cat(centres).to(device), torch.cat(halves).to(device))


def rows_below(stride: float, h: int, w: int) -> int:
    """Count the anchors of the strides that are finer than one; `math.inf`: of all.

    >>> rows_below(32, 64, 96)
    240
    """
    return sum(ANCHORS * (h // own) * (w // own) for own in STRIDES if own < stride)


def predictions(raw: Sequence[Tensor], listed: Anchors) -> Predictions:
    """Decode what a network gave into pixels.

    Args:
        raw: From `DetectorNet`.
        listed: The anchors of the pictures' size.
    """
    rows = torch.cat([level.flatten(1, 2) for level in raw], 1)
    half = listed.halves[:, None]
    sides = rows[..., 1:5].clamp(-LARGEST, LARGEST).exp() * half
    corners = [listed.centres - sides[..., :2], listed.centres + sides[..., 2:]]
    kps = rows[..., 5:] * half + listed.centres.repeat(1, 5)
    return Predictions(rows[..., 0], torch.cat(corners, -1), kps)


class RunnerOutputs(nn.Module):
    """Gives the nine outputs that the runner `scrfd` reads, in its order.

    Shape:
        (n, 3, h, w) float32 -> scores in [0, 1] of strides 8, 16, 32, each (n, rows, 1); distances
        (n, rows, 4) and offsets (n, rows, 10) likewise, in units of the stride.
    """

    def __init__(self, network: DetectorNet) -> None:
        super().__init__()
        self.network = network
        for stride, sides in zip(STRIDES, SIDES, strict=True):
            halves = torch.tensor(sides)[:, None] / (2 * stride)
            self.register_buffer(f"halves_{stride}", halves)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Give the outputs."""
        scores, distances, offsets = [], [], []
        for stride, raw in zip(STRIDES, self.network(images), strict=True):
            halves = getattr(self, f"halves_{stride}")
            scores.append(raw[..., :1].sigmoid().flatten(1, 2))
            sides = raw[..., 1:5].clamp(-LARGEST, LARGEST).exp() * halves
            distances.append(sides.flatten(1, 2))
            offsets.append((raw[..., 5:] * halves).flatten(1, 2))
        return (*scores, *distances, *offsets)


def fold(network: DetectorNet) -> DetectorNet:
    """Give a copy in eval mode whose batch normalisations are part of the convolutions."""
    copy = DetectorNet(network.shape)
    copy.load_state_dict(network.state_dict())
    copy.eval()
    for module in copy.modules():
        if isinstance(module, nn.Sequential):
            for i, (conv, norm) in enumerate(zip(module, list(module)[1:], strict=False)):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[i] = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
                    module[i + 1] = nn.Identity()
    return copy


def count_macs(network: nn.Module, h: int, w: int) -> int:
    """Count the multiplications of all convolutions for one picture of h x w.

    Papers on detectors call them FLOPs; SCRFD-0.5G has 0.5e9 at 480 x 640.
    """
    images = torch.zeros(1, 3, h, w, device=next(network.parameters()).device)
    was_training, counted = network.training, FlopCounterMode(display=False)
    with torch.inference_mode(), counted:
        network.eval()(images)
    network.train(was_training)
    return counted.get_total_flops() // 2  # the other half are the additions


def _conv(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*_layers(inputs, outputs, side, stride))


def _layers(
    inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1
) -> Iterator[nn.Module]:
    yield nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
    yield nn.BatchNorm2d(outputs)
    yield nn.ReLU(inplace=True)


@torch.no_grad()
def lower_scores(network: DetectorNet, at: float) -> None:
    """Move all scores, their order kept, so that 0.5 is what `at` was.

    Args:
        network: Changed in place.
        at: A score in (0, 1).
    """
    for head in network.heads:
        last = cast(nn.Sequential, head)[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        last.bias.view(ANCHORS, -1)[:, 0] -= math.log(at / (1 - at))


def _separable(inputs: int, outputs: int, *, halve: bool = False) -> nn.Sequential:
    return nn.Sequential(
        *([nn.AvgPool2d(2)] if halve else []),
        *_layers(inputs, inputs, 3, groups=inputs),
        *_layers(inputs, outputs, 1),
    )


def _head(shape: NetShape) -> nn.Sequential:
    widths = [shape.neck] + [shape.head] * shape.stacked
    blocks = [_separable(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*blocks, nn.Conv2d(widths[-1], ANCHORS * sum(COLUMNS), 1))
