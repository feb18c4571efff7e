"""The detector's losses against plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs: pip install "blurgate[train]"')

import torch

from blurgate.training.detection.losses import (
    Targets,
    Weights,
    detection_loss,
    diou,
    quality_focal,
)
from blurgate.training.detection.network import Predictions


def plain_diou(a, b):
    """IoU and DIoU by the paper's definition."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    wide, high = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    return common / union, common / union - apart / (wide**2 + high**2)


def test_diou_equals_its_definition():
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0, 50, (40, 4)) + np.array([0, 0, 50, 50]) for _ in range(2))
    b[20:] += 70  # apart
    b[0] = a[0]
    iou, nearness = diou(torch.from_numpy(a), torch.from_numpy(b))
    expected = np.array([plain_diou(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(iou, expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(nearness, expected[:, 1], atol=1e-6)
    assert float(nearness[0]) == pytest.approx(1)
    assert float(nearness[20:].max()) < float(nearness[:20].max())


@pytest.mark.parametrize(("logit", "quality"), [(-3.0, 0.0), (0.4, 0.8), (5.0, 0.0), (-2.0, 1.0)])
def test_quality_focal_equals_its_definition(logit, quality):
    p = 1 / (1 + math.exp(-logit))
    entropy = -(quality * math.log(p) + (1 - quality) * math.log(1 - p))
    got = quality_focal(torch.tensor(logit), torch.tensor(quality))
    assert float(got) == pytest.approx(abs(quality - p) ** 2 * entropy, rel=1e-5)


def test_quality_focal_is_least_where_the_score_is_the_quality():
    logits = torch.linspace(-4, 4, 801)
    values = quality_focal(logits, torch.full_like(logits, 0.7))
    assert float(logits[values.argmin()]) == pytest.approx(math.log(0.7 / 0.3), abs=0.01)


def two_pictures():
    """Four anchors each, two faces; the second face's landmarks are unknown."""
    faces = torch.tensor([[0, -1, -2, 0], [-1, 1, -1, -2]])
    boxes = torch.tensor([[0.0, 0, 40, 60], [10, 10, 30, 40]])
    kps = torch.stack([torch.arange(10.0), torch.full((10,), math.nan)])
    torch.manual_seed(0)
    low = torch.rand(2, 4, 2) * 10
    found = Predictions(
        torch.randn(2, 4).requires_grad_(),
        torch.cat([low, low + 30 + torch.rand(2, 4, 2)], -1).requires_grad_(),
        (torch.rand(2, 4, 10) * 10).requires_grad_(),
    )
    scores = torch.where(faces < 0, 0.0, math.nan)
    return found, Targets(faces, scores, boxes, kps)


@pytest.mark.parametrize("given", [{}, {(0, 0): 0.8, (0, 1): 0.3, (0, 2): 0.9}])
def test_the_sum_equals_a_loop(given):
    found, targets = two_pictures()
    for place, score in given.items():  # a face, background, and what is ignored all the same
        targets.scores[place] = score
    found = Predictions(*(part.detach() for part in found))
    got = detection_loss(found, targets, Weights(boxes=3.0, kps=0.5))
    scores, boxes, kps, heard, heard_kps, positives = 0.0, 0.0, 0.0, 0.0, 0.0, 0
    for i in range(2):
        for j in range(4):
            face = int(targets.faces[i, j])
            if face == -2:
                continue
            p = float(found.logits[i, j].sigmoid())
            quality = given.get((i, j), 0.0)
            if face >= 0:
                true = targets.boxes[face].tolist()
                overlap, nearness = plain_diou(found.boxes[i, j].tolist(), true)
                quality = given.get((i, j), overlap)
                boxes += p * (1 - nearness)
                heard += p
                positives += 1
                points = targets.kps[face]
                if math.isfinite(float(points[0])):
                    half = ((true[2] - true[0]) + (true[3] - true[1])) / 4
                    off = ((found.kps[i, j] - points) / half).abs()
                    each = torch.where(off < 0.05, off**2 / 0.1, off - 0.025)
                    kps += p * float(each.mean())
                    heard_kps += p
            entropy = -(quality * math.log(p) + (1 - quality) * math.log(1 - p))
            scores += (quality - p) ** 2 * entropy
    expected = (scores / positives, boxes / heard, kps / heard_kps)
    np.testing.assert_allclose(
        [float(got.scores), float(got.boxes), float(got.kps)], expected, rtol=1e-4
    )
    total = expected[0] + 3 * expected[1] + 0.5 * expected[2]
    assert float(got.total) == pytest.approx(total, rel=1e-4)


def test_gradients_reach_what_they_should_and_nothing_else():
    found, targets = two_pictures()
    detection_loss(found, targets, Weights()).total.backward()
    positive = targets.faces >= 0
    assert ((found.logits.grad != 0) == (targets.faces != -2)).all()
    assert ((found.boxes.grad != 0).any(-1) == positive).all()
    known = positive & (targets.faces == 0)  # the second face has no landmarks
    assert ((found.kps.grad != 0).any(-1) == known).all()
    assert all(torch.isfinite(part.grad).all() for part in found)


def test_a_batch_without_faces_has_a_loss():
    found, _ = two_pictures()
    nobody = torch.full((2, 4), -1), torch.zeros(2, 4)
    none = Targets(*nobody, torch.empty(0, 4), torch.empty(0, 10))
    losses = detection_loss(found, none, Weights())
    losses.total.backward()
    total, scores, boxes, kps, _ = (float(part.detach()) for part in losses)
    assert total == pytest.approx(scores) != 0
    assert boxes == kps == 0
    assert (found.logits.grad > 0).all()
