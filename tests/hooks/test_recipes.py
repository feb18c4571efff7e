"""The recipes of docs/hooks.md run as they stand, on stand-ins and on what is installed."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.hooks import gate_faces

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text(encoding="utf-8")
SIDE = 120
CORNERS = ((20, 30), (200, 30))
KPS = np.float32([ARCFACE_TEMPLATE * (SIDE / 112) + corner for corner in CORNERS])
BOXES = [(x, y, x + SIDE, y + SIDE) for x, y in CORNERS]


def recipe(title):
    """The code under a heading."""
    section = PAGE.split(f"\n## {title}\n")[1]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


@pytest.fixture
def image():
    """A sharp face on the left, a blurred one on the right."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    image = cv2.resize(noise, (400, 240), interpolation=cv2.INTER_NEAREST)
    image[:, 180:] = cv2.GaussianBlur(image[:, 180:], (0, 0), 9)
    return image


def verdicts(title, image, **names):
    def gate(*faces, **options):
        return gate_faces(*faces, model="laplacian", **options)

    scope = {"image": image, "gate_faces": gate, "cv2": cv2, **names}
    exec(recipe(title), scope)
    return scope["verdicts"]


def test_any_pipeline(image, monkeypatch):
    monkeypatch.setattr("blurgate.zoo.default_name", lambda kind: "laplacian")
    scope = {"image": image, "boxes": BOXES, "kps": KPS}
    exec(recipe("Any pipeline"), scope)
    assert scope["usable"] == [0]


class FakeMtcnn:
    """Answers as `MTCNN.detect(..., landmarks=True)` of facenet-pytorch does."""

    def __init__(self, keep_all):
        assert keep_all

    def detect(self, image, landmarks):
        assert landmarks
        assert image.flags.c_contiguous
        if not image.any():
            return None, [None], None
        return np.float32(BOXES), np.float32([0.9, 0.8]), KPS


def test_facenet_pytorch(image):
    library = SimpleNamespace(MTCNN=FakeMtcnn)
    got = verdicts("facenet-pytorch", image, facenet_pytorch=library)
    assert [(v.decision, round(v.det_score, 3)) for v in got] == [("keep", 0.9), ("reject", 0.8)]
    assert verdicts("facenet-pytorch", np.zeros_like(image), facenet_pytorch=library) == []


@pytest.mark.parametrize("order", ["as seen", "as the person has it"])
def test_deepface(image, order):
    def extract_faces(image, detector_backend, enforce_detection=True):
        eyes = ("left_eye", "right_eye") if order == "as seen" else ("right_eye", "left_eye")
        cut = {"x": 300, "y": 30, "w": 99, "h": SIDE, "left_eye": None, "right_eye": (390, 80)}
        return [
            {"facial_area": cut},
            *(
                {
                    "facial_area": {
                        **{"x": x, "y": y, "w": SIDE, "h": SIDE},
                        **{name: tuple(map(int, kps[i])) for i, name in enumerate(eyes)},
                    }
                }
                for (x, y), kps in zip(CORNERS, KPS, strict=True)
            ),
        ]

    got = verdicts("deepface", image, DeepFace=SimpleNamespace(extract_faces=extract_faces))
    assert [v.decision for v in got] == ["keep", "reject"]


def test_deepface_without_a_face(image):
    def extract_faces(image, detector_backend, enforce_detection=True):
        if enforce_detection:
            raise ValueError("Face could not be detected in numpy array.")
        h, w = image.shape[:2]
        area = {"x": 0, "y": 0, "w": w - 1, "h": h - 1, "left_eye": None, "right_eye": None}
        return [{"facial_area": area}]

    library = SimpleNamespace(extract_faces=extract_faces)
    assert verdicts("deepface", image, DeepFace=library) == []


@pytest.mark.shared
def test_opencv(shared):
    path = str(shared / "data" / "weights" / "face_detection_yunet_2026may.onnx")
    photo = cv2.imread(str(next((shared / "data" / "faces_eval").rglob("*_0001.jpg"))))
    create = cv2.FaceDetectorYN.create
    stand_in = SimpleNamespace(
        FaceDetectorYN=SimpleNamespace(create=lambda name, config, size: create(path, config, size))
    )
    sharp = verdicts("OpenCV", photo, cv2=stand_in)
    soft = verdicts("OpenCV", cv2.GaussianBlur(photo, (0, 0), 1.5), cv2=stand_in)
    assert max(v.face_px for v in sharp) > 60
    assert min(v.blur_degree for v in soft) > max(v.blur_degree for v in sharp)


@pytest.mark.shared
def test_the_real_facenet_pytorch(shared):
    library = pytest.importorskip("facenet_pytorch", reason="not installed here")
    photo = cv2.imread(str(next((shared / "data" / "faces_eval").rglob("*_0001.jpg"))))
    (best, *_) = verdicts("facenet-pytorch", photo, facenet_pytorch=library)
    assert best.face_px > 60


@pytest.mark.shared
def test_the_real_deepface(shared):
    deepface = pytest.importorskip("deepface", reason="not installed here")
    photo = cv2.imread(str(next((shared / "data" / "faces_eval").rglob("*_0001.jpg"))))
    (best, *_) = verdicts("deepface", photo, DeepFace=deepface.DeepFace)
    assert best.face_px > 60
