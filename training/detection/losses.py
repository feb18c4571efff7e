"""What training a detector minimises.

- Scores: the quality focal loss of Li et al., 2020 (arXiv 2006.04388) with beta = 2; an anchor's
  target is the IoU of its box with its face, 0 for background, or what a teacher says.
- Boxes: 1 - DIoU (Zheng et al., 2020, arXiv 1911.08287).
- Landmarks: smooth L1 over half the face's side, only of faces whose landmarks are known.

Box and landmark losses are weighted by the score, as in the first of these papers: an anchor that
will not be heard need not be exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from blurgate.training.detection.assign import IGNORED
from blurgate.training.detection.network import Predictions

__all__ = ["Losses", "Targets", "Weights", "detection_loss", "diou", "quality_focal"]

_BETA: Final = 0.05  # where smooth L1 turns from square to linear, in half faces
_LEAST: Final = 1e-7


class Targets(NamedTuple):
    """What the anchors of a batch are to say."""

    faces: Tensor
    """(n, rows) int64: a face of `boxes`, or -1 for background, -2 for what is ignored."""
    scores: Tensor
    """(n, rows) float32 in [0, 1]: the score to give; NaN: the IoU of the box with its face."""
    boxes: Tensor
    """(f, 4) float32, the faces of all pictures, x1 y1 x2 y2 in pixels."""
    kps: Tensor
    """(f, 10) float32, NaN where unknown."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each loss counts."""

    boxes: float = 6.0
    kps: float = 20.0


class Losses(NamedTuple):
    """The losses of a batch; `total` is what is minimised."""

    total: Tensor
    scores: Tensor
    boxes: Tensor
    kps: Tensor
    mimic: Tensor
    """0 without a teacher whose features are learnt."""


def detection_loss(found: Predictions, targets: Targets, weights: Weights) -> Losses:
    """Give the losses of a batch, scalars each.

    Args:
        found: What the network says.
        targets: What it is to say.
        weights: How much each loss counts.
    """
    picture, row = torch.nonzero(targets.faces >= 0, as_tuple=True)
    face = targets.faces[picture, row]
    logits = found.logits
    overlap, nearness = diou(found.boxes[picture, row], targets.boxes[face])
    quality = targets.scores.clone()
    given = quality[picture, row]
    quality[picture, row] = torch.where(given.isnan(), overlap.detach().clamp(0, 1), given)
    counted = (targets.faces != IGNORED).float()
    scores = (quality_focal(logits, quality) * counted).sum() / max(len(face), 1)
    heard = logits[picture, row].detach().sigmoid()
    boxes = _mean(1 - nearness, heard)
    true = targets.kps[face]
    known = torch.isfinite(true).all(1)
    side = (targets.boxes[face, 2:] - targets.boxes[face, :2]).mean(1, keepdim=True) / 2
    off = (found.kps[picture, row] - torch.nan_to_num(true)) / side.clamp(min=_LEAST)
    each = functional.smooth_l1_loss(off, torch.zeros_like(off), beta=_BETA, reduction="none")
    kps = _mean(each.mean(1), heard * known)
    total = scores + weights.boxes * boxes + weights.kps * kps
    return Losses(total, scores, boxes, kps, total.new_zeros(()))


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Give |quality - score|^2 times the cross-entropy, elementwise.

    Shape:
        Any, the same for both -> the same.
    """
    gap = (quality - logits.sigmoid()).abs()
    entropy = functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return gap.square() * entropy


def diou(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Give the IoU and the DIoU of pairs of boxes.

    DIoU is the IoU less the squared distance of the centres over the squared diagonal of the
    smallest box around both; it is in (-1, 1].

    Shape:
        (n, 4) and (n, 4), x1 y1 x2 y2 -> (n,) and (n,).
    """
    low, high = torch.max(boxes[:, :2], others[:, :2]), torch.min(boxes[:, 2:], others[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (others[:, 2:] - others[:, :2]).prod(1)
    iou = common / (area - common).clamp(min=_LEAST)
    around = torch.max(boxes[:, 2:], others[:, 2:]) - torch.min(boxes[:, :2], others[:, :2])
    apart = (boxes[:, :2] + boxes[:, 2:] - others[:, :2] - others[:, 2:]).square().sum(1) / 4
    return iou, iou - apart / around.square().sum(1).clamp(min=_LEAST)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=_LEAST)
