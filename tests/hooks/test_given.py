"""Faces that other programs found, through `Gate`, `gate_faces` and OpenCV's own detector."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from blurgate import Gate
from blurgate.errors import MissingModelError, ShapeError
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.given import given_faces
from blurgate.hooks import gate_faces
from blurgate.types import Frame

BOX = [10.0, 20.0, 122.0, 132.0]
KPS = np.add(ARCFACE_TEMPLATE, [10, 20])
LAPLACIAN = {"model": "laplacian", "threshold": 0.4}


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (160, 200, 3), np.uint8)


def frame():
    return Frame(picture(), "", 0, None)


def yunet_row(box, kps, score):
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1, *np.ravel(kps), score]


@pytest.fixture
def no_models(monkeypatch, tmp_path):
    monkeypatch.setenv("BLURGATE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("boxes", "kps", "scores", "score"),
    [
        ([BOX], [KPS], None, 1.0),
        ([BOX], np.float64([KPS]).reshape(1, 10), [0.25], 0.25),
        (np.float32([[*BOX, 0.5]]), [KPS.tolist()], None, 0.5),
        (np.float32([[*BOX, 0.5]]), [KPS], [0.75], 0.75),
        (np.float32([yunet_row(BOX, KPS, 0.5)]), None, None, 0.5),
        ([tuple(BOX)], [KPS[:2]], None, 1.0),
    ],
)
def test_every_form_is_the_same_face(boxes, kps, scores, score):
    found = given_faces(frame(), boxes, kps, scores)
    np.testing.assert_allclose(found.boxes, [BOX])
    np.testing.assert_allclose(found.kps, [KPS], atol=1e-4)
    assert found.det_scores.tolist() == [score]


def test_two_eyes_are_completed_as_the_template_has_them_turned():
    # A quarter turn about (50, 50), twice as large: (x, y) -> (50 - 2 (y - 50), 50 + 2 (x - 50)).
    turned = np.stack([150 - 2 * ARCFACE_TEMPLATE[:, 1], 2 * ARCFACE_TEMPLATE[:, 0] - 50], axis=1)
    found = given_faces(frame(), [BOX, BOX], [KPS[:2], turned[:2]])
    np.testing.assert_allclose(found.kps, [KPS, turned], atol=1e-3)


@pytest.mark.parametrize("none", [None, [], np.empty((0, 4)), np.empty((0, 15), np.float32)])
def test_no_faces_are_no_verdicts(none, no_models):
    assert gate_faces(picture(), none, None, **LAPLACIAN) == []
    assert Gate(0.4, scorer="laplacian")(picture(), none) == []


@pytest.mark.parametrize(
    ("boxes", "kps", "scores", "message"),
    [
        ([BOX[:3]], [KPS], None, r"boxes must be \(n, 4\).*got \(1, 3\)"),
        (BOX, [KPS], None, r"got \(4,\)"),
        (5.0, [KPS], None, r"boxes must be \(n, 4\).*got one number"),
        (["face"], None, None, "got something else"),
        ([[*BOX[:3], np.nan]], [KPS], None, "not finite"),
        ([BOX], None, None, "Leave the boxes out to let the gate detect"),
        ([BOX], [KPS, KPS], None, r"got \(2, 5, 2\) for 1 boxes"),
        ([BOX], [KPS[:3]], None, r"landmarks must be \(n, 5, 2\)"),
        ([BOX], [KPS * np.inf], None, "not finite"),
        ([yunet_row(BOX, KPS, 1)], [KPS], None, "hold their landmarks"),
        ([BOX], [KPS], [0.5, 0.5], "one number for each of 1 faces"),
    ],
)
def test_what_is_not_understood_is_refused(boxes, kps, scores, message):
    with pytest.raises(ShapeError, match=message):
        given_faces(frame(), boxes, kps, scores)


def test_tensors_of_a_model_that_learns_are_taken():
    torch = pytest.importorskip("torch")
    boxes, kps = torch.tensor([BOX], requires_grad=True), torch.tensor(KPS[None]).bfloat16()
    found = given_faces(frame(), boxes, kps, torch.tensor([0.5]).bfloat16().requires_grad_())
    assert found.boxes.tolist() == [BOX]
    np.testing.assert_allclose(found.kps, [KPS], rtol=1 / 256)  # 8 bits
    assert found.det_scores.tolist() == [0.5]
    with pytest.raises(ShapeError, match="got something else"):
        given_faces(frame(), [boxes[0]], kps)


def test_given_faces_get_the_verdicts_of_detected_ones(marker):
    image = np.full((240, 400, 3), 60, np.uint8)
    marker.draw(image, 10, 40, 140, sharp=True)
    marker.draw(image, 200, 40, 140, sharp=False, seed=1)
    gate = Gate(0.4, detector="marker", scorer="laplacian")
    (found,) = marker.MarkerDetector()([Frame(image, "", 0, None)])
    expected = gate(image)
    assert [v.decision for v in expected] == ["keep", "reject"]
    assert gate(image, found.boxes, found.kps, found.det_scores) == expected
    assert gate_faces(image, found.boxes, found.kps, found.det_scores, **LAPLACIAN) == expected
    swapped = gate(image, found.boxes[::-1], found.kps[::-1])
    assert [v.decision for v in swapped] == ["reject", "keep"]
    assert [v.face_index for v in swapped] == [0, 1]


def test_rules_reach_gate_faces():
    (verdict,) = gate_faces(picture(), [BOX], [KPS], min_face=113, **LAPLACIAN)
    assert (verdict.decision, verdict.reason) == ("reject", "too_small")
    (verdict,) = gate_faces(picture(), [BOX], [KPS], review=0.4, **LAPLACIAN)
    assert verdict.decision == "review"


def test_crops_of_any_size_are_scored_in_order(no_models):
    gate = Gate(0.4, scorer="laplacian")
    sharp = picture()[:112, :112]
    flat = np.zeros((40, 50, 3), np.uint8)
    verdicts = gate.crops([sharp, flat])
    assert [(v.frame_index, v.decision, v.face_px) for v in verdicts] == [
        (0, "keep", 112.0),
        (1, "reject", 40.0),
    ]
    assert [v.blur_degree for v in gate.crops(np.stack([sharp] * 40))] == [
        verdicts[0].blur_degree
    ] * 40
    assert gate.crops(np.empty((0, 112, 112, 3), np.uint8)) == []
    with pytest.raises(ShapeError, match="image must be uint8"):
        gate.crops(np.zeros((2, 112, 112, 3)))
    with pytest.raises(ShapeError, match=r"crop 1 has no pixels: \(0, 5, 3\)"):
        gate.crops([sharp, np.zeros((0, 5, 3), np.uint8)])


def test_a_detector_is_looked_for_when_it_is_needed(bare_zoo):
    gate = Gate(0.4, scorer="laplacian")
    assert len(gate(picture(), [BOX], [KPS])) == 1
    with pytest.raises(MissingModelError, match="blurgate models pull"):
        gate(picture())


def test_the_import_is_light(printed):
    code = (
        "import sys; from blurgate.hooks import gate_faces; "
        "print(sorted({'numpy', 'cv2', 'av', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    assert printed(code).strip() == "[]"


@pytest.mark.shared
def test_opencvs_rows_are_our_landmarks(shared):
    """The two eyes and the two mouth corners are where SCRFD, which has our order, finds them."""
    weights = shared / "data" / "weights"
    gate = Gate(0.4, detector=str(weights / "scrfd_2.5g_bnkps.onnx"), scorer="laplacian")
    opencv = cv2.FaceDetectorYN.create(
        str(weights / "face_detection_yunet_2026may.onnx"), "", (0, 0)
    )
    errors, degrees = [], []
    for path in sorted((shared / "data" / "faces_eval").rglob("*_0001.jpg"))[:6]:
        image = cv2.imread(str(path))
        opencv.setInputSize(image.shape[1::-1])
        _, rows = opencv.detect(image)
        best = rows[[rows[:, 2].argmax()]]
        (theirs,) = gate_faces(image, best, **LAPLACIAN)
        (found,) = gate.detector([Frame(image, "", 0, None)])
        ours = gate(image)
        at = int(np.argmax(found.boxes[:, 2] - found.boxes[:, 0]))
        kps = given_faces(Frame(image, "", 0, None), best).kps[0]
        width = found.boxes[at, 2] - found.boxes[at, 0]
        errors.append(np.linalg.norm(kps - found.kps[at], axis=1) / width)
        degrees.append((theirs.blur_degree, ours[at].blur_degree))
        assert theirs.det_score == pytest.approx(float(best[0, 14]))
    assert np.median(errors, axis=0).max() < 0.1  # exchanged eyes would be 0.4 apart
    assert np.abs(np.diff(degrees)).max() < 0.1
