"""What a calibration measures, and whom it cuts out of a photo of several people."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from blurgate.errors import InputError
from blurgate.evaluation import material
from blurgate.evaluation.families import clean_twins
from blurgate.evaluation.material import blur_families, material_of_faces
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.interfaces import ModelInfo
from blurgate.stages import six_digits
from blurgate.training.faces import FaceReader, find_face, list_faces
from blurgate.types import Detections


class Mean:
    """A scorer."""

    info, threshold = ModelInfo("mean", ""), 0.5

    def __call__(self, crops):
        return (crops.mean(axis=(1, 2, 3)) / 255).astype(np.float32)


@pytest.fixture
def faces(tiny, tmp_path):
    for i in range(10):
        cv2.imwrite(str(tmp_path / f"P{i // 2}_{i:04d}.png"), tiny.draw(150, i))
    return list_faces([str(tmp_path)])


@pytest.mark.parametrize("part", [3, 64])
def test_parts_make_no_difference(faces, tiny, monkeypatch, part):
    monkeypatch.setattr(material, "PART", part)
    families = blur_families(["gaussian", "small"], 4)
    found = material_of_faces(
        faces, FaceReader(), Mean(), tiny.TinyEmbedder(), families=families, per_image=2, seed=4
    )
    crops = [FaceReader()(face.source) for face in faces]
    twins = clean_twins(crops)
    np.testing.assert_array_equal(
        found.reference_degree, [six_digits(float(d)) for d in Mean()(twins)]
    )
    assert found.is_changed
    assert len(found.degree) == 40
    assert sorted(found.owner.tolist()) == sorted(list(range(10)) * 4)
    # The probes of one face and family are the family's pictures of its numbers.
    again = blur_families(["small"], 4)[0]
    pictures = again.make([crops[7]] * 2, [14, 15]).pictures
    own = found.degree[found.owner == 7]
    wanted = {six_digits(float(d)) for d in Mean()(pictures)}
    assert wanted <= set(own.tolist())
    for probe in np.flatnonzero(found.owner == 7):
        cosine = found.reference_embedding[7].astype(float) @ found.embedding[probe]
        assert found.label[probe] == pytest.approx(np.clip(1 - cosine, 0, 1), abs=1e-6)


def test_faces_as_they_are_are_their_own_probes(faces):
    found = material_of_faces(faces, FaceReader(112), Mean(), None)
    assert not found.is_changed
    assert found.embedding is None
    assert found.label is None
    np.testing.assert_array_equal(found.owner, range(10))


def test_blurring_needs_an_embedder_and_faces(faces, tmp_path):
    with pytest.raises(InputError, match="needs an embedder"):
        material_of_faces(faces, FaceReader(), Mean(), None, families=blur_families(["small"], 0))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "bad.png").write_bytes(b"")
    with pytest.raises(InputError, match="none of the pictures gives a face"):
        material_of_faces(list_faces([str(tmp_path / "x")]), FaceReader(), Mean(), None)


@pytest.mark.parametrize(("pick", "wanted"), [("largest", 0), ("central", 1)])
def test_the_face_in_the_middle(pick, wanted):
    """A larger face at the edge, a smaller one in the middle."""
    boxes = np.float32([[0, 60, 100, 170], [80, 80, 170, 175]])
    kps = ARCFACE_TEMPLATE[None] * 0.8 + boxes[:, None, :2]

    class Two:
        info = ModelInfo("two", "")

        def __call__(self, frames):
            return [Detections(f, boxes, np.float32([0.9, 0.8]), kps) for f in frames]

    image = np.random.default_rng(0).integers(0, 256, (250, 250, 3), np.uint8)
    np.testing.assert_array_equal(find_face(Two(), image, "x", pick), kps[wanted])
