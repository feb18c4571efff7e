"""Folders of `blurgate synth` as training and validation batches."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from blurgate.errors import ConfigError  # noqa: E402
from blurgate.training.dataset import Dataset  # noqa: E402
from blurgate.training.faces import FaceReader, list_faces  # noqa: E402
from blurgate.training.feeds import FolderFeed  # noqa: E402
from blurgate.training.labels import Labeller  # noqa: E402
from blurgate.training.synth import Recipe, run_synth  # noqa: E402


@pytest.fixture(scope="module")
def synth(tiny, tmp_path_factory):
    """Make a dataset of the same ten people with another blur, seed or share for validation."""
    root = tmp_path_factory.mktemp("feeds")
    for i in range(20):
        path = root / "in" / f"p{i % 10}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), tiny.draw(112, i))

    def make(name, method, *, seed=0):
        run_synth(
            list_faces([str(root / "in")], val=0.3, seed=seed),
            Recipe((method,), seed=seed),
            root / name,
            reader=FaceReader(112),
            labeller=Labeller(tiny.TinyEmbedder()),
        )
        return root / name

    return make


@pytest.fixture(scope="module")
def folders(synth):
    return [synth("a", "linear"), synth("b", "gaussian")]


def seen(batches):
    """Give every picture with its label, in any order."""
    pairs = [
        (picture.permute(1, 2, 0).numpy().tobytes(), float(label))
        for batch in batches
        for picture, label in zip(*batch, strict=True)
    ]
    return sorted(pairs)


def stored(folders, split):
    parts = [Dataset(folder, split=split) for folder in folders]
    return sorted(
        (picture.tobytes(), float(label))
        for part in parts
        for picture, label in zip(part.pictures(range(len(part))), part.labels, strict=True)
    )


def test_several_folders_are_one_set_and_every_picture_keeps_its_label(folders):
    feed = FolderFeed(folders, seed=3)
    assert (feed.facts["train"], feed.facts["val"]) == (28, 12)
    assert (feed.facts["identities"], feed.facts["identities_val"]) == (7, 3)
    assert feed.facts["methods"] == ["linear", "gaussian"]
    assert feed.steps(7) == 4
    assert seen(feed.train(0, 7)) == stored(folders, "train")
    assert seen(feed.val(5)) == stored(folders, "val")


def test_a_share_of_every_training_batch_shows_the_clean_faces(folders):
    plain, feed = FolderFeed(folders, seed=3), FolderFeed(folders, seed=3, clean=0.3)
    twins = {
        picture.tobytes(): clean
        for folder in folders
        for part in [Dataset(folder, split="train")]
        for picture, clean in zip(
            part.pictures(range(len(part))), part.clean_pictures(range(len(part))), strict=True
        )
    }
    for batch, was in zip(feed.train(0, 7), plain.train(0, 7), strict=True):
        assert batch.degrees[:2].tolist() == [0, 0]
        assert torch.equal(batch.degrees[2:], was.degrees[2:])
        assert torch.equal(batch.pictures[2:], was.pictures[2:])
        for shown, blurred in zip(batch.pictures[:2], was.pictures[:2], strict=True):
            twin = twins[blurred.permute(1, 2, 0).numpy().tobytes()]
            np.testing.assert_array_equal(shown.permute(1, 2, 0), twin)
    assert seen(feed.val(5)) == stored(folders, "val")
    # Labels are what the folder says, again, in the next epoch.
    assert sum(float(batch.degrees[2:].sum()) for batch in feed.train(1, 7)) == pytest.approx(
        sum(float(batch.degrees[2:].sum()) for batch in plain.train(1, 7))
    )


def test_two_processes_share_the_epoch_and_order_follows_from_seed_and_epoch(folders):
    feed = FolderFeed(folders, seed=3)
    halves = [seen(feed.train(1, 4, rank=rank, world=2)) for rank in (0, 1)]
    assert not set(halves[0]) & set(halves[1])
    first = [batch.degrees for batch in feed.train(1, 7)]
    again = [batch.degrees for batch in FolderFeed(folders, seed=3).train(1, 7)]
    other = [batch.degrees for batch in feed.train(2, 7)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_folders_that_do_not_fit_together_are_refused(folders, synth, tmp_path):
    crossed = synth("crossed", "linear", seed=5)
    val, other = (set(Dataset(f, split="val").identities) for f in (crossed, folders[0]))
    assert val != other
    with pytest.raises(ConfigError, match="for training in one folder and for validation in"):
        FolderFeed([folders[0], crossed])
    other = Path(shutil.copytree(folders[1], tmp_path / "other"))
    for path in (other / "dataset.json", other / "label_gaussian/label/data_label.csv"):
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace('"name": "tiny"', '"name": "tony"').replace(",tiny", ",tony"),
            encoding="utf-8",
        )
    assert len(Dataset(other))
    with pytest.raises(ConfigError, match="labels of different embedders cannot be mixed"):
        FolderFeed([folders[0], other])


def test_a_damaged_picture_is_reported_by_its_name(folders, tmp_path):
    from blurgate.errors import DecodeError

    broken = Path(shutil.copytree(folders[0], tmp_path / "broken"))
    victim = broken / Dataset(broken, split="train").files[0]
    victim.write_bytes(victim.read_bytes()[:40])
    with pytest.raises(DecodeError, match=np.str_(victim.name)):
        list(FolderFeed([folders[1], broken]).train(0, 4))


def test_a_batch_of_any_size_is_the_whole_part(folders):
    feed = FolderFeed(folders)
    for split, batches in (("train", feed.train(0, 10**30)), ("val", feed.val(10**30))):
        assert seen(batches) == stored(folders, split)
