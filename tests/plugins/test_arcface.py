from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from blurgate.errors import ShapeError, WeightsError
from blurgate.host import get_host
from blurgate.interfaces import ModelFile, ModelInfo, Runtime
from blurgate.plugins.embedders.arcface import BATCH, ArcFace

CPU = Runtime(device="cpu")
LENGTH = 8
NEAR = 5e-5
"""onnxruntime adds the pixels of a block up one by one in float32."""

Array = np.ndarray[Any, Any]
MATRIX = np.random.default_rng(3).normal(size=(3 * 4 * 4, LENGTH)).astype(np.float32)


def tiny(
    path: Path,
    *,
    batch: int | str = "n",
    channels: int = 3,
    size: tuple[int | str, int | str] = (112, 112),
    outputs: int = 1,
    after: str = "",
    elem: int = TensorProto.FLOAT,
) -> Path:
    """The means of 28 x 28 blocks times `MATRIX`, perhaps through one more operator."""
    options = {"keepdims": 0} if after == "ReduceSum" else {}
    matrix = MATRIX if (channels, *size) in ((3, 112, 112), (3, "h", "w")) else MATRIX[:1]
    nodes = [
        helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["p"], ["f"] if matrix is MATRIX else ["whole"]),
        *([] if matrix is MATRIX else [helper.make_node("ReduceMean", ["whole"], ["f"], axes=[1])]),
        helper.make_node("MatMul", ["f", "m"], ["r"]),
        helper.make_node(after or "Identity", ["r"], ["y0"], **options),
        helper.make_node("Identity", ["r"], ["y1"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", elem, [batch, channels, *size])],
        [
            helper.make_tensor_value_info(
                f"y{i}", TensorProto.INT64 if after == "Shape" else 1, None
            )
            for i in range(outputs)
        ],
        [numpy_helper.from_array(matrix, "m")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def embedder(path: Path, **card: Any) -> ArcFace:
    facts = {"input": card} if card else {}
    return ArcFace(ModelFile(path, ModelInfo(path.stem, "0" * 64), facts), CPU)


def faces(n: int, seed: int = 0) -> Array:
    small = np.random.default_rng(seed).integers(0, 256, (n, 7, 7, 3), np.uint8)
    return np.stack([cv2.resize(face, (112, 112)) for face in small]) if n else blank(0)


def blank(n: int) -> Array:
    return np.zeros((n, 112, 112, 3), np.uint8)


def expected(crops: Array, color: str, mean: Any, std: Any) -> Array:
    """The tiny network in NumPy."""
    pixels = crops.astype(np.float64)[..., :: -1 if color == "rgb" else 1]
    pixels = (pixels - np.array(mean, float)) / np.array(std, float)
    blocks = pixels.reshape(len(crops), 4, 28, 4, 28, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    vectors = blocks.reshape(len(crops), len(MATRIX)) @ MATRIX.astype(float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_without_a_card_the_convention_is_insightfaces(tmp_path: Path) -> None:
    crops = faces(5)
    got = embedder(tiny(tmp_path / "tiny.onnx"))(crops)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected(crops, "rgb", 127.5, 127.5), rtol=0, atol=NEAR)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("color", "mean", "std"),
    [
        ("bgr", 127.5, 127.5),
        ("rgb", 0, 1),
        ("rgb", [123.7, 116.3, 103.5], [58.4, 57.1, 57.4]),
        ("bgr", [103.5, 116.3, 123.7], [57.4, 57.1, 58.4]),
    ],
)
def test_a_card_says_how_pixels_become_the_input(
    tmp_path: Path, color: str, mean: Any, std: Any
) -> None:
    crops = faces(3)
    got = embedder(tiny(tmp_path / "tiny.onnx"), color=color, mean=mean, std=std)(crops)
    np.testing.assert_allclose(got, expected(crops, color, mean, std), rtol=0, atol=NEAR)


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("n", [0, 1, 4, 7, BATCH, BATCH + 1])
def test_any_number_of_crops_fits_any_batch(tmp_path: Path, batch: int | str, n: int) -> None:
    crops = faces(n)
    got = embedder(tiny(tmp_path / "tiny.onnx", batch=batch))(crops)
    assert got.shape == (n, LENGTH)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected(crops, "rgb", 127.5, 127.5), rtol=0, atol=NEAR)


def test_a_batch_of_one_equals_a_batch_of_many(tmp_path: Path) -> None:
    embed = embedder(tiny(tmp_path / "tiny.onnx"))
    crops = faces(40)
    alone = np.concatenate([embed(crops[i : i + 1]) for i in range(40)])
    np.testing.assert_allclose(embed(crops), alone, rtol=0, atol=1e-6)


def test_free_height_and_width_are_called_with_112(tmp_path: Path) -> None:
    crops = faces(2)
    got = embedder(tiny(tmp_path / "tiny.onnx", size=("h", "w")))(crops)
    np.testing.assert_allclose(got, expected(crops, "rgb", 127.5, 127.5), rtol=0, atol=NEAR)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"size": (128, 128)}, "it takes crops of 128x128, and the aligned ones are 112x112"),
        ({"size": (112, 96)}, "it takes crops of 112x96"),
        ({"channels": 1}, "not one float tensor of"),
        ({"elem": TensorProto.DOUBLE}, "not one float tensor|can load"),
        ({"outputs": 2}, "its outputs are y0 tensor.float., y1 tensor.float., not one float"),
        ({"after": "Shape"}, "its outputs are y0 tensor.int64., not one float tensor"),
        ({"after": "ReduceSum"}, "not one vector for each"),
        ({"after": "Log"}, "vectors that are not numbers or have no length"),
    ],
)
def test_files_that_are_no_embedder_are_refused(
    tmp_path: Path, facts: dict[str, Any], message: str
) -> None:
    path = tiny(tmp_path / "odd.onnx", **facts)
    with pytest.raises(WeightsError, match=message) as caught:
        embedder(path)
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)


def test_a_card_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="it takes crops of 160x160, and the aligned ones are"):
        embedder(tiny(tmp_path / "tiny.onnx", size=("h", "w")), size=[160, 160])


def test_a_vector_without_length_is_an_error(tmp_path: Path) -> None:
    embed = embedder(tiny(tmp_path / "tiny.onnx"), mean=0, std=255)
    with pytest.raises(WeightsError, match="not numbers or have no length"):
        embed(blank(2))


@pytest.mark.parametrize("crops", [blank(1)[0], blank(1)[:, :111], blank(1).astype(np.float32)])
def test_wrong_crops_are_refused(tmp_path: Path, crops: Array) -> None:
    with pytest.raises(ShapeError, match=r"crops must be uint8 of shape \(n, 112, 112, 3\)"):
        embedder(tiny(tmp_path / "tiny.onnx"))(crops)


def test_the_plugin_is_registered_and_wants_a_file(tmp_path: Path) -> None:
    make = get_host().registry("embedder")["arcface"].factory
    with pytest.raises(WeightsError, match="'arcface' runs a file; give the path"):
        make(None, CPU)
    model = ModelFile(tiny(tmp_path / "tiny.onnx"), ModelInfo("tiny", "ab" * 32))
    assert make(model, CPU).info is model.info


# --- the real weights ---


def lfw(shared: Path, n: int) -> tuple[list[str], Array]:
    """Central parts of LFW pictures, which is nearly the ArcFace alignment: names and crops."""
    folder = shared / "data" / "faces_eval"
    files = sorted(folder.rglob("*_000[12].jpg"))[: 2 * n]
    crops = [cv2.resize(cv2.imread(str(path))[62:190, 61:189], (112, 112)) for path in files]
    return [path.stem[:-5] for path in files], np.stack(crops)


@pytest.mark.shared
def test_real_weights_equal_insightface(shared: Path) -> None:
    module = pytest.importorskip(
        "insightface.model_zoo.arcface_onnx", reason="the reference implementation"
    )
    path = shared / "data" / "weights" / "arcface.onnx"
    _, crops = lfw(shared, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = module.ArcFaceONNX(str(path)).get_feat(list(crops))
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder(path)(crops), theirs, rtol=0, atol=NEAR)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "card"),
    [("arcface.onnx", {}), ("mobilefacenet_ncnn_zqcnn_128d.onnx", {"mean": 0, "std": 1})],
)
def test_real_weights_know_people_again(shared: Path, name: str, card: dict[str, Any]) -> None:
    names, crops = lfw(shared, 10)
    vectors = embedder(shared / "data" / "weights" / name, **card)(crops)
    likeness = vectors @ vectors.T
    same = np.equal.outer(names, names) & ~np.eye(len(names), dtype=bool)
    other = np.not_equal.outer(names, names)
    assert np.median(likeness[same]) > np.median(likeness[other]) + 0.3
    assert len(onnx.load(str(shared / "data" / "weights" / name)).graph.output) == 1
