"""Whether a run puts people aside of whom an earlier one has learnt."""

from __future__ import annotations

from dataclasses import replace

import cv2
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')
pytest.importorskip("safetensors", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnx", reason='it needs: pip install "blurgate[train]"')

from blurgate.training import checkpoints
from blurgate.training.config import TrainConfig
from blurgate.training.earlier import learnt_before
from blurgate.training.faces import FaceReader, list_faces
from blurgate.training.feeds import FolderFeed
from blurgate.training.labels import Labeller
from blurgate.training.making import Recipe
from blurgate.training.synth import run_synth


@pytest.fixture(scope="module")
def photos(tiny, tmp_path_factory):
    """Two pictures each of ten people, who are told by the names."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(20):
        cv2.imwrite(str(root / f"p{i % 10}_000{i // 10}.png"), tiny.draw(112, i))
    return root


def parts(photos, **given):
    faces = list_faces([str(photos)], **given)
    return [{face.identity for face in faces if face.is_val == is_val} for is_val in (False, True)]


@pytest.fixture
def ask(photos, tmp_path):
    """Say what is said of a run on faces that were parted otherwise."""
    earlier = TrainConfig(faces=(str(photos),), identity="name", val=0.3, seed=0)
    facts = {"config": earlier.facts(), "data": {"sha256": "1"}}
    checkpoints.save(tmp_path / "best.safetensors", {}, facts)
    return lambda sha256="2", **changes: learnt_before(
        str(tmp_path), replace(earlier, **changes), {"sha256": sha256}
    )


def test_people_who_have_changed_sides_are_counted_and_the_settings_named(ask, photos):
    train, _ = parts(photos, identity="name", val=0.3, seed=0)
    for changes in ({"seed": 1}, {"val": 0.6}):
        line = ask(**changes)
        _, val = parts(photos, **{"identity": "name", "val": 0.3, "seed": 0} | changes)
        assert f"has learnt from {len(train & val)} of the {len(val)} people" in line
        assert f"such as {min(train & val)!r}" in line
        (key, value), old = *changes.items(), {"seed": 0, "val": 0.3}
        assert f"({key} {old[key]}, now {value}); put the same people aside" in line
        assert line.endswith("the same identity, val and seed")


def test_told_otherwise_people_are_known_by_their_pictures(ask):
    line = ask(identity="file", val=0.5)
    assert " of the 10 pictures that are put aside here, such as 'clean/p" in line
    assert "(identity name, now file; val 0.3, now 0.5)" in line


def test_nothing_is_said_where_nobody_changes_sides_or_it_is_not_known(ask, tmp_path):
    assert ask("1", seed=1) == ""  # the same list of faces, whatever the settings
    assert ask(val=0.1) == ""  # fewer of the same are put aside
    assert learnt_before("mobilenetv2_0.25", TrainConfig(), {}) == ""
    for facts in ({}, {"config": {"of another version": 1}}, {"config": {"data": ["gone"]}}):
        checkpoints.save(tmp_path / "best.safetensors", {}, facts)
        assert ask(seed=1) == ""


def test_folders_that_were_parted_otherwise_are_named(tiny, photos, tmp_path):
    def made(name, **given):
        run_synth(
            list_faces([str(photos)], val=0.3, **given),
            Recipe(("gaussian",)),
            tmp_path / name,
            reader=FaceReader(112),
            labeller=Labeller(tiny.TinyEmbedder()),
        )
        return TrainConfig(data=(str(tmp_path / name),)), FolderFeed([tmp_path / name]).facts

    (before, facts), (config, now) = made("a", seed=0), made("b", seed=1)
    path = tmp_path / "last.safetensors"
    checkpoints.save(path, {}, {"config": before.facts(), "data": facts})
    assert learnt_before(str(path), before, facts) == ""
    line = learnt_before(str(path), config, now)
    train, val = parts(photos, val=0.3, seed=0)[0], parts(photos, val=0.3, seed=1)[1]
    assert line.startswith(f"{path} has learnt from {len(train & val)} of the {len(val)} people")
    assert f"(data ['{tmp_path / 'a'}'], now ['{tmp_path / 'b'}'])" in line
    assert line.endswith("the same --identity, --val and --val-seed")
