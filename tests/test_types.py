"""Values check what they are made of, and print their shape and not their pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from blurgate.errors import ShapeError
from blurgate.types import Detections, FaceBatch, Frame, RoutedFaces, ScoredFaces

IMAGE = np.zeros((48, 64, 3), np.uint8)
FRAME = Frame(IMAGE, "a.mp4", 7, 0.28)


def detections(n: int) -> Detections:
    return Detections(
        FRAME,
        np.zeros((n, 4), np.float32),
        np.zeros(n, np.float32),
        np.zeros((n, 5, 2), np.float32),
    )


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FRAME.index = 3


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE[..., 0], r"image must be uint8 of shape \(n, n, 3\), got uint8 of \(48, 64\)"),
        (IMAGE.astype(np.float32), "image must be uint8 .* got float32"),
        ("picture.jpg", "image must be a NumPy array, got str"),
    ],
)
def test_a_frame_checks_its_image(image, message):
    with pytest.raises(ShapeError, match=message):
        Frame(image, "a", 0, None)


def test_lengths_must_agree():
    with pytest.raises(ShapeError, match=r"boxes must be float32 of shape \(2, 4\)"):
        Detections(
            FRAME,
            np.zeros((1, 4), np.float32),
            np.zeros(2, np.float32),
            np.zeros((2, 5, 2), np.float32),
        )
    with pytest.raises(ShapeError, match="crops must be uint8"):
        FaceBatch(detections(2), np.zeros((1, 112, 112, 3), np.uint8))
    batch = FaceBatch(detections(1), np.zeros((1, 112, 112, 3), np.uint8))
    with pytest.raises(ShapeError, match="blur_degree must be float32"):
        ScoredFaces(batch, np.zeros(1), "m")
    scored = ScoredFaces(batch, np.zeros(1, np.float32), "m")
    with pytest.raises(ShapeError, match="0 verdicts for 1 faces"):
        RoutedFaces(scored, ())


def test_no_faces_is_ordinary():
    empty = FaceBatch(detections(0), np.zeros((0, 112, 112, 3), np.uint8))
    assert len(RoutedFaces(ScoredFaces(empty, np.zeros(0, np.float32), "m"), ())) == 0


def test_repr_shows_the_shape():
    assert repr(FRAME) == "Frame('a.mp4', index=7, pts_s=0.28, 48x64)"
    assert repr(detections(3)).startswith("Detections(n=3, Frame(")
