"""Batches of a detector's training, composed here and in other processes."""

from __future__ import annotations

import weakref

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')

from blurgate.errors import DecodeError
from blurgate.training.detection import feeding
from blurgate.training.detection.annotations import Annotated
from blurgate.training.detection.compose import Composed
from blurgate.training.detection.config import make_detection_config


def config(**given):
    facts = {"size": 64, "batch": 4, "pictures": 8, "epochs": 2, "close": 0.5, **given}
    return make_detection_config(facts)


@pytest.fixture
def samples(tmp_path):
    """Samples of one photo with a bright ellipse for a face."""
    path = tmp_path / "photo.png"
    image = np.full((120, 120, 3), 60, np.uint8)
    cv2.ellipse(image, (55, 55), (30, 40), 0, 0, 360, (150, 170, 190), -1)
    cv2.imwrite(str(path), image)
    kps = np.float32([[[40, 42], [68, 40], [55, 58], [43, 74], [66, 73]]])
    photo = Annotated(path, "photo", np.float32([[25, 15, 85, 95]]), kps, np.array([False]))
    return Composed([photo], size=64, length=8)


def test_other_processes_compose_the_same_batches(samples, tmp_path, monkeypatch):
    with feeding.batches(samples, samples.close(128), config()) as ready:
        own = list(ready)
    share, shared = Composed.share, []
    photo = tmp_path / "photo.png"
    pixels = photo.read_bytes()

    def watched(self, folder, **given):
        share(self, folder, **given)
        shared.append(folder)
        assert [path.name for path in folder.iterdir()] == ["photos"]
        photo.unlink()  # the processes see the pixels that were shared

    monkeypatch.setattr(Composed, "share", watched)
    with feeding.batches(samples, samples.close(128), config(), workers=2) as ready:
        theirs = [next(ready), next(ready)]
        assert not shared[0].exists()  # gone once both have it open, while they go on
        theirs += ready
    assert len(own) == len(theirs) == 4
    sides = {tuple(batch.pictures.shape[i] for i in (0, 2)) for batch in own}
    assert sides == {(4, 64), (1, 128)}  # ordinary and close ones
    for a, b in zip(own, theirs, strict=True):
        np.testing.assert_array_equal(a.pictures, b.pictures)
        for one, other in zip(a.targets, b.targets, strict=True):
            np.testing.assert_array_equal(one, other)
    photo.write_bytes(pixels)
    # A run that goes on after its first epoch sees the second one's.
    with feeding.batches(samples, samples.close(128), config(), first=1) as ready:
        np.testing.assert_array_equal(next(ready).pictures, own[2].pictures)


def test_what_was_shared_is_let_go_of_before_it_is_removed(samples, monkeypatch):
    """Windows removes no file that a process has open: it would stay for ever."""
    made = []

    class Loader:  # in place of other processes, which end with its iterator
        def __init__(self, *given, **named):
            pass

        def __iter__(self):
            batches = (number for number in range(9))
            made.append(weakref.ref(batches))
            return batches

    monkeypatch.setattr(feeding, "DataLoader", Loader)
    with feeding.batches(samples, samples.close(128), config(), workers=2) as ready:
        assert next(ready) == 0
        made.append(weakref.ref(samples._photos._pixels))
        assert all(one() is not None for one in made)
    assert all(one() is None for one in made)
    assert samples.sample(0, 0).image.shape == (64, 64, 3)  # read again


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_another_process_arrives_as_itself(samples, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(Composed, "share", lambda self, folder, workers: None)
    (tmp_path / "photo.png").unlink()
    with (
        feeding.batches(samples, None, config(close=0), workers=workers) as ready,
        pytest.raises(DecodeError, match=r"photo\.png") as caught,
    ):
        list(ready)
    assert "Traceback" not in str(caught.value)


def test_of_large_pictures_a_teacher_gives_its_features_only(samples):
    """Its boxes of faces that fill a picture are worse than the annotations."""
    close = samples.close(128)
    given = {"teacher": "scrfd_blurgate", "epochs": 4}

    def made(**more):
        with feeding.batches(samples, close, config(**more)) as ready:
            return list(ready)

    teacher = feeding.teacher_of(config(**given, mimic=1.0)).open()
    several = made(**given, mimic=1.0), made(**given), made(epochs=4)
    seen = set()
    for watched, told, alone in zip(*several, strict=True):
        side = watched.pictures.shape[2]
        seen.add(side)
        picture = watched.pictures[0].permute(1, 2, 0).numpy()
        expected = teacher.rows(picture).watched
        assert len(watched.features) == len(expected) == 3
        for found, features in zip(watched.features, expected, strict=True):
            np.testing.assert_allclose(found[:1], features, atol=2e-3, rtol=2e-3)  # float16
        assert not told.features
        assert not alone.features
        for one, other in zip(watched.targets, told.targets, strict=True):
            np.testing.assert_array_equal(one, other)
        same = np.array_equal(told.targets.scores, alone.targets.scores, equal_nan=True)
        assert same == (side == 128)
    assert seen == {64, 128}
