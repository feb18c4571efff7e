"""8-bit twins: what is lost, and that a twin answers in its model's scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')
pytest.importorskip("onnx", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnxruntime", reason='it needs: pip install "blurgate[cpu]"')

import onnx
import onnxruntime
import torch

from blurgate import zoo
from blurgate.interfaces import Runtime
from blurgate.training.batches import Pictures
from blurgate.training.export import card_facts, export
from blurgate.training.loop import prepare
from blurgate.training.model import build_model
from blurgate.training.quantize import quantize

ZOO = Path(__file__).parents[2] / "models_zoo"

pytestmark = pytest.mark.usefixtures("one_thread")


def crops(count: int, seed: int) -> np.ndarray:
    """(n, 112, 112, 3) uint8: soft patches, fine to coarse, over one colour."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, 112, 112, 3), np.uint8)
    for i in range(count):
        side = (2, 4, 7, 8)[i % 4]
        patches = rng.normal(128, 25, (112 // side, 112 // side, 3)) + rng.normal(0, 20, 3)
        out[i] = patches.repeat(side, 0).repeat(side, 1).clip(0, 255)
    return out


def batches(pictures: np.ndarray) -> list[Pictures]:
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    return [Pictures(part, torch.zeros(len(part))) for part in tensor.split(16)]


@pytest.mark.parametrize("name", ["yolov5n_xx", "mobilenetv2_0.5"])
def test_a_twin_answers_in_the_scale_of_its_model(name, tmp_path):
    pictures = crops(96, 1)
    quantize(ZOO / f"{name}.onnx", tmp_path / "twin.onnx", batches(pictures))
    whole, twin = (
        zoo.open_scorer(str(path), Runtime("cpu"))(pictures).astype(np.float64)
        for path in (ZOO / f"{name}.onnx", tmp_path / "twin.onnx")
    )
    assert whole.std() > 0.02
    # Nothing is cut off, so that least squares over these pictures have nothing left to correct.
    assert all(values.min() > 0 and values.max() < 1 for values in (whole, twin))
    slope, shift = np.polyfit(twin, whole, 1)
    assert (slope, shift) == (pytest.approx(1, abs=1e-4), pytest.approx(0, abs=1e-4))
    assert 0 < np.abs(twin - whole).mean() < 0.05


def test_a_first_convolution_of_squares_gives_the_same_degrees(tmp_path, monkeypatch):
    """YOLOv5's steps by two pixels; the others' keep their borders of one, and so their form."""
    pictures = crops(32, 1)
    quantize(ZOO / "yolov5n_xx.onnx", tmp_path / "squares.onnx", batches(pictures))
    quantize(ZOO / "mobilenetv2_0.25.onnx", tmp_path / "other.onnx", batches(pictures))
    monkeypatch.setattr("blurgate.training.quantize.pack", lambda model: None)
    quantize(ZOO / "yolov5n_xx.onnx", tmp_path / "pixels.onnx", batches(pictures))
    kinds = {
        name: [node.op_type for node in onnx.load(tmp_path / f"{name}.onnx").graph.node]
        for name in ("squares", "other", "pixels")
    }
    assert "SpaceToDepth" not in kinds["pixels"] + kinds["other"]
    assert kinds["squares"] == ["SpaceToDepth", *kinds["pixels"]]
    squares, pixels = (
        zoo.open_scorer(str(tmp_path / f"{name}.onnx"), Runtime("cpu"))(crops(48, 2))
        for name in ("squares", "pixels")
    )
    assert pixels.std() > 0.02
    np.testing.assert_array_equal(squares, pixels)


def test_pictures_that_lie_on_a_gpu_are_brought_back(tmp_path):
    class Away:
        """Pictures in another memory, which can only be fetched."""

        def __init__(self, pictures: torch.Tensor) -> None:
            self._pictures = pictures

        def cpu(self) -> torch.Tensor:
            return self._pictures

    near = batches(crops(32, 1))
    far = [Pictures(Away(part.pictures), part.degrees) for part in near]
    for name, pictures in (("near", near), ("far", far)):
        count = quantize(ZOO / "yolov5n_xx.onnx", tmp_path / f"{name}.onnx", pictures)
        assert count == 32
    assert (tmp_path / "near.onnx").read_bytes() == (tmp_path / "far.onnx").read_bytes()


def test_every_bin_is_brought_to_the_scale_of_its_model(tmp_path):
    torch.manual_seed(3)
    model = build_model("mobilenetv2_0.25", head="bins20").eval()
    torch.nn.init.normal_(model.head.layers[-1].weight, std=0.5)
    pictures = crops(64, 2)
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    shown = prepare(tensor)
    export(model, tmp_path / "bins.onnx", card_facts("bins", threshold=0.4), pictures=tensor[:4])
    quantize(tmp_path / "bins.onnx", tmp_path / "twin.onnx", batches(pictures))
    with torch.no_grad():
        wanted = model(shown).double().numpy()
    graph = onnx.load(tmp_path / "twin.onnx")
    linear = next(node for node in graph.graph.node if node.op_type == "Gemm")
    graph.graph.output.append(onnx.ValueInfoProto(name=linear.output[0]))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = session.run([linear.output[0]], {"images": shown.contiguous().numpy()})[0]
    found = found.astype(np.float64)
    assert found.shape == (64, 20)
    for column in range(20):
        slope, shift = np.polyfit(found[:, column], wanted[:, column], 1)
        assert slope == pytest.approx(1, abs=1e-3)
        assert shift == pytest.approx(0, abs=1e-3)
