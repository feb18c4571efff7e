"""Recognition networks run by torch: a GPU's code, on the CPU here, against onnxruntime."""

import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from blurgate import zoo  # noqa: E402
from blurgate.errors import ModelError, WeightsError  # noqa: E402
from blurgate.interfaces import Runtime  # noqa: E402
from blurgate.training import graph  # noqa: E402
from blurgate.training.dataset import through_numpy  # noqa: E402
from blurgate.training.labels import Labeller  # noqa: E402

CPU = torch.device("cpu")
helper, proto = onnx.helper, onnx.TensorProto


def written(path, nodes, weights, *, side=112):
    """Write a graph from x, (n, 3, 112, 112), to y."""
    tensors = [onnx.numpy_helper.from_array(np.array(v), k) for k, v in weights.items()]
    given = [helper.make_tensor_value_info("x", proto.FLOAT, ["n", 3, side, side])]
    got = [helper.make_tensor_value_info("y", proto.FLOAT, ["n", 8])]
    made = [helper.make_node(*node[:3], **node[3]) for node in nodes]
    whole = helper.make_model(
        helper.make_graph(made, "g", given, got, tensors),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )  # fmt: skip
    path.write_bytes(whole.SerializeToString())
    return path


def everything(path):
    """A network of every operator that is known, most with attributes that are not the default."""
    rng = np.random.default_rng(0)

    def f(*shape):
        return rng.normal(size=shape).astype(np.float32)

    weights = {
        "w1": f(8, 3, 3, 3), "b1": f(8), "w2": f(8, 1, 3, 3), "slope": f(8, 1, 1),
        "scale": f(8), "shift": f(8), "mean": f(8), "var": np.abs(f(8)) + 0.5,
        "low": np.float32(-3.0), "high": np.float32(4.0), "g": f(8, 8), "gb": f(8), "m": f(8, 8),
        "gain": f(1, 3, 1, 1), "axes": np.array([1]), "minus": np.array([-1]), "zero": np.int64(0),
        "eight": np.array([8]), "last": np.array([2]), "half": np.float32(0.5),
    }  # fmt: skip
    nodes = [
        ("Mul", ["x", "gain"], ["a"], {}),
        ("Conv", ["a", "w1", "b1"], ["b"], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("PRelu", ["b", "slope"], ["c"], {}),
        ("Conv", ["c", "w2"], ["d"], {"group": 8, "pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        ("BatchNormalization", ["d", "scale", "shift", "mean", "var"], ["e"], {"epsilon": 1e-3}),
        ("Clip", ["e", "low", "high"], ["f"], {}),
        ("AveragePool", ["f"], ["h"], {"kernel_shape": [4, 4], "strides": [3, 3]}),
        ("LeakyRelu", ["h"], ["i"], {"alpha": 0.2}),
        ("Transpose", ["i"], ["j"], {"perm": [0, 1, 3, 2]}),
        ("Relu", ["j"], ["k"], {}),
        ("GlobalAveragePool", ["k"], ["l"], {}),
        ("Dropout", ["l"], ["o"], {}),
        ("Shape", ["o"], ["s"], {}),
        ("Gather", ["s", "zero"], ["s0"], {"axis": 0}),
        ("Constant", [], ["at"], {"value": onnx.numpy_helper.from_array(np.array([0]))}),
        ("Unsqueeze", ["s0", "at"], ["s1"], {}),
        ("Concat", ["s1", "minus"], ["s2"], {"axis": 0}),
        ("Reshape", ["o", "s2"], ["p"], {}),
        ("Unsqueeze", ["p", "last"], ["q"], {}),
        ("Squeeze", ["q", "last"], ["r"], {}),
        ("Flatten", ["r"], ["t"], {}),
        ("Gemm", ["t", "g", "gb"], ["u"], {"transB": 1, "alpha": 0.7, "beta": 1.3}),
        ("MatMul", ["u", "m"], ["v"], {}),
        ("Sigmoid", ["v"], ["w"], {}),
        ("Sub", ["v", "w"], ["z"], {}),
        ("Div", ["z", "half"], ["z2"], {}),
        ("Identity", ["z2"], ["z3"], {}),
        ("Add", ["z3", "u"], ["y"], {}),
    ]
    assert {node[0] for node in nodes} - {"Constant"} == set(graph.OPS)
    return written(path, nodes, weights)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.integers(0, 256, (5, 3, 112, 112), np.uint8))


def test_every_operator_gives_what_onnxruntime_gives(tmp_path, pictures, monkeypatch):
    path = everything(tmp_path / "embedder.onnx")
    card = '{"input": {"color": "bgr", "mean": [10, 20, 30], "std": [100, 110, 120]}}'
    for text in ("{}", card):
        Path(path).with_suffix(".json").write_text(text)
        plugin = zoo.open_embedder(str(path), Runtime("cpu"))
        embed = graph.torch_embedder(str(path), CPU)
        assert embed is not None
        assert embed.info == plugin.info
        wanted = through_numpy(Labeller(plugin))(pictures)
        got = embed.tensors(pictures)
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), atol=2e-6)
        np.testing.assert_allclose(got.norm(dim=1).numpy(), 1, atol=1e-6)
        odd = pictures.flip(0)[::2]  # strided tensors too
        np.testing.assert_allclose(embed.tensors(odd).numpy(), got.flip(0)[::2].numpy(), atol=2e-6)
        crops = pictures.permute(0, 2, 3, 1).contiguous().numpy()
        np.testing.assert_allclose(embed(crops), got.numpy(), atol=2e-6)
    assert embed.tensors(pictures[:0]).shape == (0, 8)
    monkeypatch.setattr(graph, "_BATCH", 2)  # 2 + 2 + 1
    np.testing.assert_allclose(embed.tensors(pictures).numpy(), got.numpy(), atol=2e-6)
    assert not got.requires_grad
    (got.sum() * torch.ones(1, requires_grad=True)).backward()  # training may use what comes out


def test_what_lies_between_the_layers_is_freed_at_once(tmp_path, pictures, monkeypatch):
    """Kept to the end, the layers of 4,096 pictures once filled 80 GB of a GPU."""
    chain = ["x", *(f"r{i}" for i in range(12))]
    nodes = [("Relu", [a], [b], {}) for a, b in pairwise(chain)]
    nodes += [("GlobalAveragePool", [chain[-1]], ["p"], {}), ("Flatten", ["p"], ["y"], {})]
    path = written(tmp_path / "e.onnx", nodes, {})
    alive, most = weakref.WeakSet(), 0

    def relu(given, facts):
        nonlocal most
        out = given[0] + 1
        alive.add(out)
        most = max(most, len(alive))
        return out

    monkeypatch.setitem(graph.OPS, "Relu", relu)
    assert graph.torch_embedder(str(path), CPU).tensors(pictures).shape == (5, 3)
    assert most == 2


@pytest.mark.parametrize(
    "node",
    [
        ("Softmax", ["x"], ["a"], {}),
        ("Conv", ["x", "w"], ["a"], {"pads": [0, 0, 1, 1]}),
        ("AveragePool", ["x"], ["a"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ],
)
def test_what_torch_does_not_run_goes_through_onnxruntime(tmp_path, pictures, node):
    nodes = [node, ("GlobalAveragePool", ["a"], ["p"], {}), ("Flatten", ["p"], ["y"], {})]
    weight = np.random.default_rng(0).normal(size=(8, 3, 2, 2)).astype(np.float32)
    path = str(written(tmp_path / "e.onnx", nodes, {"w": weight} if node[0] == "Conv" else {}))
    assert graph.torch_embedder(path, CPU) is None
    labeller = Labeller(zoo.open_embedder(path, Runtime("cpu")))
    assert through_numpy(labeller)(pictures).shape[0] == 5


def test_a_failing_run_names_the_file(tmp_path, pictures):
    embed = graph.torch_embedder(str(everything(tmp_path / "embedder.onnx")), CPU)
    with pytest.raises(ModelError, match=r"embedder\.onnx does not run"):
        embed.tensors(pictures[:, :, :3, :3])


def test_weights_in_other_files_are_refused(tmp_path):
    path = everything(tmp_path / "embedder.onnx")
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(WeightsError, match="external data"):
        graph.torch_embedder(str(path), CPU)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["arcface.onnx", "mobilefacenet_ncnn_zqcnn_128d.onnx"])
def test_on_real_recognisers(shared, pictures, name):
    path = str(shared / "data" / "weights" / name)
    wanted = through_numpy(Labeller(zoo.open_embedder(path, Runtime("cpu"))))(pictures)
    got = graph.torch_embedder(path, CPU).tensors(pictures)
    np.testing.assert_allclose(got.numpy(), wanted.numpy(), atol=1e-5)
