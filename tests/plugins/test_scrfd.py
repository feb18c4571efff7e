from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from blurgate.errors import ConfigError, WeightsError
from blurgate.geometry import fit_canvas
from blurgate.host import get_host
from blurgate.interfaces import DetectorOptions, ModelFile, ModelInfo, Runtime
from blurgate.plugins.detectors import looks, scrfd, scrfd_file
from blurgate.plugins.detectors.scrfd import Scrfd
from blurgate.runtime import make_session, onnxruntime
from blurgate.types import Detections, Frame

CPU = Runtime(device="cpu")
WEIGHTS = ("scrfd_2.5g_bnkps.onnx", "scrfd_500m_bnkps.onnx")
GOLDEN = Path(__file__).parents[1] / "data" / "scrfd_insightface.json"

Array = np.ndarray[Any, Any]


def tiny(
    path: Path,
    *,
    layout: str = "cells",
    batch: int | str = 1,
    size: tuple[int | str, int | str] = ("h", "w"),
    plain: bool = False,
    spoil: str = "",
    small_only: bool = False,
    mixed_batch: bool = False,
    sigmoid: bool = True,
    order: Sequence[int] = range(9),
    columns: tuple[int, int, int] = (1, 4, 10),
    elem: int = TensorProto.FLOAT,
) -> Path:
    """An ONNX file with SCRFD's input and outputs that takes bright green or white for faces.

    Each stride averages its cells and maps the mean colour of a cell to two anchors' score, box
    and landmarks by a random matrix (`plain`: boxes of two strides to each side, landmarks at
    0.0, 0.1 ... 0.9 strides).

    Args:
        layout: As in the released files (cells), image after image (pictures), or 3-D (deep).
        spoil: Name of an operator that gives NaN (Sqrt) or Inf (Reciprocal) where red is dark,
            and the outputs it goes into: "Sqrt boxes", "Reciprocal scores" ...
        small_only: Score only what is much brighter than the 9 x 9 cells around it.
        mixed_batch: Let the pictures of a batch influence each other.
    """
    rng = np.random.default_rng(7)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {
        "zero": np.array(0, np.float32),
        "tiny": np.array(1e-30, np.float32),
    }

    def node(kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(value: Array) -> str:
        name = f"c{len(constants)}"
        constants[name] = value
        return name

    names: list[str] = []
    for role, width in zip(("scores", "boxes", "kps"), columns, strict=True):
        for stride in (8, 16, 32):
            cells = node("AveragePool", ["x"], kernel_shape=[stride] * 2, strides=[stride] * 2)
            matrix = rng.normal(0, 0.2, (2 * width, 3)).astype(np.float32)
            bias = rng.uniform(1.2, 2.5, 2 * width).astype(np.float32)
            if plain:
                matrix[:] = 0
                bias[:] = 2 if role == "boxes" else np.arange(2 * width) % width / 10
            if role == "scores":
                matrix, bias = np.zeros((2 * width, 3), np.float32), np.full(2 * width, -4)
                matrix[:, 1] = 8 + np.arange(2 * width)  # the second anchor is a little surer
                bias = bias.astype(np.float32)
                if small_only:
                    around = node(
                        "AveragePool", [cells], kernel_shape=[9, 9], pads=[4] * 4, strides=[1, 1]
                    )
                    cells = node("Sub", [cells, around])
                    bias -= 11.5
            out = node(
                "Conv",
                [cells, constant(matrix.reshape(2 * width, 3, 1, 1)), constant(bias)],
            )
            if mixed_batch:
                out = node("Add", [out, node("ReduceMean", [out], axes=[0], keepdims=1)])
            if role == "scores" and sigmoid:
                out = node("Sigmoid", [out])
            if spoil.endswith(role):
                red = np.zeros((2 * width, 3, 1, 1), np.float32)
                red[:, 0] = 1
                dark = node("Conv", [cells, constant(red)])
                if spoil.startswith("Reciprocal"):
                    dark = node("Relu", [dark])
                bad = node(spoil.split()[0], [dark])
                out = node("Add", [out, node("Mul", [bad, "tiny"])])
            turned = node(
                "Transpose", [out], perm=[2, 3, 0, 1] if layout == "cells" else [0, 2, 3, 1]
            )
            shape = [0, -1, width] if layout == "deep" else [-1, width]
            names.append(node("Reshape", [turned, constant(np.array(shape, np.int64))]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", elem, [batch, 3, *size])],
        [helper.make_tensor_value_info(names[i], TensorProto.FLOAT, None) for i in order],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def detector(path: Path, *, long_side: int = 640, min_score: float = 0.5) -> Scrfd:
    model = ModelFile(path, ModelInfo(path.stem, "0" * 64))
    return Scrfd(model, CPU, DetectorOptions(long_side, min_score))


def frame(image: Array, name: str = "picture") -> Frame:
    return Frame(image, name, 0, None)


def blobs(height: int, width: int, seed: int) -> Frame:
    """A dark picture with bright rectangles of many sizes."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 30, (height, width, 3), np.uint8)
    for _ in range(6):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(4, max(width // 3, 5)), rng.integers(4, max(height // 3, 5))
        image[y : y + h, x : x + w] = rng.integers(150, 256, 3)
    return frame(image, f"blobs {seed}")


def slow(path: Path, picture: Frame, canvas: tuple[int, int], min_score: float = 0.5) -> Detections:
    """SCRFD written out: one prediction after the other, in float64."""
    ort = onnxruntime()
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    h, w = picture.size
    new_h, new_w = canvas[0], int(canvas[0] / (h / w))
    if h / w <= canvas[0] / canvas[1]:
        new_h, new_w = int(canvas[1] * (h / w)), canvas[1]
    scale = np.array([new_w / w, new_h / h])
    padded = np.zeros((*canvas, 3), np.uint8)
    image = picture.image
    while len(image) >= 2 * new_h and image.shape[1] >= 2 * new_w:
        image = halved(image)
    padded[:new_h, :new_w] = cv2.resize(image, (new_w, new_h))
    blob = ((padded[:, :, ::-1].astype(np.float64) - 127.5) / 128).transpose(2, 0, 1)
    outputs = session.run(None, {"x": blob[None].astype(np.float32)})
    faces: list[tuple[float, Array, Array]] = []
    for level, stride in enumerate((8, 16, 32)):
        scores, boxes, kps = (outputs[level + 3 * role].squeeze() for role in range(3))
        for row in range(len(scores)):
            y, x = divmod(row // 2, canvas[1] // stride)
            if scores[row] >= min_score:
                centre = np.array([x, y]) * stride
                left_top = centre - boxes[row, :2].astype(float) * stride
                right_bottom = centre + boxes[row, 2:].astype(float) * stride
                points = kps[row].astype(float).reshape(5, 2) * stride + centre
                box = np.concatenate([left_top / scale, right_bottom / scale])
                faces.append((float(scores[row]), box, points / scale))
    faces.sort(key=lambda face: -face[0])
    kept: list[tuple[float, Array, Array]] = []
    for face in faces:
        if all(pixels_shared(face[1], other[1]) <= 0.4 for other in kept):
            kept.append(face)
    score, boxes, kps = ([face[i] for face in kept] for i in range(3))
    return Detections(
        picture,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(score, np.float32),
        np.array(kps, np.float32).reshape(-1, 5, 2),
    )


def halved(image: Array) -> Array:
    """The means over pixels of half the height and width, rounded down."""
    down, across = (mean_of_areas(side // 2, side) for side in image.shape[:2])
    rows = np.einsum("ih,hwc->iwc", down, image)
    return np.floor(np.einsum("jw,iwc->ijc", across, rows) + 0.5).astype(np.uint8)


def mean_of_areas(m: int, n: int) -> Array:
    """(m, n): how much of m equal parts of a line lies on each of n."""
    edges = np.arange(m + 1) * (n / m)
    low = np.maximum.outer(edges[:-1], np.arange(n))
    high = np.minimum.outer(edges[1:], np.arange(1, n + 1))
    return np.maximum(high - low, 0) * (m / n)


def pixels_shared(a: Array, b: Array) -> float:
    w = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return float(w * h / (sum(areas) - w * h))


def assert_same(got: Detections, expected: Detections, atol: float = 1e-2) -> None:
    assert len(got) == len(expected)
    np.testing.assert_allclose(got.boxes, expected.boxes, rtol=0, atol=atol)
    np.testing.assert_allclose(got.kps, expected.kps, rtol=0, atol=atol)
    np.testing.assert_allclose(got.det_scores, expected.det_scores, rtol=0, atol=1e-4)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The input shapes of every run of a session, from here on."""
    shapes: list[tuple[int, ...]] = []
    run: Callable[..., Any] = scrfd_file.run

    def spy(session: Any, inputs: dict[str, Any], model: str) -> Any:
        shapes.extend(value.shape for value in inputs.values())
        return run(session, inputs, model)

    monkeypatch.setattr(scrfd_file, "run", spy)
    return shapes


@pytest.fixture(autouse=True)
def far(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small faces be as the first search sees them, but for the tests of closer looks."""
    if "closer" not in request.node.name:
        monkeypatch.setattr(looks, "CLOSER_BELOW", 0)


# --- what is found ---


def test_a_face_is_where_the_prediction_says(tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[40:48, 24:32] = 255  # one cell of stride 8: column 3, row 5
    (found,) = detector(tiny(tmp_path / "tiny.onnx", plain=True), long_side=64)([frame(image)])
    assert found.boxes.tolist() == [[8.0, 24.0, 40.0, 56.0]]
    expected = np.array([24, 40]) + np.arange(10).reshape(5, 2) * 0.8
    np.testing.assert_allclose(found.kps[0], expected, rtol=0, atol=1e-5)
    assert found.det_scores[0] == pytest.approx(1 / (1 + np.exp(4 - 9 * 127.5 / 128)), abs=1e-6)
    assert found.frame.image is image


def test_coordinates_are_those_of_the_picture(tmp_path: Path) -> None:
    image = np.zeros((128, 256, 3), np.uint8)  # halved on a canvas of 64x128
    image[80:96, 48:64] = 255
    (found,) = detector(tiny(tmp_path / "tiny.onnx", plain=True), long_side=128)([frame(image)])
    assert found.boxes.tolist() == [[16.0, 48.0, 80.0, 112.0]]


def test_each_axis_has_its_own_scale(tmp_path: Path) -> None:
    # 25x192 becomes 16x128, not 16.67x128: with one scale for both, a face at the right end of a
    # wide picture would lie 8 pixels beside its place.
    image = np.zeros((25, 192, 3), np.uint8)
    image[12:, 168:180] = 255
    (found,) = detector(tiny(tmp_path / "tiny.onnx", plain=True), long_side=128)([frame(image)])
    assert found.boxes.tolist() == [[144.0, -12.5, 192.0, 37.5]]
    assert found.kps[0, 0].tolist() == pytest.approx([168.0, (8 + 0.1 * 8) / 0.64])


@pytest.mark.parametrize("layout", ["cells", "pictures", "deep"])
@pytest.mark.parametrize("batch", [1, "n"])
def test_every_layout_equals_the_slow_reference(
    tmp_path: Path, layout: str, batch: int | str
) -> None:
    path = tiny(tmp_path / "tiny.onnx", layout=layout, batch=batch)
    sizes = [(90, 160), (90, 160), (160, 90), (64, 64), (200, 300), (90, 160), (33, 400), (12, 20)]
    pictures = [blobs(h, w, seed) for seed, (h, w) in enumerate(sizes)]
    found = detector(path, long_side=160)(pictures)
    assert [faces.frame for faces in found] == pictures
    assert sum(len(faces) for faces in found) > 20
    canvases = [
        (96, 160),
        (96, 160),
        (160, 96),
        (160, 160),
        (128, 160),
        (96, 160),
        (32, 160),
        (96, 160),
    ]
    for picture, faces, canvas in zip(pictures, found, canvases, strict=True):
        assert_same(faces, slow(path, picture, canvas))
        assert (np.diff(faces.det_scores) <= 0).all()


@pytest.mark.parametrize("layout", ["cells", "pictures", "deep"])
def test_a_free_batch_runs_pictures_of_one_canvas_together(
    tmp_path: Path, layout: str, calls: list[tuple[int, ...]]
) -> None:
    path = tiny(tmp_path / "tiny.onnx", layout=layout, batch="n")
    find = detector(path, long_side=96)
    pictures = [blobs(50, 96, seed) for seed in range(11)]
    pictures[4] = blobs(96, 50, 99)
    alone = [find([picture])[0] for picture in pictures]
    calls.clear()
    together = find(pictures)
    assert calls == [(8, 3, 64, 96), (2, 3, 64, 96), (1, 3, 96, 64)]
    for one, many in zip(alone, together, strict=True):
        assert_same(many, one, atol=1e-4)


def test_a_file_that_mixes_its_batch_runs_one_picture_at_a_time(
    tmp_path: Path, calls: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=scrfd_file.__name__):
        find = detector(tiny(tmp_path / "t.onnx", batch="n", mixed_batch=True), long_side=96)
    assert "one by one" in caplog.text
    calls.clear()
    find([blobs(96, 96, seed) for seed in range(3)])
    assert {shape[0] for shape in calls} == {1}


def test_outputs_are_told_apart_by_their_shape(tmp_path: Path) -> None:
    picture = blobs(96, 96, 3)
    straight = detector(tiny(tmp_path / "a.onnx"), long_side=96)([picture])[0]
    order = [8, 0, 3, 1, 7, 2, 4, 6, 5]
    shuffled = detector(tiny(tmp_path / "b.onnx", order=order), long_side=96)([picture])[0]
    assert len(straight) > 1
    assert_same(shuffled, straight, atol=0)


def test_the_least_score_is_the_users(tmp_path: Path) -> None:
    path = tiny(tmp_path / "tiny.onnx")
    picture = blobs(96, 96, 3)
    lengths = []
    for least in (0.3, 0.6, 0.95):
        (found,) = detector(path, long_side=96, min_score=least)([picture])
        assert_same(found, slow(path, picture, (96, 96), least))
        assert (found.det_scores >= least).all()
        lengths.append(len(found))
    assert lengths[0] > lengths[-1]


def test_no_frames_and_no_faces(tmp_path: Path) -> None:
    find = detector(tiny(tmp_path / "tiny.onnx"), long_side=96)
    assert find([]) == []
    (found,) = find([frame(np.zeros((30, 40, 3), np.uint8))])
    assert len(found) == 0
    assert (found.boxes.shape, found.kps.shape) == ((0, 4), (0, 5, 2))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 50)])
def test_pictures_of_extreme_shapes_are_searched(tmp_path: Path, size: tuple[int, int]) -> None:
    find = detector(tiny(tmp_path / "tiny.onnx"))
    (found,) = find([frame(np.full((*size, 3), 255, np.uint8))])
    assert np.isfinite(found.boxes).all()


def test_results_do_not_change_with_later_calls(tmp_path: Path) -> None:
    find = detector(tiny(tmp_path / "tiny.onnx"), long_side=96)
    (first,) = find([blobs(96, 96, 1)])
    kept = first.boxes.copy(), first.kps.copy(), first.det_scores.copy()
    find([blobs(96, 96, 2)])
    find([blobs(50, 96, 2)])
    for array, copy in zip((first.boxes, first.kps, first.det_scores), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_threads_share_a_detector(tmp_path: Path) -> None:
    find = detector(tiny(tmp_path / "tiny.onnx"), long_side=160)
    pictures = [blobs(60 + 7 * (seed % 5), 160, seed) for seed in range(60)]
    alone = [find([picture])[0] for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda picture: find([picture])[0], pictures * 5))
    for i, faces in enumerate(found):
        assert_same(faces, alone[i % len(alone)], atol=0)


# --- the second search ---


def test_what_is_too_large_is_found_at_a_smaller_scale(
    tmp_path: Path, calls: list[tuple[int, ...]]
) -> None:
    image = np.zeros((360, 640, 3), np.uint8)
    image[107:267, 213:373] = 255  # after the scaling whole cells of stride 32
    find = detector(tiny(tmp_path / "tiny.onnx", small_only=True, plain=True))
    calls.clear()
    (found,) = find([frame(image)])
    assert calls == [(1, 3, 384, 640), (1, 3, 128, 192)]
    sides = found.boxes[0, 2:] - found.boxes[0, :2]
    np.testing.assert_allclose(sides, 4 * 32 / 0.3, rtol=0.01)  # four strides, in picture pixels
    x, y = (found.boxes[0, 2:] + found.boxes[0, :2]) / 2
    assert (x, y) == pytest.approx((213, 107), abs=1)  # the cell's corner


def test_there_is_no_second_search_where_something_was_found(
    tmp_path: Path, calls: list[tuple[int, ...]]
) -> None:
    find = detector(tiny(tmp_path / "tiny.onnx"))
    calls.clear()
    dark = frame(np.zeros((360, 640, 3), np.uint8))
    found = find([blobs(360, 640, 1), dark, blobs(360, 640, 2)])
    assert [bool(len(faces)) for faces in found] == [True, False, True]
    assert calls == [(1, 3, 384, 640)] * 3 + [(1, 3, 128, 192)]


def test_large_faces_are_as_the_second_search_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their scores and all other faces are the first one's."""
    picture = frame(np.zeros((720, 1280, 3), np.uint8))  # halved on the canvas

    def faces(*sides: tuple[float, float, float], shift: float = 0.0) -> Detections:
        boxes = np.float32([[x, 10, x + side, 10 + side] for x, side, _ in sides]) + shift
        kps = boxes[:, None, :2] + np.float32([[9, 9], [30, 9], [20, 20], [10, 30], [28, 30]])
        scores = np.float32([score for *_, score in sides])
        return Detections(picture, boxes.astype(np.float32), scores, kps.astype(np.float32))

    first = faces((0, 802, 0.9), (850, 100, 0.8), (700, 805, 0.7))
    second = faces((200, 40, 0.99), (0, 800, 0.6), (850, 100, 0.5), shift=4)
    scales = []

    def search(frames: Sequence[Frame], scale: float, _: float = 0) -> list[Detections]:
        scales.append((len(frames), scale))
        return [first if scale == 1 else second for _ in frames]

    find = detector(tiny(tmp_path / "tiny.onnx"))
    monkeypatch.setattr(find, "_search", search)
    (found,) = find([picture])
    assert scales == [(1, 1.0), (0, 0.2), (1, scrfd.RETRY_SCALE)]
    assert found.det_scores.tolist() == first.det_scores.tolist()
    np.testing.assert_array_equal(found.boxes, [second.boxes[1], *first.boxes[1:]])
    np.testing.assert_array_equal(found.kps, [second.kps[1], *first.kps[1:]])
    first, scales[:] = faces((0, 798, 0.9)), []
    (found,) = find([picture])
    for got, expected in (
        (found.boxes, first.boxes),
        (found.kps, first.kps),
        (found.det_scores, first.det_scores),
    ):
        np.testing.assert_array_equal(got, expected)
    assert scales == [(1, 1.0), (0, 0.2), (0, scrfd.RETRY_SCALE)]


def test_there_is_no_second_search_of_a_small_one(
    tmp_path: Path, calls: list[tuple[int, ...]]
) -> None:
    find = detector(tiny(tmp_path / "tiny.onnx"), long_side=256)
    calls.clear()
    find([frame(np.zeros((256, 256, 3), np.uint8))])
    assert calls == [(1, 3, 256, 256)]


# --- closer looks ---


def spots(*at: tuple[int, int]) -> Frame:
    """White squares; on the canvas, half the size, each fills a cell of stride 8: a face of 32."""
    image = np.zeros((720, 1280, 3), np.uint8)
    for x, y in at:
        image[y : y + 16, x : x + 16] = 255
    return frame(image)


@pytest.mark.parametrize("batch", [1, "n"])
def test_small_faces_are_looked_at_closer(
    tmp_path: Path, calls: list[tuple[int, ...]], batch: int | str
) -> None:
    find = detector(tiny(tmp_path / "tiny.onnx", plain=True, batch=batch))
    pictures = [spots((320, 160), (800, 400)), spots(), spots((640, 320))]
    first = find._search(pictures, 1.0)
    assert [len(faces) for faces in first] == [2, 0, 1]
    calls.clear()
    found = find(pictures)
    assert [shape for shape in calls if shape[2:] == (128, 128)] == (
        [(3, 3, 128, 128)] if batch == "n" else [(1, 3, 128, 128)] * 3
    )
    for faces, before, picture in zip(found, first, pictures, strict=True):
        assert faces.frame is picture
        for box, kps, score, far, at, unsure in zip(
            faces.boxes, faces.kps, faces.det_scores,
            before.boxes, before.kps, before.det_scores, strict=True,
        ):  # fmt: skip
            # 104 pixels around it become 128, so that its square fills a cell of stride 16.
            x, y = np.floor(far[:2] - 0.3 * 64)
            cut = frame(picture.image[int(y) : int(y) + 104, int(x) : int(x) + 104])
            (seen,) = find._search([cut], 128 / 640)
            middle = np.abs(seen.boxes - far + np.tile([x, y], 2)).sum(axis=1).argmin()
            np.testing.assert_allclose(box, seen.boxes[middle] + [x, y, x, y], atol=1e-3)
            np.testing.assert_allclose(kps, seen.kps[middle] + [x, y], atol=1e-3)
            assert score == pytest.approx((unsure + seen.det_scores[middle]) / 2, abs=1e-6)
            assert np.abs(kps - at).max() > 1


def test_what_the_closer_look_makes_sure_is_found_and_what_it_does_not_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = spots()

    def faces(of: Frame, *rows: tuple[float, float, float]) -> Detections:
        """Squares of 40 pixels with their corner and score."""
        boxes = np.float32([[x, y, x + 40, y + 40] for x, y, _ in rows]).reshape(-1, 4)
        kps = boxes[:, None, :2] + np.float32([[9, 9], [30, 9], [20, 20], [10, 30], [28, 30]])
        scores = np.float32([score for *_, score in rows])
        return Detections(of, boxes, scores, kps.astype(np.float32))

    first = faces(picture, (100, 100, 0.9), (300, 100, 0.6), (500, 100, 0.4), (520, 100, 0.3))
    looks_at = [0.3, 0.2, 0.9, 0.8]  # the last one is on the same face, moved to where it is
    asked = []

    def search(frames: Sequence[Frame], scale: float, least: float = 0) -> list[Detections]:
        asked.append((len(frames), least))
        if scale == 1:
            return [first]
        return [
            faces(cut, (12 if i < 3 else -3, 12, score))
            for i, (cut, score) in enumerate(zip(frames, looks_at, strict=False))
        ]

    find = detector(tiny(tmp_path / "tiny.onnx"))
    monkeypatch.setattr(find, "_search", search)
    (found,) = find([picture])
    assert asked[:2] == [(1, looks.CLOSER_LEAST), (4, looks.CLOSER_LEAST)]
    np.testing.assert_allclose(found.det_scores, [0.65, 0.6])  # the surest first
    np.testing.assert_array_equal(found.boxes[:, 0], [500, 100])


def test_faces_of_a_fixed_size_are_not_looked_at_closer(
    tmp_path: Path, calls: list[tuple[int, ...]]
) -> None:
    find = detector(tiny(tmp_path / "tiny.onnx", plain=True, size=(384, 640)))
    calls.clear()
    (found,) = find([spots((320, 160))])
    assert len(found) == 1
    assert calls == [(1, 3, 384, 640)]


# --- what is not a number ---


@pytest.mark.parametrize("where", ["scores", "boxes", "kps"])
@pytest.mark.parametrize("kind", ["Sqrt", "Reciprocal"])
def test_faces_that_are_not_numbers_are_dropped(tmp_path: Path, kind: str, where: str) -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    image[8:16, 8:16] = 255
    image[64:72, 64:72] = (255, 255, 0)  # BGR: no red
    whole = detector(tiny(tmp_path / "a.onnx", plain=True), long_side=96)([frame(image)])[0]
    assert len(whole) == 2
    spoilt = tiny(tmp_path / "b.onnx", plain=True, spoil=f"{kind} {where}")
    (found,) = detector(spoilt, long_side=96)([frame(image)])
    assert found.boxes.tolist() == [[-8.0, -8.0, 24.0, 24.0]]
    assert np.isfinite(found.kps).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_boxes_without_extent_are_dropped(tmp_path: Path, axis: int) -> None:
    path = tiny(tmp_path / "tiny.onnx", plain=True)
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.shape == (8,):  # the bias of two anchors' boxes
            turned = values.copy()
            turned[axis::2] *= -1
            tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))
    onnx.save(model, str(path))
    image = np.full((96, 96, 3), 255, np.uint8)
    assert len(detector(path, long_side=96)([frame(image)])[0]) == 0


def test_scores_above_one_are_an_error(tmp_path: Path) -> None:
    find = detector(tiny(tmp_path / "tiny.onnx", sigmoid=False), long_side=96)
    with pytest.raises(WeightsError, match=r"tiny\.onnx gives scores above 1: .*sigmoid"):
        find([frame(np.full((96, 96, 3), 255, np.uint8))])


# --- files and options ---


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"order": range(6)}, "it gives no landmarks, and blurgate needs five"),
        ({"order": range(5)}, "it has 5 outputs, not nine"),
        ({"columns": (1, 4, 8)}, "its outputs are"),
        ({"columns": (2, 4, 10)}, "its outputs are"),
        ({"order": [0, 1, 2, 3, 4, 5, 6, 7, 7]}, "its outputs are"),
        ({"size": (100, 128)}, "its size is fixed at 100x128, no multiples of 32"),
        ({"size": (128, "w")}, "one side is fixed and the other is free"),
        ({"batch": 4}, "its batch is fixed at 4; export it with 1 or a free one"),
        ({"elem": TensorProto.FLOAT16}, "not one float tensor"),
    ],
)
def test_files_that_are_no_scrfd_are_refused(
    tmp_path: Path, facts: dict[str, Any], message: str
) -> None:
    path = tmp_path / "odd.onnx"
    if "elem" in facts:  # onnxruntime would refuse a half-precision input of these operators
        model = helper.make_model(
            helper.make_graph(
                [helper.make_node("Identity", ["x"], ["y"])],
                "g",
                [helper.make_tensor_value_info("x", facts["elem"], [1, 3, "h", "w"])],
                [helper.make_tensor_value_info("y", facts["elem"], None)],
            ),
            opset_imports=[helper.make_opsetid("", 13)],
            ir_version=8,
        )
        path.write_bytes(model.SerializeToString())
    elif facts.get("order") == [0, 1, 2, 3, 4, 5, 6, 7, 7]:
        path = repeated_output(path)
    else:
        tiny(path, **facts)
    with pytest.raises(WeightsError, match=message) as caught:
        detector(path)
    assert "odd.onnx is not an SCRFD face detector" in str(caught.value)
    assert caught.value.path == str(path)


def repeated_output(path: Path) -> Path:
    """The landmarks of stride 16 twice, and those of stride 32 not at all."""
    model = onnx.load(str(tiny(path)))
    del model.graph.output[-1]
    model.graph.node.append(helper.make_node("Identity", [model.graph.output[-1].name], ["twice"]))
    model.graph.output.append(helper.make_tensor_value_info("twice", TensorProto.FLOAT, None))
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("layout", ["cells", "deep"])
@pytest.mark.parametrize("long_side", [640, 160])  # the default, and the file's own
def test_a_fixed_size_is_kept(
    tmp_path: Path, layout: str, long_side: int, calls: list[tuple[int, ...]]
) -> None:
    path = tiny(tmp_path / "tiny.onnx", size=(96, 160), layout=layout)
    find = detector(path, long_side=long_side)
    pictures = [blobs(90, 160, 1), blobs(160, 90, 2), blobs(300, 310, 3)]
    calls.clear()
    found = find(pictures)
    assert {shape[2:] for shape in calls} == {(96, 160)}
    for picture, faces in zip(pictures, found, strict=True):
        assert len(faces)
        assert_same(faces, slow(path, picture, (96, 160)))


def test_a_fixed_size_has_its_second_search_in_a_corner(
    tmp_path: Path, calls: list[tuple[int, ...]]
) -> None:
    image = np.zeros((640, 640, 3), np.uint8)
    image[200:500, 200:500] = 255
    path = tiny(tmp_path / "tiny.onnx", size=(640, 640), small_only=True, plain=True)
    find = detector(path)
    calls.clear()
    (found,) = find([frame(image)])
    assert calls == [(1, 3, 640, 640)] * 2
    assert len(found) == 1
    x, y = (found.boxes[0, 2:] + found.boxes[0, :2]) / 2
    assert 200 <= x <= 500
    assert 200 <= y <= 500


@pytest.mark.parametrize("layout", ["cells", "pictures", "deep"])
def test_rows_say_what_every_anchor_says(tmp_path: Path, layout: str) -> None:
    picture = blobs(96, 160, 5)
    path = tiny(tmp_path / "tiny.onnx", layout=layout)
    scores, boxes, kps, _ = detector(path).rows(picture.image)
    assert len(scores) == len(boxes) == len(kps) == 2 * (12 * 20 + 6 * 10 + 3 * 5)
    found = slow(path, picture, (96, 160), min_score=0.05)
    assert len(found) > 5
    for score, box, points in zip(found.det_scores, found.boxes, found.kps, strict=True):
        row = np.abs(boxes - box).sum(axis=1).argmin()
        assert scores[row] == pytest.approx(score, abs=1e-5)
        np.testing.assert_allclose(boxes[row], box, rtol=0, atol=1e-3)
        np.testing.assert_allclose(kps[row], points, rtol=0, atol=1e-3)
    fixed = detector(tiny(tmp_path / "fixed.onnx", size=(64, 64)))
    assert len(fixed.rows(np.zeros((64, 64, 3), np.uint8))[0]) == 2 * (64 + 16 + 4)
    with pytest.raises(ConfigError, match="is fixed at 64x64, so it cannot teach pictures of 96x1"):
        fixed.rows(picture.image)


def test_rows_give_what_is_watched_beside_them(tmp_path: Path) -> None:
    picture = blobs(96, 160, 5)
    find = detector(tiny(tmp_path / "tiny.onnx"))
    before = find.rows(picture.image)
    assert not before.watched
    (found,) = find([picture])
    find.watch(["AveragePool_0"])
    after = find.rows(picture.image)
    for one, other in zip(before[:3], after[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    (cells,) = after.watched
    rgb = (picture.image[..., ::-1].astype(np.float64) - 127.5) / 128
    means = rgb.reshape(12, 8, 20, 8, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(cells[0], np.moveaxis(means, -1, 0), rtol=0, atol=1e-5)
    assert_same(find([picture])[0], found)
    with pytest.raises(WeightsError, match=r"tiny\.onnx has no output 'neck'"):
        find.watch(["neck"])


def test_a_size_that_contradicts_the_files_is_an_error(tmp_path: Path) -> None:
    path = tiny(tmp_path / "tiny.onnx", size=(96, 160))
    with pytest.raises(ConfigError, match="is fixed at 96x160, so a long side of 320 is not possi"):
        detector(path, long_side=320)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long_side": 31}, "long side is at least 32, not 31"),
        ({"min_score": 0.0}, r"least score is in \(0, 1\], not 0\.0"),
        ({"min_score": 1.1}, r"least score is in \(0, 1\], not 1\.1"),
        ({"min_score": float("nan")}, r"least score is in \(0, 1\], not nan"),
    ],
)
def test_impossible_options_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        detector(tiny(tmp_path / "tiny.onnx"), **options)


def test_the_plugin_is_registered_and_wants_a_file(tmp_path: Path) -> None:
    make = get_host().registry("detector")["scrfd"].factory
    with pytest.raises(WeightsError, match="'scrfd' runs a file; name it: --detector"):
        make(None, CPU, DetectorOptions())
    path = tiny(tmp_path / "tiny.onnx")
    model = ModelFile(path, ModelInfo("tiny", "ab" * 32))
    assert make(model, CPU, DetectorOptions()).info is model.info


# --- the real weights ---


def photos(shared: Path, step: int = 1) -> list[Frame]:
    files = sorted((shared / "data" / "detection" / "images").iterdir())[::step]
    return [frame(cv2.imread(str(path)), path.name) for path in files]


def t1() -> Frame:
    insightface = pytest.importorskip("insightface", reason="its bundled picture is needed")
    return frame(insightface.data.get_image("t1"), "t1")


def reference(path: Path, min_score: float = 0.5) -> Callable[[Array, tuple[int, int]], Any]:
    """insightface's own runner: (picture, (h, w) of the canvas) -> boxes with scores, landmarks."""
    module = pytest.importorskip(
        "insightface.model_zoo.scrfd", reason="the reference implementation"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = make_session(path, CPU)
        model = module.SCRFD(str(path), session=session, static_shape_sessions=False)
        model.prepare(-1, det_thresh=min_score)

    def detect(image: Array, canvas: tuple[int, int]) -> Any:
        boxes, kps = model.detect(image, input_size=canvas[::-1])
        across = two_scales(image.shape[:2], canvas)
        boxes[:, [0, 2]] *= across
        kps[..., 0] *= across
        return boxes, kps

    return detect


def two_scales(size: tuple[int, ...], canvas: tuple[int, int]) -> float:
    """What insightface's x has to be multiplied by: it has the heights' ratio for both axes."""
    h, w = fit_canvas(size, canvas).inner  # type: ignore[arg-type]
    return (h / size[0]) / (w / size[1])


@pytest.mark.shared
@pytest.mark.parametrize("name", WEIGHTS)
def test_faces_equal_insightface(shared: Path, name: str) -> None:
    path = shared / "data" / "weights" / name
    find, theirs = detector(path), reference(path)
    pictures = [t1(), *photos(shared, step=1 if "500m" in name else 3)]
    n_faces = 0
    for picture in pictures:
        h, w = picture.size
        scale = 640 / max(h, w)
        canvas = -(-int(h * scale) // 32) * 32, -(-int(w * scale) // 32) * 32
        boxes, kps = theirs(picture.image, canvas)
        (found,) = find([picture])
        if len(boxes) == 0:
            continue  # ours looks a second time
        assert len(found) == len(boxes), picture.source
        np.testing.assert_allclose(found.boxes, boxes[:, :4], rtol=0, atol=0.01)
        np.testing.assert_allclose(found.kps, kps, rtol=0, atol=0.01)
        np.testing.assert_allclose(found.det_scores, boxes[:, 4], rtol=0, atol=1e-5)
        n_faces += len(boxes)
    assert n_faces > 100


@pytest.mark.shared
@pytest.mark.parametrize("name", WEIGHTS)
def test_faces_equal_what_insightface_found_when_the_golden_was_made(
    shared: Path, name: str
) -> None:
    find = detector(shared / "data" / "weights" / name)
    for photo, faces in json.loads(GOLDEN.read_text(encoding="utf-8"))[name].items():
        image = cv2.imread(str(shared / "data" / "detection" / "images" / photo))
        (found,) = find([frame(image, photo)])
        expected = np.array(faces, np.float32)
        expected[:, 1::2] *= two_scales(image.shape[:2], (640, 640))
        assert len(found) == len(expected), photo
        got = np.concatenate([found.boxes, found.kps.reshape(-1, 10)], axis=1)
        # JPEG decoders of different builds differ by a grey level, which moves a box a little.
        np.testing.assert_allclose(got, expected[:, 1:], rtol=0, atol=0.25)
        np.testing.assert_allclose(found.det_scores, expected[:, 0], rtol=0, atol=0.01)


@pytest.mark.shared
@pytest.mark.parametrize("name", WEIGHTS)
def test_real_weights_of_a_fixed_size_work_at_it(
    shared: Path, tmp_path: Path, name: str, calls: list[tuple[int, ...]]
) -> None:
    model = onnx.load(str(shared / "data" / "weights" / name))
    for dimension, value in zip(
        model.graph.input[0].type.tensor_type.shape.dim[2:], (320, 480), strict=True
    ):
        dimension.dim_value = value
    path = tmp_path / "fixed.onnx"
    onnx.save(model, str(path))
    find, theirs = detector(path), reference(path)
    calls.clear()
    for picture in photos(shared, step=20):
        boxes, kps = theirs(picture.image, (320, 480))
        (found,) = find([picture])
        if len(boxes):
            np.testing.assert_allclose(found.boxes, boxes[:, :4], rtol=0, atol=0.01)
            np.testing.assert_allclose(found.kps, kps, rtol=0, atol=0.01)
    assert {shape[2:] for shape in calls} == {(320, 480)}
    with pytest.raises(ConfigError, match="is fixed at 320x480, so a long side of 512"):
        detector(path, long_side=512)


@pytest.mark.shared
def test_real_weights_with_their_batch_freed_run_together(
    shared: Path, tmp_path: Path, calls: list[tuple[int, ...]]
) -> None:
    source = shared / "data" / "weights" / WEIGHTS[1]
    model = onnx.load(str(source))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    path = tmp_path / "free.onnx"
    onnx.save(model, str(path))
    pictures = [frame(cv2.resize(p.image, (320, 240)), p.source) for p in photos(shared, step=12)]
    one_by_one = detector(source, long_side=320)
    alone = [one_by_one([picture])[0] for picture in pictures]
    find = detector(path, long_side=320)
    calls.clear()
    together = find(pictures)
    assert calls[0] == (len(pictures), 3, 256, 320)
    assert sum(len(faces) for faces in alone) > 10
    for one, many in zip(alone, together, strict=True):
        assert_same(many, one)


@pytest.mark.shared
@pytest.mark.parametrize("name", WEIGHTS)
def test_faces_that_fill_the_picture_are_found(shared: Path, name: str) -> None:
    find = detector(shared / "data" / "weights" / name)
    files = sorted((shared / "data" / "faces_train" / "utkface").glob("*.jpg"))[::150]
    chips = [frame(cv2.imread(str(path)), path.name) for path in files]
    first = [len(faces) for faces in find._search(chips, 1.0)]
    assert sum(map(bool, first)) <= 1  # the weights miss them at 640
    assert [len(faces) for faces in find(chips)] == [1] * len(chips)
