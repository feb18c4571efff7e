"""Which anchor answers for which face: ATSS, and what happens to regions to be ignored.

ATSS (Zhang et al., 2020, arXiv 1912.02424) asks, for every face, the anchors nearest to its centre
on each level: here the nine nearest cells with both their anchors. A face is the task of those
whose IoU with it reaches the mean plus one standard deviation of all asked, and whose centre lies
inside it. An anchor that two faces claim goes to the one it overlaps more.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blurgate.plugins.detectors.scrfd import ANCHORS, STRIDES
from blurgate.training.detection.network import SIDES, rows_below
from blurgate.types import F32

__all__ = ["BACKGROUND", "IGNORED", "assign"]

BACKGROUND: Final = -1
IGNORED: Final = -2
NEAREST: Final = 9
"""Cells per level that a face asks."""
_REACH: Final = 7  # the nine nearest cells lie in a window of 7 x 7, at a picture's corner too

Targets: TypeAlias = NDArray[np.int32]


def assign(boxes: F32, ignore: NDArray[np.bool_], size: tuple[int, int]) -> Targets:
    """Give every anchor its face.

    Args:
        boxes: (n, 4) x1 y1 x2 y2 in pixels.
        ignore: (n,) boxes in which anchors are neither faces nor background.
        size: (h, w) of the picture, multiples of 32.

    Returns:
        (rows,) as `blurgate.training.detection.network.anchors` lists them: the index of a box,
        `BACKGROUND` or `IGNORED`.
    """
    targets = np.full(rows_below(math.inf, *size), BACKGROUND, np.int32)
    for box in boxes[ignore]:
        _ignore(targets, box, size)
    known = np.flatnonzero(~ignore)
    if not len(known):
        return targets
    faces = boxes[known].astype(np.float64)
    row, centre, half = _candidates(faces, size)
    iou = _iou(faces, centre, half)
    inside = np.minimum(centre - faces[:, None, :2], faces[:, None, 2:] - centre).min(-1) > 0
    floor = iou.mean(1, keepdims=True) + iou.std(1, ddof=1, keepdims=True)
    chosen = inside & (iou >= floor)
    # A face without any takes the best there is, or it would count as background.
    lonely = ~chosen.any(1)
    best = np.where(inside, iou, -1).argmax(1)
    chosen[lonely, best[lonely]] = inside[lonely, best[lonely]]
    which, position = np.nonzero(chosen)
    order = np.lexsort((-which, iou[which, position]))  # the highest IoU is written last
    targets[row[which, position][order]] = known[which[order]]
    return targets


def _candidates(
    faces: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Give the anchors that are asked: rows (n, k), centres (n, k, 2) and half sides (k,)."""
    middle = (faces[:, :2] + faces[:, 2:]) / 2
    rows, centres, halves = [], [], []
    for stride, sides in zip(STRIDES, SIDES, strict=True):
        height, width = size[0] // stride, size[1] // stride
        xs, ys = _window(middle[:, 0] / stride, width), _window(middle[:, 1] / stride, height)
        cells = np.stack(np.broadcast_arrays(xs[:, None, :], ys[:, :, None]), -1)
        cells = cells.reshape(len(faces), -1, 2)
        away = ((cells * stride - middle[:, None]) ** 2).sum(-1)
        nearest = np.argsort(away, axis=1, kind="stable")[:, :NEAREST]
        cells = np.take_along_axis(cells, nearest[..., None], 1)
        first = rows_below(stride, *size) + ANCHORS * (cells[..., 1] * width + cells[..., 0])
        rows.append((first[..., None] + np.arange(ANCHORS)).reshape(len(faces), -1))
        centres.append((cells * float(stride)).repeat(ANCHORS, 1))
        halves.append(np.tile(np.array(sides) / 2, nearest.shape[1]))
    return np.concatenate(rows, 1), np.concatenate(centres, 1), np.concatenate(halves)


def _window(middle: NDArray[np.float64], cells: int) -> NDArray[np.int64]:
    """Give the numbers of up to 7 cells around each middle, (n, 7), all in the picture."""
    span = min(_REACH, cells)
    first = np.clip(np.rint(middle).astype(np.int64) - span // 2, 0, cells - span)
    return first[:, None] + np.arange(span)


def _iou(
    faces: NDArray[np.float64], centre: NDArray[np.float64], half: NDArray[np.float64]
) -> NDArray[np.float64]:
    low = np.maximum(centre - half[:, None], faces[:, None, :2])
    high = np.minimum(centre + half[:, None], faces[:, None, 2:])
    common = (high - low).clip(0).prod(-1)
    area = (faces[:, 2:] - faces[:, :2]).prod(-1)
    shared: NDArray[np.float64] = common / (area[:, None] + (2 * half) ** 2 - common)
    return shared


def _ignore(targets: Targets, box: F32, size: tuple[int, int]) -> None:
    """Mark the anchors whose centre lies in a box, or within half a cell of it."""
    for stride in STRIDES:
        height, width = size[0] // stride, size[1] // stride
        x1, y1 = np.ceil(box[:2] / stride - 0.5).astype(int).clip(0)
        x2, y2 = np.floor(box[2:] / stride + 0.5).astype(int) + 1
        start, rows = rows_below(stride, *size), ANCHORS * height * width
        level = targets[start : start + rows].reshape(height, width, ANCHORS)
        level[y1 : max(y2, 0), x1 : max(x2, 0)] = IGNORED
