"""Fields written into samples as FiftyOne's, which need not be installed."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from blurgate import Gate
from blurgate.errors import DecodeError
from blurgate.hooks.fiftyone import write_fields


class Sample(dict):
    saved = 0

    def __init__(self, filepath, **fields):
        super().__init__(fields)
        self.filepath = filepath

    def save(self):
        self.saved += 1


class TypedSample(Sample):
    """Of a dataset that takes the type of a new field from its first value, as FiftyOne does."""

    def __init__(self, filepath, schema):
        super().__init__(filepath)
        self.schema = schema

    def __setitem__(self, name, value):
        if name not in self.schema:
            if value is None:
                raise TypeError(f"Cannot infer an appropriate field type for value '{value}'")
            self.schema[name] = type(value)
        super().__setitem__(name, value)


class Label(dict):
    def __init__(self, *bounding_box):
        super().__init__()
        self.bounding_box = list(bounding_box)


@pytest.fixture
def gate(marker):
    return Gate(0.4, detector=marker.MarkerDetector(), scorer="laplacian")


@pytest.fixture
def photo(marker, tmp_path):
    image = np.full((200, 400, 3), 60, np.uint8)
    marker.draw(image, 20, 40, 120, sharp=True)
    marker.draw(image, 220, 40, 120, sharp=False, seed=1)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), image)
    return str(path)


def test_samples_and_their_detections_get_fields(gate, photo, tmp_path):
    sharp, soft, nothing = Label(0.05, 0.2, 0.3, 0.6), Label(0.53, 0.2, 0.3, 0.6), Label(0, 0, 1, 1)
    labels = SimpleNamespace(detections=[soft, nothing, sharp])
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros((50, 50, 3), np.uint8))
    one = Sample(photo, faces=labels)
    two = Sample(str(tmp_path / "empty.png"), faces=None)
    three = Sample(
        str(tmp_path / "empty.png"), faces=SimpleNamespace(detections=[Label(0, 0, 1, 1)])
    )
    assert write_fields([one, two, three], gate, detections="faces") == 3
    verdicts = gate(cv2.imread(photo))
    assert (one["blur_faces"], one["blur_degree"]) == (2, min(v.blur_degree for v in verdicts))
    assert (two["blur_faces"], two["blur_degree"]) == (0, None)
    assert [label["blur_decision"] for label in (sharp, soft, nothing)] == ["keep", "reject", None]
    assert soft["blur_degree"] == verdicts[1].blur_degree
    assert three["faces"].detections[0] == {"blur_degree": None, "blur_decision": None}
    assert [s.saved for s in (one, two, three)] == [1, 1, 1]


def test_samples_without_labels(gate, photo):
    sample = Sample(photo)
    write_fields([sample], gate)
    assert set(sample) == {"blur_degree", "blur_faces"}


def test_the_first_picture_may_show_no_face(gate, photo, tmp_path):
    empty, schema = str(tmp_path / "empty.png"), {}
    cv2.imwrite(empty, np.zeros((50, 50, 3), np.uint8))
    samples = [TypedSample(path, schema) for path in (empty, photo)]
    assert write_fields(samples, gate) == 2
    assert samples[0] == {"blur_degree": None, "blur_faces": 0}
    assert samples[1]["blur_degree"] < 0.4
    assert schema == {"blur_degree": float, "blur_faces": int}


def test_a_missing_picture_is_an_error(gate):
    with pytest.raises(DecodeError, match=r"nowhere\.png"):
        write_fields([Sample("nowhere.png")], gate)
