"""Exported models: the file scores as torch does, holds its card and nothing of this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs the extra: pip install "blurgate[train]"')
pytest.importorskip(
    "lightning_fabric", reason='exporting needs the extra: pip install "blurgate[train]"'
)
pytest.importorskip("onnx", reason='exporting needs the extra: pip install "blurgate[train]"')
pytest.importorskip("onnxscript", reason='exporting needs the extra: pip install "blurgate[train]"')
pytest.importorskip(
    "onnxruntime", reason='exporting needs the extra: pip install "blurgate[train]"'
)

import onnx
import torch

from blurgate import onnxfile, zoo
from blurgate.cards import read_card
from blurgate.errors import ModelError
from blurgate.interfaces import Runtime
from blurgate.training import export as export_module
from blurgate.training.export import OPSET, card_facts, export
from blurgate.training.heads import make_head
from blurgate.training.loop import prepare
from blurgate.training.model import BlurModel, build_model

DATA = Path(__file__).parents[1] / "data"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def make(load):
    """Make a network with statistics of its own, whose degrees are spread."""

    def network(name, head):
        torch.manual_seed(3)
        if name == "tiny":
            tiny = load(DATA / "tiny_backbone.py").Tiny()
            model = BlurModel(tiny, make_head(head, in_features=16))
        else:
            model = build_model(name, head=head)
        images = prepare(torch.from_numpy(crops(8).transpose(0, 3, 1, 2).copy()))
        with torch.no_grad():
            model.train()(images)
            output = model.eval()(images)
            last = model.head.layers[-1]
            middle, spread = (0.5, 0.2) if last.out_features == 1 else (0.0, 2.0)
            scale = spread / output.std(0)
            last.weight.mul_(scale[:, None])
            last.bias.sub_(output.mean(0)).mul_(scale).add_(middle)
        return model

    return network


def crops(count):
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (count, 14, 14, 3), np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("tiny", "regression"),
        ("tiny", "complex"),
        ("tiny", "bins20"),
        ("squeezenet1_1", "regression"),
    ],
)
def test_the_file_scores_crops_as_torch_does(make, tmp_path, name, head):
    model = make(name, head)
    path = tmp_path / "net.onnx"
    card = card_facts("net", threshold=0.35, licence="x", about={"seed": 7})
    difference = export(model, path, card)
    assert difference <= 1e-4
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]

    scorer = zoo.open_scorer(str(path), Runtime("cpu"))
    assert scorer.threshold == 0.35
    assert scorer.info.name == "net"
    pictures = crops(37)  # more than one call's worth
    rgb = pictures[..., ::-1].astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.degree(torch.from_numpy((rgb - 127.5) / 127.5)).numpy()
    got = scorer(pictures)
    assert got.std() > 0.01
    np.testing.assert_allclose(got, expected, atol=1e-4)
    np.testing.assert_allclose(scorer(pictures[:1]), expected[:1], atol=1e-4)


@pytest.fixture(scope="module")
def file(make, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "net.onnx"
    export(make("tiny", "regression"), path, card_facts("net", threshold=0.35, about={"seed": 7}))
    return path


def test_the_file_is_checked_onnx_of_one_opset_with_a_free_batch(file):
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    (images,) = model.graph.input
    (degree,) = model.graph.output
    dims = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert (images.name, dims[1:]) == ("images", [3, 112, 112])
    assert isinstance(dims[0], str)
    assert [d.dim_param for d in degree.type.tensor_type.shape.dim] == [dims[0]]


def test_the_file_holds_its_card(file):
    card = json.loads(onnxfile.metadata(file.read_bytes())["blurgate"])
    assert card["input"] == {
        "size": [112, 112],
        "color": "rgb",
        "mean": [127.5] * 3,
        "std": [127.5] * 3,
    }
    assert card["output"] == {"type": "degree"}
    assert card["licence"] == "none stated"
    assert card["about"] == {"seed": 7}
    assert read_card(card, "file").kind == "scorer"


def test_the_file_tells_nothing_of_the_machine(file):
    content = file.read_bytes()
    for text in (os.sep + "site-packages", str(Path.cwd()), ".py", "stack_trace", "torch"):
        assert text.encode() not in content


def test_a_file_that_differs_is_not_written(make, tmp_path, monkeypatch):
    def broken(*given):
        graph = trace(*given)
        clip = next(node for node in graph.graph.node if node.op_type == "Clip")
        scale = onnx.numpy_helper.from_array(np.float32(0.9), "scale")
        graph.graph.initializer.append(scale)
        final, clip.output[0] = clip.output[0], "before"
        graph.graph.node.append(onnx.helper.make_node("Mul", ["before", "scale"], [final]))
        return graph

    trace = export_module.trace
    monkeypatch.setattr(export_module, "trace", broken)
    with pytest.raises(ModelError, match=r"differs from the trained one by 0\.\d+ degrees"):
        export(make("tiny", "regression"), tmp_path / "a.onnx", card_facts("a", threshold=0.4))
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_exported_is_reported(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, images):
            return images.mean((1, 2, 3))[:, None].expand(-1, int(images.sum().item()) or 1)

    model = BlurModel(Odd(), make_head("regression", in_features=1))
    with pytest.raises(ModelError, match="the network cannot be exported to ONNX: "):
        export(model, tmp_path / "a.onnx", card_facts("a", threshold=0.4))
