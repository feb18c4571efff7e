"""Weights taken back out of exported models: torch then gives what onnxruntime gives."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')
pytest.importorskip("lightning_fabric", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("safetensors", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnx", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnxruntime", reason='it needs: pip install "blurgate[cpu]"')

import onnx
import torch

from blurgate import zoo
from blurgate.errors import ConfigError, WeightsError
from blurgate.interfaces import Runtime
from blurgate.training import checkpoints
from blurgate.training.detection.export import card_facts, check_detector, export_detector
from blurgate.training.detection.network import DetectorNet, NetShape
from blurgate.training.detection.network import prepare as prepare_detector
from blurgate.training.exported import (
    check_alike,
    is_exported,
    read_weights,
    settle,
    weights_of,
)
from blurgate.training.loop import prepare
from blurgate.training.model import build_model
from blurgate.training.runs import begin_with

ZOO = Path(__file__).parents[2] / "models_zoo"
BOX = ("mobilenetv2_0.25", "mobilenetv2_0.5", "yolov5n_xx", "squeezenet1_1", "edgenext_xx_small")
NORMED = BOX[:3]


pytestmark = pytest.mark.usefixtures("one_thread")


def crops(count: int, seed: int = 0) -> np.ndarray:
    """(n, 112, 112, 3) uint8: patches of colour, coarse ones and fine ones."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, 112, 112, 3), np.uint8)
    for i in range(count):
        side = (2, 4, 8, 16)[i % 4]
        patches = rng.uniform(0, 255, (112 // side, 112 // side, 3))
        out[i] = patches.repeat(side, 0).repeat(side, 1)
    return out


def images(pictures: np.ndarray) -> torch.Tensor:
    return prepare(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()))


def opened(name: str) -> torch.nn.Module:
    torch.manual_seed(5)
    network = build_model(name)
    network.load_state_dict(read_weights(name, network))
    return network.eval()


@torch.no_grad()
def degrees(network: torch.nn.Module, pictures: np.ndarray) -> np.ndarray:
    return network.degree(images(pictures)).numpy()


@pytest.mark.parametrize("name", BOX)
def test_the_network_gives_what_the_file_gives(name):
    pictures = crops(12)
    expected = zoo.open_scorer(name, Runtime("cpu"))(pictures)
    assert np.ptp(expected) > 0.02
    assert np.abs(degrees(opened(name), pictures) - expected).max() <= 1e-5


def test_a_detector_gives_what_its_file_gives():
    torch.manual_seed(5)
    network = DetectorNet()
    network.load_state_dict(read_weights("scrfd_blurgate", network, kind="detector", side=32))
    assert check_detector(network, ZOO / "scrfd_blurgate.onnx") <= 1e-4
    pictures = crops(16).repeat(2, axis=1).repeat(2, axis=2)
    settle(network, prepare_detector(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())))
    assert check_detector(network, ZOO / "scrfd_blurgate.onnx") <= 1e-4
    with pytest.raises(ConfigError, match="does not hold the weights of this network"):
        smaller = DetectorNet(NetShape(head=64))
        read_weights("scrfd_blurgate", smaller, kind="detector", side=32)
    with pytest.raises(ConfigError, match="does not hold the weights of this network"):
        weights_of(ZOO / "mobilenetv2_0.25.onnx", network, side=32)


def test_the_detector_in_the_box_has_the_graph_that_is_written_today(tmp_path):
    """Otherwise its speed is not what the writer of graphs has learnt since it was trained."""
    network = DetectorNet()
    network.load_state_dict(read_weights("scrfd_blurgate", network, kind="detector", side=32))
    export_detector(network, tmp_path / "again.onnx", card_facts("again"))
    boxed, again = (
        onnx.load(path).graph for path in (ZOO / "scrfd_blurgate.onnx", tmp_path / "again.onnx")
    )
    assert list(boxed.node) == list(again.node)
    for first, second in zip(boxed.initializer, again.initializer, strict=True):
        assert first.name == second.name
        arrays = map(onnx.numpy_helper.to_array, (first, second))
        np.testing.assert_allclose(*arrays, rtol=1e-6)


@pytest.mark.parametrize("name", NORMED)
def test_settling_changes_what_training_sees_and_not_what_the_network_gives(name):
    pictures = crops(64)
    network = opened(name)
    before = degrees(network, pictures)
    raw = degrees(network.train(), pictures)
    network = opened(name)
    settle(network, images(pictures))
    assert not network.training
    assert np.abs(degrees(network, pictures) - before).max() <= 1e-5
    settled = degrees(network.train(), pictures)
    assert np.abs(settled - before).mean() <= 2e-3  # a variance over n - 1 is all that differs
    assert np.abs(raw - before).mean() > 10 * np.abs(settled - before).mean()


def test_the_statistics_are_those_of_the_pictures():
    network, pictures = opened("mobilenetv2_0.25"), crops(16)
    settle(network, images(pictures))
    first = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    convolution = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    padded = np.pad(images(pictures).numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    weights = convolution.weight.detach().numpy().astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    out = np.einsum("ncyxij,ocij->noyx", windows, weights)
    np.testing.assert_allclose(first.running_mean, out.mean(axis=(0, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(first.running_var, out.var(axis=(0, 2, 3)), rtol=1e-4)


def test_what_does_not_fit_is_refused(tmp_path):
    network = build_model("mobilenetv2_0.25")
    for name in ("mobilenetv2_0.5", "yolov5n_xx", "squeezenet1_1"):
        with pytest.raises(ConfigError, match=r"does not hold the weights of this network \(.+\)"):
            read_weights(name, network)
    with pytest.raises(ConfigError, match=r"\(backbone and head\)"):
        read_weights("mobilenetv2_0.25", build_model("mobilenetv2_0.25", head="bins20"))
    with pytest.raises(ConfigError, match="laplacian is not a network"):
        read_weights("laplacian", network)
    with pytest.raises(ConfigError, match=r"no run 'mobilenetv2_0\.26' here .+mobilenetv2_0\.25"):
        read_weights("mobilenetv2_0.26", network)
    (tmp_path / "cut.onnx").write_bytes((ZOO / "mobilenetv2_0.25.onnx").read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"cut\.onnx is not an ONNX file, or is cut short"):
        weights_of(tmp_path / "cut.onnx", network)


def test_a_quantised_file_is_refused(tmp_path):
    graph = onnx.load(ZOO / "mobilenetv2_0.25.onnx")
    for tensor in graph.graph.initializer:
        tensor.name += "_quantized"
    onnx.save(graph, tmp_path / "eight.onnx")
    with pytest.raises(ConfigError, match="no 8-bit twin"):
        weights_of(tmp_path / "eight.onnx", build_model("mobilenetv2_0.25"))


def test_damaged_files_are_refused_in_one_line(tmp_path):
    network = build_model("mobilenetv2_0.25")
    data, rng = (ZOO / "mobilenetv2_0.25.onnx").read_bytes(), np.random.default_rng(0)
    for i in range(40):
        damaged = bytearray(data)
        for at in rng.integers(0, (20_000, len(data))[i % 2], 30):
            damaged[at] = int(rng.integers(256))
        (tmp_path / "damaged.onnx").write_bytes(damaged)
        with suppress(WeightsError, ConfigError):
            weights_of(tmp_path / "damaged.onnx", network)


def test_runs_are_told_from_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobilenetv2_0.5").mkdir()
    assert not is_exported("mobilenetv2_0.5")  # a run of that name lies here
    assert is_exported("mobilenetv2_0.25")
    assert is_exported("run/mobilenetv2_0.25.onnx")
    assert not is_exported("run/last.safetensors")
    with pytest.raises(WeightsError, match="is not a checkpoint of blurgate train"):
        read_weights("run/gone", build_model("mobilenetv2_0.25"))


def test_a_model_and_a_run_have_no_mean_where_normalisation_is_folded(tmp_path):
    network, pictures = opened("mobilenetv2_0.25"), crops(64)
    before = degrees(network, pictures)
    settle(network, images(pictures))
    checkpoints.save(tmp_path / "best.safetensors", network.state_dict(), {})
    both = ["mobilenetv2_0.25", str(tmp_path)]
    mixed = build_model("mobilenetv2_0.25")
    begin_with(mixed, both, read_weights)  # one network twice, and yet
    assert np.abs(degrees(mixed.eval(), pictures) - before).max() > 0.05
    with pytest.raises(ConfigError, match=r"no mean can be taken; name the \.onnx file of each"):
        check_alike(network, both)
    for alike in (both[:1] * 2, both[1:] * 2):
        check_alike(network, alike)
    check_alike(build_model("squeezenet1_1"), ["squeezenet1_1", str(tmp_path)])  # nothing is folded
