"""Embedding tensors through onnxruntime's binding: a GPU's code, run on the CPU here."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from blurgate import zoo  # noqa: E402
from blurgate.errors import ModelError  # noqa: E402
from blurgate.interfaces import Runtime  # noqa: E402
from blurgate.training import bound  # noqa: E402
from blurgate.training.dataset import through_numpy  # noqa: E402
from blurgate.training.labels import Labeller  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def model(tmp_path):
    """Write an embedder: mean over 28 x 28 patches, then a linear layer; batch free or fixed."""

    def make(batch="n"):
        helper, proto = onnx.helper, onnx.TensorProto
        weight = np.random.default_rng(0).normal(size=(48, 8)).astype(np.float32)
        nodes = [
            helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[28, 28], strides=[28, 28]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", proto.FLOAT, [batch, 3, 112, 112])],
            [helper.make_tensor_value_info("y", proto.FLOAT, [batch, 8])],
            [onnx.numpy_helper.from_array(weight, "w")],
        )
        whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        path = tmp_path / "embedder.onnx"
        path.write_bytes(whole.SerializeToString())
        return path

    return make


@pytest.fixture
def pictures():
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(0, 256, (5, 3, 112, 112), np.uint8))


def test_a_bound_embedder_gives_what_the_plugin_gives(model, pictures):
    path = model()
    card = '{"input": {"color": "bgr", "mean": [10, 20, 30], "std": [100, 110, 120]}}'
    for text in ("{}", card):
        Path(path).with_suffix(".json").write_text(text)
        plugin = zoo.open_embedder(str(path), Runtime("cpu"))
        embed = bound.Bound(zoo.resolve("embedder", str(path)), CPU)
        assert embed.usable
        wanted = through_numpy(Labeller(plugin))(pictures)
        got = embed(pictures)
        assert got.shape == (5, 8)
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), atol=1e-6)
        np.testing.assert_allclose(got.norm(dim=1).numpy(), 1, atol=1e-6)
        # Flipped and strided tensors too: what is bound is memory, not a view.
        odd = pictures.flip(0)[::2]
        np.testing.assert_allclose(embed(odd).numpy(), got.flip(0)[::2].numpy(), atol=1e-6)
    assert embed(pictures[:0]).shape == (0, 8)


def test_what_cannot_be_bound_goes_through_numpy(model, pictures, monkeypatch):
    fixed = model(batch=1)
    assert not bound.Bound(zoo.resolve("embedder", str(fixed)), CPU).usable
    path = str(model())
    labeller = Labeller(zoo.open_embedder(path, Runtime("cpu")))
    assert not isinstance(bound.tensor_embed(path, labeller, CPU), bound.Bound)
    # A machine with torch's CUDA but without onnxruntime's: the session says what it got.
    made = []

    class OnCpu(bound.Bound):
        def __init__(self, file, device):
            super().__init__(file, CPU)
            made.append(device)
            self.usable = False

    monkeypatch.setattr(bound, "Bound", OnCpu)
    found = bound.tensor_embed(path, labeller, torch.device("cuda:1"))
    assert made == [torch.device("cuda:1")]
    assert found(pictures).shape == (5, 8)


def test_a_failing_run_names_the_file(model, pictures):
    embed = bound.Bound(zoo.resolve("embedder", str(model())), CPU)
    with pytest.raises(ModelError, match=r"embedder\.onnx does not run"):
        embed(pictures[:, :, :100])


@pytest.mark.shared
def test_on_a_real_recogniser(shared, pictures):
    path = str(shared / "data" / "weights" / "arcface.onnx")
    plugin = Labeller(zoo.open_embedder(path, Runtime("cpu")))
    embed = bound.Bound(zoo.resolve("embedder", path), CPU)
    assert embed.usable
    wanted = through_numpy(plugin)(pictures)
    np.testing.assert_allclose(embed(pictures).numpy(), wanted.numpy(), atol=1e-5)
