"""Scores of an exported detector: 0.5 means the same for every one."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from blurgate.training.detection.default_score import (  # noqa: E402
    FALSE_ALARMS,
    default_score,
    fair_score,
    false_alarms,
)
from blurgate.training.detection.network import (  # noqa: E402
    DetectorNet,
    NetShape,
    anchors,
    lower_scores,
    predictions,
)
from blurgate.training.detection.samples import Sample  # noqa: E402
from blurgate.types import Detections, Frame  # noqa: E402


def test_lowering_moves_every_score_by_one_rule_and_nothing_else():
    torch.manual_seed(0)
    network = DetectorNet(NetShape(8, (8, 8, 8, 8), (1, 1, 1, 1), 8, 8, 1)).eval()
    images = torch.randn(2, 3, 64, 96)
    listed = anchors(64, 96, torch.device("cpu"))
    with torch.no_grad():
        before = predictions(network(images), listed)
        lower_scores(network, 0.7)
        after = predictions(network(images), listed)
    odds = before.logits.exp() / (0.7 / 0.3)  # odds at which 0.7 becomes 0.5
    np.testing.assert_allclose(
        after.logits.sigmoid().numpy(), (odds / (1 + odds)).numpy(), rtol=1e-4, atol=1e-7
    )
    assert torch.equal(before.boxes, after.boxes)
    assert torch.equal(before.kps, after.kps)


def sample(*boxes, ignored=()):
    every = np.float32([*boxes, *ignored]).reshape(-1, 4)
    ignore = np.arange(len(every)) >= len(boxes)
    kps = np.full((len(every), 5, 2), np.nan, np.float32)
    return Sample(np.zeros((100, 100, 3), np.uint8), every, kps, ignore)


def detections(*rows):
    boxes, scores = np.float32([row[0] for row in rows]), np.float32([row[1] for row in rows])
    frame = Frame(np.zeros((100, 100, 3), np.uint8), "", 0, None)
    return Detections(frame, boxes.reshape(-1, 4), scores, np.zeros((len(rows), 5, 2), np.float32))


class Fixed:
    def __init__(self, samples):
        self.sample = lambda epoch, i: samples[i]
        self.samples = samples

    def __len__(self):
        return len(self.samples)


def test_alarms_are_far_from_every_face_and_ignored_region():
    face, region = [10, 10, 30, 30], [60, 60, 90, 90]
    found_there = detections(
        (face, 0.9),
        ([15, 15, 35, 35], 0.8),  # badly placed, IoU 0.39
        ([62, 60, 92, 90], 0.7),
        ([60, 10, 80, 30], 0.6),
    )
    np.testing.assert_allclose(false_alarms(sample(face, ignored=[region]), found_there), [0.6])
    np.testing.assert_allclose(false_alarms(sample(), detections(([0, 0, 9, 9], 0.55))), [0.55])
    assert len(false_alarms(sample(face), detections())) == 0


def test_the_default_score_is_that_of_the_detector_with_all_its_looks(monkeypatch):
    """Alarms in ten of a hundred pictures: two may be left."""
    samples = Fixed([sample() for _ in range(100)])
    opened = []

    def open_detector(name, runtime, options):
        opened.append((name, options.long_side))
        scores = iter([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5] + [None] * 90)
        return lambda frames: [
            detections(*[([0, 0, 9, 9], score)] * (score is not None))
            for score in (next(scores) for _ in frames)
        ]

    monkeypatch.setattr("blurgate.zoo.open_detector", open_detector)
    assert default_score(Path("a.onnx"), samples, 100, workers=2) == 0.86
    assert opened == [("a.onnx", 100)]


@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_the_fair_score_is_the_lowest_that_raises_few_enough(count):
    alarms = np.random.default_rng(count).uniform(0.3, 0.9, count).astype(np.float32)
    for pictures in (1, 100, 200):
        at = fair_score(alarms, pictures)
        assert (alarms >= at).sum() <= FALSE_ALARMS * pictures
        if at > 0.5:
            assert (alarms >= at - 0.011).sum() > int(FALSE_ALARMS * pictures)
