"""Datasets read back, and data made on the fly."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.errors import (
    ConfigError,
    DecodeError,
    EnvironmentLackError,
    InputError,
    ModelError,
    ShapeError,
)
from blurgate.interfaces import ModelInfo
from blurgate.training import even
from blurgate.training.dataset import Dataset, LiveData, read_crops, through_numpy
from blurgate.training.faces import FaceReader, list_faces
from blurgate.training.labels import Labeller
from blurgate.training.layout import read_rows
from blurgate.training.making import Recipe
from blurgate.training.pairs import apply_sizes, make_chain, torch_device
from blurgate.training.synth import run_synth

# --- a folder --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for i in range(10):
        path = root / "in" / f"p{i % 5}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), tiny.draw(112, i))
    run_synth(
        list_faces([str(root / "in")], val=0.4),
        Recipe(("linear", "gaussian"), per_image=2),
        root / "o",
        reader=FaceReader(112),
        labeller=Labeller(tiny.TinyEmbedder()),
    )
    return root / "o"


def test_no_cell_of_a_table_is_a_formula_and_all_is_read_back(tiny, tmp_path, monkeypatch):
    for i, person in enumerate(("=cmd|' -C calc'!A0", "@SUM(A1)", "-x", "+1", "p")):
        (tmp_path / "in" / person).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "in" / person / "=1+1.png"), tiny.draw(112, i))
    monkeypatch.setattr(tiny.TinyEmbedder, "info", ModelInfo('=HYPERLINK("http://a")', ""))
    monkeypatch.chdir(tmp_path)
    labeller = Labeller(tiny.TinyEmbedder())
    faces = list_faces(["in"], val=0.4)
    recipe = Recipe(("linear",))
    run_synth(faces, recipe, tmp_path / "o", reader=FaceReader(112), labeller=labeller)
    (path,) = (tmp_path / "o").glob("label_*/label/*.csv")
    with path.open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert len(cells) == 6 * 10
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    data = Dataset(tmp_path / "o")
    assert sorted(data.identities) == ["./+1", "./-x", "./=cmd|' -C calc'!A0", "./@SUM(A1)", "p"]
    assert data.facts["embedder"]["name"] == '=HYPERLINK("http://a")'  # no table, and JSON


@pytest.fixture
def broken(made, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "o"))


def test_rows_are_read_back_with_their_pictures(made, tiny):
    data = Dataset(made)
    assert len(data) == 40
    assert data.facts["seed"] == 0
    index = np.random.default_rng(0).permutation(40)
    blurred, clean = data.pictures(index), data.clean_pictures(index)
    assert blurred.shape == (40, 112, 112, 3)
    assert blurred.dtype == np.uint8
    a, b = (np.stack([tiny.embed_one(p) for p in pictures]) for pictures in (clean, blurred))
    np.testing.assert_allclose(data.labels[index], 1 - (a * b).sum(1), atol=2e-6)
    assert data.labels.dtype == np.float32
    assert data.methods == ["linear"] * 20 + ["gaussian"] * 20
    assert data.pictures([]).shape == (0, 112, 112, 3)


def test_parts_share_no_person_and_make_up_the_whole(made):
    train, val = Dataset(made, split="train"), Dataset(made, split="val")
    assert len(set(val.identities)) == 2
    assert not set(train.identities) & set(val.identities)
    assert sorted(train.files + val.files) == sorted(Dataset(made).files)
    only = Dataset(made, split="val", methods=["gaussian"])
    assert set(only.methods) == {"gaussian"}
    assert len(only) == len(val) / 2
    with pytest.raises(InputError, match="holds linear, gaussian, not 'lowres'"):
        Dataset(made, methods=["lowres"])


def test_what_is_no_dataset_is_refused(tmp_path, broken):
    with pytest.raises(InputError, match=r"holds no dataset.*No such file"):
        Dataset(tmp_path / "nowhere")
    for text in ("{", "[" * 100_000):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(InputError, match="holds no dataset"):
            Dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="not of format 1"):
        Dataset(tmp_path)
    (broken / "journal.jsonl").write_text("")
    with pytest.raises(ConfigError, match="not finished; continue it with --resume"):
        Dataset(broken)
    (broken / "journal.jsonl").unlink()
    facts = json.loads((broken / "dataset.json").read_text())
    (broken / "dataset.json").write_text(json.dumps({**facts, "rows": None}))
    with pytest.raises(ConfigError, match="not finished"):
        Dataset(broken)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("methods", None),
        ("methods", [["linear"]]),
        ("size", "small"),
        ("embedder", None),
        ("embedder", {"name": "tiny"}),
        ("embedder", {"name": None, "sha256": ""}),
    ],
)
def test_a_dataset_json_of_other_kinds_of_values_is_refused(broken, key, value):
    facts = json.loads((broken / "dataset.json").read_text())
    (broken / "dataset.json").write_text(json.dumps({**facts, key: value}))
    with pytest.raises(InputError, match=f"dataset.json is damaged: its '{key}' is missing or not"):
        Dataset(broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("label,", "degree,", 1), "has other columns"),
        (lambda t: t[:-30], "cannot be read: unexpected end"),
        (lambda t: t[:-2], "a label of the embedder 'tin', among those of 'tiny'"),
        (lambda t: t + "x,x\n", r"line 22 of .*has not 10 fields"),
        (lambda t: t + "\0", "cannot be read|has not 10 fields"),
        (lambda t: t + "x,x,x,x,x,x,x,x,1.5,x\n", r"line 22 .*label '1.5' is not a number in"),
        (lambda t: t + "x,x,x,x,x,x,x,x,nan,x\n", "label 'nan' is not a number"),
        (lambda t: t + "x,x,x,x,x,x,x,x,,x\n", "label '' is not a number"),
        (lambda t: t + "../up.png,x,x,x,x,x,x,x,1,x\n", "not a path within the dataset"),
        (lambda t: t + "x,/etc/x.png,x,x,x,x,x,x,1,x\n", "not a path within the dataset"),
        (lambda t: t + "C:x.png,x,x,x,x,x,x,x,1,x\n", "not a path within the dataset"),
        (lambda t: "".join(t.splitlines(keepends=True)[:-1]), "has 39 rows, .* says 40"),
        (None, "No such file"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_an_error_and_never_a_wrong_label(broken, change, message):
    table = broken / "label_linear/label/data_label.csv"
    if change is None:
        table.unlink()
    else:
        table.write_text(change(table.read_text()))
    with pytest.raises(InputError, match=message):
        Dataset(broken)


def test_damaged_pictures_are_errors(broken):
    data = Dataset(broken)
    first, second, third, fourth = (broken / file for file in data.files[:4])
    first.unlink()
    second.write_bytes(second.read_bytes()[:100])
    third.write_bytes(b"")
    cv2.imwrite(str(fourth), np.zeros((50, 50, 3), np.uint8))
    for i, message in enumerate(("No such file", "not a picture", "not a picture", "of 112x112")):
        with pytest.raises(DecodeError, match=message) as caught:
            data.pictures([5, i])
        assert Path(data.files[i]).name in str(caught.value)


def test_rows_hold_everything(made):
    rows = list(read_rows(made, "gaussian"))
    assert len(rows) == 20
    assert json.loads(rows[0]["parameters"])["blur"]["method"] == "gaussian"


# --- on the fly ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crops(tiny):
    return [tiny.draw(side, seed) for seed, side in enumerate([112, 144, 112, 160, 144, 112, 128])]


@pytest.fixture
def live(tiny, crops):
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its threads wait by spinning, which a busy machine suffers from

    def make(method="random", **options):
        chain = options.pop("chain", None) or make_chain(method)
        return LiveData(crops, chain, through_numpy(Labeller(tiny.TinyEmbedder())), **options)

    yield make
    torch.set_num_threads(threads)


def images(batch):
    return batch.pictures.numpy().transpose(0, 2, 3, 1)


def test_every_label_is_that_of_its_picture_and_face(live, tiny, crops):
    data = live()
    faces = [3, 0, 6, 3, 1, 5, 2, 4]
    batch = data.batch(faces)
    assert tuple(batch.pictures.shape) == (8, 3, 112, 112)
    assert str(batch.pictures.dtype) == "torch.uint8"
    assert str(batch.labels.dtype) == "torch.float32"
    assert batch.faces.tolist() == faces
    for face, picture, label in zip(faces, images(batch), batch.labels.tolist(), strict=True):
        side = len(crops[face])
        clean = crops[face] if side == 112 else cv2.resize(
            crops[face], (112, 112), interpolation=cv2.INTER_AREA
        )  # fmt: skip
        wanted = 1 - tiny.embed_one(clean) @ tiny.embed_one(picture)
        assert label == pytest.approx(wanted, abs=2e-3)  # the twin is rounded otherwise
    assert len(set(batch.labels.tolist())) == 7  # the same face in the same epoch: the same picture


def test_it_agrees_with_the_reference(live, tiny, crops):
    chain = make_chain("linear", compression=False)
    data = live(chain=chain, seed=4)
    batch = data.batch(range(7), epoch=2)
    pair = apply_sizes(chain, crops, batch.params)
    assert np.abs(images(batch).astype(int) - pair.degraded).max() <= 2
    labeller = Labeller(tiny.TinyEmbedder())
    wanted = labeller.label(labeller.embed(pair.clean), range(7), pair.degraded)
    np.testing.assert_allclose(batch.labels.numpy(), wanted, atol=5e-3)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_picture_does_not_depend_on_its_batch(live, size):
    data = live()
    whole = data.batch(range(7), epoch=1)
    for at in range(0, 7, size):
        part = data.batch(range(at, min(at + size, 7)), epoch=1)
        rows = slice(at, at + size)
        assert part.params == whole.params[rows]
        assert np.abs(images(part).astype(int) - images(whole)[rows]).max() <= 1
        np.testing.assert_allclose(part.labels.numpy(), whole.labels.numpy()[rows], atol=1e-3)


def test_epochs_show_every_face_once_and_blur_it_otherwise(live):
    data = live(seed=1)
    first = list(data.epoch(0, 3))
    assert [len(batch.labels) for batch in first] == [3, 3, 1]
    order = np.concatenate([batch.faces for batch in first])
    assert sorted(order.tolist()) == list(range(7))
    again = np.concatenate([batch.faces for batch in data.epoch(0, 3)])
    assert np.array_equal(order, again)
    other = np.concatenate([batch.faces for batch in data.epoch(1, 3)])
    assert not np.array_equal(order, other)
    a, b = data.batch([2], 0), data.batch([2], 1)
    assert a.params != b.params
    assert len({str(live(seed=s).batch([2]).params) for s in range(3)}) == 3


def test_severities_follow_a_curve(live, tiny, crops):
    curve = even.calibrate(
        make_chain("gaussian"), crops, Labeller(tiny.TinyEmbedder()), seed=0, tracks=8
    )
    data = live("gaussian", curve=curve)
    sigma = [r["blur"]["sigma_px"] for e in range(20) for r in data.batch(range(7), e).params]
    share = np.searchsorted(np.sort(sigma) / 7, np.linspace(0, 1, 65) ** 2) / len(sigma)
    assert np.abs(share - curve.shares).max() < 0.02


def test_what_cannot_work_is_refused(live, crops, monkeypatch):
    torch = pytest.importorskip("torch")
    embed = through_numpy(None)
    with pytest.raises(ShapeError, match="at least one clean crop"):
        LiveData([], make_chain("linear"), embed)
    with pytest.raises(ModelError, match="not of length 1"):
        LiveData(crops, make_chain("linear"), lambda pictures: torch.ones(len(pictures), 4))
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        live(device="tpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(EnvironmentLackError, match="torch sees 0 GPUs; use --device cpu"):
        live(device="cuda:1")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(EnvironmentLackError, match=r"pip install \"blurgate\[train\]\""):
        torch_device("cuda")


def test_crops_are_read_from_files_and_lost_ones_named(tiny, tmp_path):
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.png"), tiny.draw(112 + 32 * (i % 2), i))
    (tmp_path / "2.png").write_bytes(b"broken")
    lost = []
    faces, crops = read_crops(
        list_faces([str(tmp_path)]),
        FaceReader(144),
        workers=2,
        on_failure=lambda source, error: lost.append(Path(source).name),
    )
    assert lost == ["2.png"]
    assert [face.position for face in faces] == [0, 1, 3, 4]
    assert [len(crop) for crop in crops] == [112, 144, 144, 112]
    assert np.array_equal(crops[2], tiny.draw(144, 3))
