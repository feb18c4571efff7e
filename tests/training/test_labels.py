"""Labels: 1 - cosine, each for its own picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from blurgate import zoo
from blurgate.errors import ModelError, ShapeError, WeightsError
from blurgate.interfaces import ModelInfo, Runtime
from blurgate.training.labels import Labeller, labels_of


def unit(rng, n, d=16):
    vectors = rng.normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_label_is_one_minus_the_cosine_cut_to_the_range():
    rng = np.random.default_rng(0)
    clean, blurred = unit(rng, 50), unit(rng, 50)
    wanted = 1 - (clean.astype(float) * blurred).sum(1)
    assert wanted.min() < 1 < wanted.max()  # cosines of both signs
    np.testing.assert_allclose(labels_of(clean, blurred), wanted.clip(0, 1), atol=1e-6)
    assert labels_of(clean, blurred).dtype == np.float32
    assert np.all(labels_of(clean, clean) < 1e-6)
    assert np.all(labels_of(clean, clean) >= 0)
    assert np.all(labels_of(clean, -clean) == 1)
    assert labels_of(clean[:0], blurred[:0]).shape == (0,)


def test_embeddings_must_be_pairs():
    rng = np.random.default_rng(0)
    with pytest.raises(ShapeError, match=r"\(3, 16\) and \(1, 16\) are not pairs"):
        labels_of(unit(rng, 3), unit(rng, 1))  # would broadcast


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_every_picture_is_labelled_against_its_own_face(tiny, batch):
    rng = np.random.default_rng(1)
    crops = np.stack([tiny.draw(112, seed) for seed in range(20)])
    owner = rng.integers(0, 20, batch)
    pictures = np.stack([cv2.GaussianBlur(crops[i], (0, 0), 0.3 + 3 * rng.random()) for i in owner])
    labeller = Labeller(tiny.TinyEmbedder())
    got = labeller.label(labeller.embed(crops), owner, pictures)
    for i, face in enumerate(owner):
        a, b = (tiny.embed_one(p).astype(float) for p in (crops[face], pictures[i]))
        assert got[i] == pytest.approx(1 - a @ b, abs=1e-6)
    assert got.max() < 1
    assert len(set(got.tolist())) == batch  # no two alike, so a swapped pair would show


def test_owners_and_pictures_must_agree(tiny):
    labeller = Labeller(tiny.TinyEmbedder())
    crops = np.stack([tiny.draw(112, seed) for seed in range(3)])
    with pytest.raises(ShapeError, match="2 owners for 3 pictures"):
        labeller.label(labeller.embed(crops), [0, 1], crops)


class Wrong:
    info = ModelInfo("wrong", "")

    def __init__(self, make):
        self.make = make

    def __call__(self, crops):
        return self.make(len(crops))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n: np.ones((n, 4), np.float32), "not of length 1"),
        (lambda n: np.full((n, 4), np.nan, np.float32), "not of length 1"),
        (lambda n: np.full((n + 1, 4), 0.5, np.float32), r"gave \(3, 4\) for 2 crops"),
        (lambda n: np.full((n, 4, 1), 0.5, np.float32), r"gave \(2, 4, 1\) for 2 crops"),
        (lambda n: [1.0] * n, r"gave \(\) for 2 crops"),
    ],
)
def test_an_embedder_that_gives_something_else_is_refused(make, message):
    with pytest.raises(ModelError, match=message):
        Labeller(Wrong(make)).embed(np.zeros((2, 112, 112, 3), np.uint8))


def test_an_embedder_of_another_input_size_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    info = [
        onnx.helper.make_tensor_value_info(name, 1, shape)
        for name, shape in (("x", ["n", 3, 160, 160]), ("y", ["n", 3]))
    ]
    node = onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    graph = onnx.helper.make_graph([node], "g", [info[0]], [info[1]])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
    )
    onnx.save(model, tmp_path / "facenet.onnx")
    with pytest.raises(WeightsError, match="it takes crops of 160x160"):
        zoo.open_embedder(str(tmp_path / "facenet.onnx"), Runtime("cpu"))


@pytest.mark.shared
def test_a_real_recogniser_agrees_with_onnxruntime_called_directly(shared):
    ort = pytest.importorskip("onnxruntime")
    weights = shared / "data" / "weights" / "arcface.onnx"
    labeller = Labeller(zoo.open_embedder(str(weights), Runtime("cpu")))
    files = sorted((shared / "data" / "faces_train" / "generated").glob("*.jpg"))[:9]
    crops = np.stack([cv2.resize(cv2.imread(str(f)), (112, 112)) for f in files])
    blurred = np.stack([cv2.GaussianBlur(c, (0, 0), 0.5 + i / 3) for i, c in enumerate(crops)])
    got = labeller.label(labeller.embed(crops), range(9), blurred)

    session = ort.InferenceSession(str(weights), providers=["CPUExecutionProvider"])

    def embed(crop):
        rgb = crop[:, :, ::-1].astype(np.float32).transpose(2, 0, 1)[None]
        vector = session.run(None, {"input": (rgb - 127.5) / 127.5})[0][0].astype(np.float64)
        return vector / np.linalg.norm(vector)

    wanted = [1 - embed(a) @ embed(b) for a, b in zip(crops, blurred, strict=True)]
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert got[0] < 0.05 < 0.5 < got[-1]
