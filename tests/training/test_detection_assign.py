"""ATSS against a plain version over all anchors, and regions to be ignored."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs: pip install "blurgate[train]"')

from blurgate.plugins.detectors.scrfd import STRIDES
from blurgate.training.detection.assign import BACKGROUND, IGNORED, assign
from blurgate.training.detection.network import anchors

SIZE = (160, 224)


def listed(size=SIZE):
    found = anchors(*size)
    return found.centres.numpy().astype(float), found.halves.numpy().astype(float)


def overlap(box, centre, half):
    w = min(box[2], centre[0] + half) - max(box[0], centre[0] - half)
    h = min(box[3], centre[1] + half) - max(box[1], centre[1] - half)
    common = max(w, 0) * max(h, 0)
    return common / ((box[2] - box[0]) * (box[3] - box[1]) + (2 * half) ** 2 - common)


def plain(boxes, size=SIZE):
    """ATSS by the paper, anchor by anchor."""
    centres, halves = listed(size)
    targets, best = np.full(len(halves), BACKGROUND), np.zeros(len(halves))
    starts = np.cumsum([0, *(2 * (size[0] // s) * (size[1] // s) for s in STRIDES)])
    for number, box in enumerate(boxes.astype(float)):
        middle = (box[:2] + box[2:]) / 2
        asked = []
        for first, last in pairwise(starts):
            cells = range(first, last, 2)
            away = sorted((((centres[row] - middle) ** 2).sum(), row) for row in cells)
            asked += [row + a for _, row in away[:9] for a in (0, 1)]
        ious = np.array([overlap(box, centres[row], halves[row]) for row in asked])
        floor = ious.mean() + ious.std(ddof=1)
        inside = [
            box[0] < centres[row][0] < box[2] and box[1] < centres[row][1] < box[3] for row in asked
        ]
        chosen = [i for i, _ in enumerate(asked) if inside[i] and ious[i] >= floor] or sorted(
            (i for i, _ in enumerate(asked) if inside[i]), key=lambda i: -ious[i]
        )[:1]
        for i in chosen:
            if ious[i] > best[asked[i]]:
                best[asked[i]], targets[asked[i]] = ious[i], number
    return targets


def drawn(seed, n=12, size=SIZE):
    rng = np.random.default_rng(seed)
    side = np.exp(rng.uniform(np.log(8), np.log(200), n))
    centre = rng.uniform([0, 0], [size[1], size[0]], (n, 2))
    sides = side[:, None] * rng.uniform(0.8, 1.2, (n, 2))
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], 1)
    return boxes.clip(0, [size[1], size[0]] * 2).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_plain_version(seed):
    boxes = drawn(seed)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(1) > 6]
    got = assign(boxes, np.zeros(len(boxes), bool), SIZE)
    np.testing.assert_array_equal(got, plain(boxes))
    assert (got >= 0).sum() > len(boxes)


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_levels_of_a_few_cells(size):
    boxes = np.float32([[1, 1, 30, 31], [4, 5, 15, 17]])
    np.testing.assert_array_equal(assign(boxes, np.zeros(2, bool), size), plain(boxes, size))


@pytest.mark.parametrize(("side", "half"), [(16, 8), (64, 32), (250, 128)])
def test_a_face_as_large_as_an_anchor_goes_to_such_anchors(side, half):
    size = (320, 320)
    box = np.float32([[160 - side / 2, 160 - side / 2, 160 + side / 2, 160 + side / 2]])
    got = assign(box, np.zeros(1, bool), size)
    _, halves = listed(size)
    centre = np.flatnonzero((listed(size)[0] == 160).all(1) & (halves == half))
    assert (got[centre] == 0).all()


def test_a_contested_anchor_goes_to_the_face_it_overlaps_more():
    outer, inner = [40, 40, 104, 104], [56, 56, 88, 88]
    for boxes in (np.float32([outer, inner]), np.float32([inner, outer])):
        got = assign(boxes, np.zeros(2, bool), SIZE)
        centres, halves = listed()
        for row in np.flatnonzero(got >= 0):
            ious = [overlap(box, centres[row], halves[row]) for box in boxes]
            assert got[row] == int(np.argmax(ious)) or plain(boxes)[row] == got[row]
        assert set(got) == {BACKGROUND, 0, 1}


def test_every_face_with_a_centre_inside_has_an_anchor():
    rng = np.random.default_rng(1)
    for _ in range(40):
        x, y = rng.uniform(20, 120, 2)
        box = np.float32([[x, y, x + 9, y + 9]])  # 9 > 8: a cell of stride 8 lies inside
        assert (assign(box, np.zeros(1, bool), SIZE) == 0).any()


def test_without_faces_all_is_background():
    got = assign(np.empty((0, 4), np.float32), np.empty(0, bool), SIZE)
    assert (got == BACKGROUND).all()
    assert got.shape == (2 * (20 * 28 + 10 * 14 + 5 * 7),)


def test_ignored_boxes_are_neither_face_nor_background():
    box = np.float32([[30, 40, 70, 90]])
    got = assign(box, np.ones(1, bool), SIZE)
    centres, _ = listed()
    stride = np.repeat(STRIDES, [2 * (SIZE[0] // s) * (SIZE[1] // s) for s in STRIDES])
    grown = np.concatenate([box[0, :2] - stride[:, None] / 2, box[0, 2:] + stride[:, None] / 2], 1)
    near = ((centres >= grown[:, :2]) & (centres <= grown[:, 2:])).all(1)
    np.testing.assert_array_equal(got, np.where(near, IGNORED, BACKGROUND))


@pytest.mark.parametrize("box", [[-50, -50, -20, -20], [300, 10, 320, 40], [-9, -9, 500, 500]])
def test_ignored_boxes_may_lie_outside(box):
    got = assign(np.float32([box]), np.ones(1, bool), SIZE)
    assert (got == IGNORED).all() == (box[2] == 500)
    assert set(got) <= {BACKGROUND, IGNORED}


def test_a_face_inside_an_ignored_region_is_still_a_face():
    boxes = np.float32([[0, 0, 160, 160], [60, 60, 92, 92]])
    alone = assign(boxes[1:], np.zeros(1, bool), SIZE)
    got = assign(boxes, np.array([True, False]), SIZE)
    np.testing.assert_array_equal(got == 1, alone == 0)
    assert (got == 0).sum() == 0
