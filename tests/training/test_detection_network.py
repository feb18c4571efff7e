"""The detector's network: its shape, its anchors, its cost, and what an export changes of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs: pip install "blurgate[train]"')

import torch

from blurgate.plugins.detectors import scrfd
from blurgate.training.detection import network as net

SMALL = net.NetShape(stem=4, widths=(4, 4, 4, 4), depths=(1, 1, 1, 1), neck=4, head=4, stacked=1)


def drawn(seed=0, shape=SMALL):
    torch.manual_seed(seed)
    network = net.DetectorNet(shape)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics of a trained network
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
    return network.eval()


def images(n=2, h=64, w=96, seed=0):
    return torch.randn(n, 3, h, w, generator=torch.Generator().manual_seed(seed))


def test_rows_and_columns_for_every_stride():
    raw = drawn()(images(3, 64, 96))
    assert [tuple(level.shape) for level in raw] == [
        (3, 8 * 12, 2, 15),
        (3, 4 * 6, 2, 15),
        (3, 2 * 3, 2, 15),
    ]
    assert all(level.dtype == torch.float32 for level in raw)


def test_anchors_are_listed_row_by_row_small_before_large():
    listed = net.anchors(64, 96)
    expected = [
        (x * stride, y * stride, side / 2)
        for stride, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
        for y in range(64 // stride)
        for x in range(96 // stride)
        for side in sides
    ]
    got = torch.cat([listed.centres, listed.halves[:, None]], 1).numpy()
    np.testing.assert_array_equal(got, np.float32(expected))


def test_a_fresh_network_gives_boxes_near_its_anchors_and_low_scores():
    torch.manual_seed(0)
    network = net.DetectorNet().eval()
    listed = net.anchors(64, 96)
    with torch.inference_mode():
        found = net.predictions(network(images(1)), listed)
    sides = found.boxes[0, :, 2:] - found.boxes[0, :, :2]
    ratio = sides / (2 * listed.halves[:, None])
    assert 0.7 < float(ratio.min()) <= float(ratio.max()) < 1.5
    assert float(found.logits.sigmoid().mean()) == pytest.approx(0.01, rel=0.3)


def test_predictions_are_decoded_in_units_of_half_an_anchor():
    listed = net.anchors(32, 32)
    raw = [torch.zeros(1, (32 // s) ** 2, 2, 15) for s in scrfd.STRIDES]
    row, anchor = 6, 1  # cell (2, 1) of stride 8: its anchor of 32 pixels
    raw[0][0, row, anchor] = torch.tensor([2.0, 0, np.log(2), 9, -9, *range(10)])
    found = net.predictions(raw, listed)
    at = row * 2 + anchor
    half, x, y = 16, 16, 8
    limit = np.exp(4)  # raw distances end at 4
    expected = [x - half, y - 2 * half, x + limit * half, y + half / limit]
    np.testing.assert_allclose(found.boxes[0, at], expected, rtol=1e-5)
    points = [value * half + (y if i % 2 else x) for i, value in enumerate(range(10))]
    np.testing.assert_allclose(found.kps[0, at], points)
    assert float(found.logits[0, at]) == 2


def test_runner_outputs_say_the_same_in_strides():
    network, x = drawn(), images(2, 64, 96)
    with torch.inference_mode():
        outputs = net.RunnerOutputs(network)(x)
        found = net.predictions(network(x), net.anchors(64, 96))
    start = 0
    for level, stride in enumerate(scrfd.STRIDES):
        score, box, kps = (outputs[level + 3 * part] for part in range(3))
        rows = score.shape[1]
        part = slice(start, start + rows)
        cell = torch.arange(rows) // 2
        w = 96 // stride
        centre = torch.stack([cell % w, cell // w], 1) * stride
        corners = torch.cat([centre - box[..., :2] * stride, centre + box[..., 2:] * stride], -1)
        torch.testing.assert_close(score[..., 0], found.logits[:, part].sigmoid())
        torch.testing.assert_close(corners, found.boxes[:, part])
        points = kps * stride + centre.repeat(1, 5)
        torch.testing.assert_close(points, found.kps[:, part], rtol=1e-5, atol=1e-4)
        start += rows


def test_folding_the_norms_changes_nothing():
    network, x = drawn(), images()
    folded = net.fold(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        for ours, theirs in zip(network(x), folded(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_multiplications_are_counted_as_by_hand():
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8)
    )
    assert net.count_macs(layers, 20, 30) == 10 * 15 * 8 * 27 + 10 * 15 * 8 * 9


def test_the_default_network_is_as_small_as_promised():
    network = net.DetectorNet()
    assert net.count_macs(network, 480, 640) <= 0.5e9
    assert sum(p.numel() for p in network.parameters()) * 4 <= 3e6


def test_pictures_become_rgb_about_zero():
    picture = np.zeros((1, 3, 2, 2), np.uint8)
    picture[0, 0], picture[0, 2] = 255, 128  # blue and red of BGR
    out = net.prepare(torch.from_numpy(picture))
    assert out[0, :, 0, 0].tolist() == [0.5 / 128, -127.5 / 128, 127.5 / 128]
