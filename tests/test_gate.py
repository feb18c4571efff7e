"""`Gate` as other programs use it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate import Gate, zoo
from blurgate.errors import (
    ConfigError,
    InputError,
    MissingModelError,
    PluginError,
    ShapeError,
    UnknownNameError,
)
from blurgate.interfaces import ModelInfo, Runtime
from blurgate.scoring import score_files

SAMPLE = Path(__file__).resolve().parents[1] / "examples/sample.mp4"


@pytest.fixture
def picture(marker):
    image = np.full((240, 400, 3), 60, np.uint8)
    marker.draw(image, 10, 40, 140, sharp=True)
    marker.draw(image, 200, 40, 140, sharp=False, seed=1)
    return image


def test_an_image_gives_verdicts(picture):
    gate = Gate(threshold=0.4, detector="marker", scorer="laplacian")
    sharp, soft = gate(picture)
    assert (sharp.decision, soft.decision) == ("keep", "reject")
    assert (sharp.face_index, soft.face_index) == (0, 1)
    assert sharp.box == pytest.approx((10, 40, 150, 180))
    assert sharp.source == ""
    assert sharp.pts_s is None
    assert gate(np.zeros((50, 50, 3), np.uint8)) == []


def test_the_threshold_comes_from_the_card_when_none_is_named(marker):
    assert Gate(detector="marker", scorer="laplacian").rule.threshold == 0.4


def test_a_stream_gives_what_single_images_give(picture, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    cv2.imwrite(str(tmp_path / "b.png"), picture[:, :180])
    gate = Gate(threshold=0.4, detector="marker", scorer="laplacian", workers=2)
    verdicts = list(gate.stream(tmp_path))
    assert [v.source[-5:] for v in verdicts] == ["a.png", "a.png", "b.png"]
    assert [v.blur_degree for v in verdicts[:2]] == [v.blur_degree for v in gate(picture)]


def test_what_a_stream_cannot_read_is_logged(picture, tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "c.mp4").write_bytes(b"no video")
    gate = Gate(threshold=0.4, detector="marker", scorer="laplacian")
    assert len(list(gate.stream(str(tmp_path)))) == 2
    first, second = (record.getMessage() for record in caplog.records)
    assert "broken.jpg is not a picture of a known format" in first
    assert "c.mp4 cannot be read as a video" in second


def test_objects_replace_models(picture, marker):
    class Half:
        info = marker.ModelInfo("half", "")
        threshold = 0.25

        def __call__(self, crops):
            return np.full(len(crops), 0.5, np.float32)

    gate = Gate(detector=marker.MarkerDetector(), scorer=Half(), review=0.25)
    assert [(v.decision, v.model) for v in gate(picture)] == [("review", "half")] * 2


def test_errors(marker, tmp_path, bare_zoo):
    with pytest.raises(UnknownNameError, match="did you mean 'laplacian'"):
        Gate(detector="marker", scorer="laplacain")
    gate = Gate(detector="marker", scorer="laplacian")
    with pytest.raises(ShapeError, match="image must be uint8"):
        gate(np.zeros((5, 5), np.uint8))
    for boxes in (..., None, [[0, 0, 5, 5]]):
        with pytest.raises(ShapeError, match=r"the image has no pixels: \(0, 0, 3\)"):
            gate(np.zeros((0, 0, 3), np.uint8), boxes)
    with pytest.raises(InputError, match="nowhere"):
        list(gate.stream(str(tmp_path / "nowhere.mp4")))
    with pytest.raises(MissingModelError, match=r"blurgate models pull buffalo_sc"):
        Gate(scorer="laplacian")(np.zeros((5, 5, 3), np.uint8))


class Failing:
    info = ModelInfo("failing", "")

    def __call__(self, frames):
        raise KeyError("x")


def test_after_an_error_no_thread_and_no_file_stay():
    """Also while somebody holds the error, and with it all that was going on."""
    before = threading.active_count()
    gate = Gate(threshold=0.4, detector=Failing(), scorer="laplacian")
    with pytest.raises(PluginError, match="the detector failing failed: KeyError: 'x'") as held:
        list(gate.stream(str(SAMPLE)))
    assert held.value.__traceback__ is not None
    assert threading.active_count() == before
    if sys.platform == "linux":
        links = [fd.resolve() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        assert SAMPLE not in links


def test_after_an_error_of_score_no_thread_stays(picture, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    before = threading.active_count()
    names = [str(tmp_path / "a.png")] * 20
    with pytest.raises(PluginError, match="the detector failing failed") as held:
        list(score_files(zoo.open_scorer("laplacian", Runtime("cpu")), Failing(), names, workers=2))
    assert held.value.__traceback__ is not None
    assert threading.active_count() == before


def test_a_scorer_that_fails_is_named(picture, marker):
    class Broken:
        info = marker.ModelInfo("broken", "")
        threshold = 0.5

        def __call__(self, crops):
            raise KeyError("x")

    gate = Gate(detector="marker", scorer=Broken())
    with pytest.raises(PluginError, match="the scorer broken failed: KeyError: 'x'"):
        gate(picture)
    assert gate(np.zeros((50, 50, 3), np.uint8)) == []


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"detect_every": 0}, "detect-every must be from 1 to 60, got 0"),
        ({"detect_every": 61}, "detect-every must be from 1 to 60, got 61"),
    ],
)
def test_numbers_that_are_out_of_range_are_refused_at_once(number, said):
    with pytest.raises(ConfigError, match=said):
        Gate(threshold=0.4, scorer="laplacian", **number)


@pytest.mark.shared
def test_the_contract_example_runs(shared):
    weights = str(shared / "data/weights/scrfd_500m_bnkps.onnx")
    gate = Gate(threshold=0.4, detector=weights, scorer="laplacian", workers=2)
    clip = str(shared / "data/video/intel_asl_learn.mkv")
    verdicts = list(gate.stream(clip, every=10))
    assert [v.frame_index for v in verdicts] == [0, 10, 20, 30, 40, 50, 60]
    assert all(v.decision == "keep" and 50 < v.face_px < 75 for v in verdicts)
