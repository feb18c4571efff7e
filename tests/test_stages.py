"""Deciding, routing, batching and the passing of source ends."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from decimal import Decimal

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blurgate import Gate
from blurgate.errors import ConfigError, PluginError
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.interfaces import ModelInfo
from blurgate.stages import (
    FACES_PER_BATCH,
    FRAMES_PER_BATCH,
    Rule,
    face_px,
    let_go,
    ready_crops,
    route,
    score,
    six_digits,
)
from blurgate.types import BlurKind, Detections, FaceBatch, Frame, ScoredFaces, SourceEnd, Tracks


def faces(n: int, *, index: int = 0, value: int = 0) -> FaceBatch:
    frame = Frame(np.zeros((40, 60, 3), np.uint8), "clip", index, index / 25)
    boxes = np.tile(np.float32([5, 5, 35, 25]), (n, 1))
    found = Detections(frame, boxes, np.ones(n, np.float32), np.zeros((n, 5, 2), np.float32))
    return FaceBatch(found, np.full((n, 112, 112, 3), value, np.uint8))


class MeanScorer:
    """The mean grey level over 255; remembers the sizes of its batches."""

    info = ModelInfo("mean", "")
    threshold = 0.5

    def __init__(self):
        self.batches = []

    def __call__(self, crops):
        self.batches.append(len(crops))
        return (crops.reshape(len(crops), -1).mean(axis=1) / 255).astype(np.float32)


class Moved(MeanScorer):
    """Says of every face that it moved at 30 degrees of its crop."""

    kinds = ("motion",)

    def with_kinds(self, crops):
        return self(crops), [BlurKind("motion", 30.0)] * len(crops)


@pytest.mark.parametrize("tilt", [0, 25, -40, 150])
def test_a_motion_has_its_direction_in_the_picture(tilt):
    turn = cv2.getRotationMatrix2D((56, 56), tilt, 0.7)  # counter-clockwise as seen
    kps = cv2.transform(ARCFACE_TEMPLATE[None], turn)
    gate = Gate(0.4, scorer=Moved(), kinds=True)
    (verdict,) = gate(np.zeros((112, 112, 3), np.uint8), [[8, 8, 104, 104]], kps)
    assert verdict.blur_kind.kind == "motion"
    assert verdict.blur_kind.angle == pytest.approx((30 + tilt) % 180, abs=1e-3)
    (verdict,) = gate.crops(np.zeros((1, 112, 112, 3), np.uint8))
    assert verdict.blur_kind.angle == pytest.approx(30, abs=1e-3)


END = SourceEnd("clip", "ok", 3, 0)


def test_score_batches_over_frames_and_gives_each_frame_its_own():
    scorer = MeanScorer()
    counts = [2, 0, 3, 1, 0, 5]
    items = [faces(n, index=i, value=10 * i) for i, n in enumerate(counts)]
    scored = list(score([*items[:3], END, *items[3:]], scorer))
    assert scored[3] is END
    del scored[3]
    assert [len(s) for s in scored] == counts
    for i, s in enumerate(scored):
        assert s.faces is items[i]
        np.testing.assert_allclose(s.blur_degree, 10 * i / 255, rtol=1e-6)
    assert scorer.batches == [11]


def test_score_holds_a_bounded_number_of_frames():
    scorer = MeanScorer()
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield faces(0 if i % 2 else 1)

    next(score(items(), scorer))
    assert len(taken) == FRAMES_PER_BATCH
    many = score((faces(10) for _ in range(1000)), scorer)
    next(many)
    assert scorer.batches[-1] <= FACES_PER_BATCH + 10


def test_score_without_any_face_asks_nobody():
    scorer = MeanScorer()
    assert len(list(score([faces(0), END], scorer))) == 2
    assert scorer.batches == []


def test_a_scorer_that_leaves_the_range_is_caught():
    class Wild(MeanScorer):
        def __call__(self, crops):
            return np.full(len(crops), np.nan, np.float32)

    with pytest.raises(PluginError, match=r"the scorer mean gave .* outside \[0, 1\]"):
        list(score([faces(1)], Wild()))


def verdict_of(degree: float, rule: Rule):
    scored = ScoredFaces(faces(1), np.float32([degree]), "mean")
    (routed,) = route([scored], rule)
    return routed.verdicts[0]


def test_route_fills_every_field():
    verdict = verdict_of(0.25, Rule(0.4))
    assert verdict.source == "clip"
    assert (verdict.frame_index, verdict.face_index, verdict.track) == (0, 0, None)
    assert verdict.pts_s == 0.0
    assert verdict.box == (5.0, 5.0, 35.0, 25.0)
    assert verdict.face_px == 20.0
    assert verdict.blur_degree == 0.25
    assert (verdict.decision, verdict.reason, verdict.model) == ("keep", "", "mean")


def test_equality_passes_also_in_float32():
    # 0.4 as float32 is 0.4000000059604645: rounded to six digits it is the threshold again.
    assert verdict_of(0.4, Rule(0.4)).decision == "keep"
    assert verdict_of(0.40001, Rule(0.4)).decision == "reject"


@pytest.mark.parametrize(
    ("box", "side"), [((10, 20, 40, 70), 30), ((10, 20, 60, 48), 28), ((-8, 3, 4, 90), 12)]
)
def test_a_face_is_as_large_as_the_shorter_side_of_its_box(
    box: tuple[float, float, float, float], side: float
) -> None:
    assert face_px(box) == side


def test_small_faces_are_rejected_before_blur_is_looked_at():
    assert verdict_of(0.9, Rule(0.4, min_face_px=20)).reason == "blur"
    verdict = verdict_of(0.9, Rule(0.4, min_face_px=20.1))
    assert (verdict.decision, verdict.reason) == ("reject", "too_small")


@given(st.floats(0, 1, width=32), st.floats(0, 1))
def test_threshold_one_rejects_nothing_and_decisions_are_monotone(degree, threshold):
    assert Rule(1.0)(degree, 50)[0] == "keep"
    decision = Rule(threshold)(degree, 50)[0]
    assert decision == ("reject" if degree > threshold else "keep")


DECIMALS = st.decimals(0, 1, places=6)


@given(DECIMALS, DECIMALS, st.decimals(0, 1, places=3).filter(bool))
@example(Decimal("0.3"), Decimal("0.4"), Decimal("0.1"))  # 0.4 - 0.3 > 0.1 in binary
@example(Decimal("0.35"), Decimal("0.4"), Decimal("0.05"))
@example(Decimal("0.3"), Decimal("0.2"), Decimal("0.1"))
@example(Decimal("0.300001"), Decimal("0.2"), Decimal("0.1"))
@example(Decimal("0.299999"), Decimal("0.4"), Decimal("0.1"))
def test_review_is_a_band_on_both_sides_of_the_numbers_as_they_read(near, middle, wide):
    degree, threshold, width = float(near), float(middle), float(wide)
    decision, reason = Rule(threshold, review=width)(degree, 50)
    if abs(near - middle) <= wide:
        assert (decision, reason) == ("review", "blur")
    else:
        assert decision == Rule(threshold)(degree, 50)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.2}, "threshold must lie in"),
        ({"threshold": float("nan")}, "threshold must lie in"),
        ({"threshold": 0.4, "review": -0.1}, "review must be a width"),
        ({"threshold": 0.4, "min_face_px": float("inf")}, "min-face must be a size"),
    ],
)
def test_a_rule_refuses_numbers_that_mean_nothing(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Rule(**arguments)


def test_face_px_is_the_shorter_side():
    assert face_px((10, 20, 40, 45)) == 25


def test_six_digits():
    assert six_digits(0.12345678) == 0.123457
    assert six_digits(1234567.0) == 1234570.0


def test_ready_crops_are_taken_as_they_are():
    crop = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    big = np.full((224, 300, 3), 77, np.uint8)
    small, end, large = ready_crops([Frame(crop, "a", 0, None), END, Frame(big, "b", 0, None)])
    assert end is END
    np.testing.assert_array_equal(small.crops[0], crop)
    assert large.crops.shape == (1, 112, 112, 3)
    assert (large.crops == 77).all()
    assert large.detections.boxes.tolist() == [[0, 0, 300, 224]]


def test_frames_that_are_let_go_keep_everything_but_their_pixels():
    batch = replace(faces(2, index=7, value=9), tracks=Tracks((3, 4)))
    image = weakref.ref(batch.detections.frame.image)
    crops, boxes, kps = batch.crops, batch.detections.boxes, batch.detections.kps
    left, end = let_go([batch, END])
    del batch
    gc.collect()
    assert image() is None
    assert end is END
    frame = left.detections.frame
    assert (frame.source, frame.index, frame.pts_s, frame.size) == ("clip", 7, 7 / 25, (40, 60))
    assert left.tracks == Tracks((3, 4))
    assert left.crops is crops
    assert left.detections.boxes is boxes
    assert left.detections.kps is kps
    with pytest.raises(RuntimeError, match="let go after its faces had been cut out"):
        _ = frame.image
