"""Learning a teacher's features: the loss against plain least squares, the neck against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')

import torch

from blurgate import zoo
from blurgate.errors import ConfigError
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.training.detection.mimic import mimic_loss, neck_of
from blurgate.training.detection.network import DetectorNet, prepare
from blurgate.training.exported import weights_of

OURS = Path(__file__).parents[2] / "models_zoo" / "scrfd_blurgate.onnx"
SIDES = (8, 4, 2)


def levels(channels, seed, n=2):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(3, 2, (n, channels, side, side))) for side in SIDES]


def rows(*faces, n=2):
    """Targets of 2 x 84 cells with two anchors; (picture, row) of `faces` answer for face 0."""
    made = torch.full((n, 2 * 84), -1)
    for at in faces:
        made[at] = 0
    return made


def expected(own, wanted, faces):
    """The same by numpy's least squares, cell by cell."""
    shares, start = [], 0
    for x, y in zip(own, wanted, strict=True):
        n, _, h, w = x.shape
        here = np.zeros((n, h, w), bool)
        for picture in range(n):
            for cell in range(h * w):
                at = start + 2 * cell
                here[picture, cell // w, cell % w] = (faces[picture, at : at + 2] >= 0).any()
        start += 2 * h * w
        x, y = (np.moveaxis(v.numpy(), 1, -1).reshape(n * h * w, -1) for v in (x, y))
        here = here.reshape(-1)
        weights = np.ones(len(here))
        if here.any():
            weights[here], weights[~here] = 0.5 / here.sum(), 0.5 / (~here).sum()
        weights /= weights.sum()
        root = np.sqrt(weights)[:, None]
        # A constant beside the channels is what takes the means away.
        full = np.c_[x, np.ones(len(x))] * root
        solved = np.linalg.lstsq(full, y * root, rcond=None)[0]
        left = ((y * root - full @ solved) ** 2).sum(0)
        shares.append((left / (weights[:, None] * (y - weights @ y) ** 2).sum(0)).mean())
    return np.mean(shares)


@pytest.mark.parametrize("faces", [(), ((0, 3), (1, 7), (0, 130), (1, 165))])
def test_it_is_what_least_squares_leave(faces):
    own, wanted, where = levels(3, 1), levels(5, 2), rows(*faces)
    # The last level has as few cells as unknowns nearly: there the ridge is felt.
    found = mimic_loss(own, wanted, where)
    assert float(found) == pytest.approx(expected(own, wanted, where), abs=2e-3)
    assert 0 < float(found) < 1


def test_what_a_linear_map_gives_costs_nothing_and_the_unknown_all():
    own = levels(6, 3, n=8)
    mixed = torch.from_numpy(np.random.default_rng(4).normal(size=(2, 6)))
    linear = [torch.einsum("dc,nchw->ndhw", mixed, x) + 5 for x in own]
    where = rows((0, 0), (1, 140), n=8)
    assert float(mimic_loss(own, linear, where)) < 1e-3
    constant = [torch.full_like(x, 2.0) for x in own]
    assert float(mimic_loss(constant, linear, where)) == pytest.approx(1.0, abs=1e-6)


def test_its_gradient_is_that_of_the_whole_solution():
    own, wanted, where = levels(3, 5)[:1], levels(4, 6)[:1], rows((0, 3), (1, 7))
    x = own[0].clone().requires_grad_()
    mimic_loss([x], wanted, where).backward()
    step = 1e-5
    for at in ((0, 0, 0, 1), (1, 2, 3, 3), (0, 1, 7, 7)):
        ends = []
        for sign in (1, -1):
            moved = own[0].clone()
            moved[at] += sign * step
            ends.append(expected([moved], wanted, where))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float(x.grad[at]) == pytest.approx(slope, rel=0.02, abs=1e-5)


def test_the_neck_of_a_file_is_the_networks():
    network = DetectorNet().eval()
    network.load_state_dict(weights_of(OURS, network, side=32))
    picture = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    detector = zoo.open_detector(str(OURS), Runtime("cpu"), DetectorOptions())
    detector.watch(neck_of(OURS))
    first, second, third = detector.rows(picture).watched
    with torch.inference_mode():
        images = prepare(torch.from_numpy(picture).permute(2, 0, 1)[None])
        features = network.features(images)
        kept = []
        hook = network.path[1].register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        network.features(images)
        hook.remove()
    np.testing.assert_allclose(first, features[0], atol=1e-3)
    np.testing.assert_allclose(second, features[1], atol=1e-3)
    np.testing.assert_allclose(third, kept[0], atol=1e-3)  # a sum, before its last convolution
    assert third.shape == tuple(features[2].shape)


def test_a_graph_without_a_neck_is_refused(tmp_path):
    value = helper.make_tensor_value_info
    nodes, outputs = [], []
    for k in range(9):
        nodes.append(helper.make_node("Relu", ["x"], [f"y{k}"]))
        outputs.append(value(f"y{k}", TensorProto.FLOAT, [1]))
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [1])], outputs)
    path = tmp_path / "flat.onnx"
    onnx.save(helper.make_model(graph), path)
    with pytest.raises(ConfigError, match=r"flat\.onnx has no neck to learn from"):
        neck_of(path)
