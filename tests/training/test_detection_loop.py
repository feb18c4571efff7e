"""Training a detector: the loop, its validation, what it leaves, and the command."""

from __future__ import annotations

import csv
import json
import shutil

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')
pytest.importorskip("lightning_fabric", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("safetensors", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("yaml", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnx", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnxscript", reason='it needs: pip install "blurgate[train]"')
pytest.importorskip("onnxruntime", reason='it needs: pip install "blurgate[cpu]"')

import onnx
import torch

from blurgate import zoo
from blurgate.cards import facts_of
from blurgate.errors import ConfigError, ModelError, WeightsError
from blurgate.evaluation.detection import Found
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.locking import LOCK, locked
from blurgate.plugins.detectors import looks
from blurgate.runtime import make_session
from blurgate.runtime import run as run_session
from blurgate.training import checkpoints, runs
from blurgate.training.detection import export, feeding, loop, losses
from blurgate.training.detection.assign import BACKGROUND, IGNORED
from blurgate.training.detection.config import DetectionConfig, make_detection_config
from blurgate.training.detection.export import OUTPUTS, card_facts, export_detector
from blurgate.training.detection.network import (
    DetectorNet,
    anchors,
    predictions,
    prepare,
)
from blurgate.training.detection.samples import Sample
from blurgate.training.detection.scores import score
from blurgate.training.detection.train import parts
from blurgate.types import Frame

TINY = {
    "stem": 8,
    "widths": [8, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "neck": 8,
    "head": 16,
    "stacked": 1,
}
POINTS = np.float32([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])


@pytest.fixture(autouse=True)
def threads():
    """The command sets the threads of the whole process."""
    before, cv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    cv2.setNumThreads(cv)
    torch.set_flush_denormal(False)


def config(**given):
    facts = {"size": 64, "batch": 4, "epochs": 2, "warmup": 2, "ema": 0.9, **TINY, **given}
    return make_detection_config(facts)


def draw(size, seed):
    """Draw a picture with one or two bright squares that have dark spots for landmarks."""
    rng = np.random.default_rng(seed)
    image = np.clip(rng.normal(70, 10, (size, size, 3)), 0, 255).astype(np.uint8)
    boxes = []
    for left in (0, size // 2)[: 1 + int(rng.integers(2))]:
        side = int(rng.integers(size // 4, size // 2 - 2))
        x, y = left + int(rng.integers(0, size // 2 - side)), int(rng.integers(0, size - side))
        image[y : y + side, x : x + side] = (200, 220, 240)
        for px, py in POINTS * side:
            cv2.circle(image, (round(x + px), round(y + py)), max(1, side // 12), (20, 20, 20), -1)
        boxes.append([x, y, x + side, y + side])
    box = np.float32(boxes)
    kps = box[:, None, :2] + POINTS * (box[:, 2:] - box[:, :2])[:, None]
    return image, box, kps.astype(np.float32)


class Drawn:
    """Drawn samples, other ones in every epoch."""

    def __init__(self, length, seed=0, size=64):
        self.length, self.seed, self.size = length, seed, size
        self.asked = []

    def __len__(self):
        return self.length

    def sample(self, epoch, index):
        self.asked.append((epoch, index))
        image, boxes, kps = draw(self.size, (self.seed, epoch, index))
        return Sample(image, boxes, kps, np.zeros(len(boxes), bool))


def drawn(length, size=64):
    """Other ones, to validate on."""
    return [Drawn(length, 1, size).sample(0, i) for i in range(length)]


def network(seed=0, **given):
    torch.manual_seed(seed)
    return DetectorNet(config(**given).shape())


def test_a_sample_becomes_targets():
    boxes = np.float32([[8, 8, 40, 40], [50, 0, 57, 6], [54, 20, 79, 60], [10, 44, 21, 55]])
    kps = np.ones((4, 5, 2), np.float32)
    sample = Sample(np.zeros((64, 64, 3), np.uint8), boxes, kps, np.zeros(4, bool))
    got = feeding.targets_of(sample, config(least=8, least_kps=12))
    np.testing.assert_array_equal(got.boxes[2], [54, 20, 64, 60])  # as far as it can be seen
    present = set(got.faces)
    assert {0, 3, IGNORED, BACKGROUND} == present  # 1 is too small, of 2 too little is left
    assert np.isfinite(got.kps[0]).all()
    assert np.isnan(got.kps[3]).all()  # 11 pixels: too small for landmarks


def test_faces_of_a_batch_are_numbered_through():
    made = [feeding.targets_of(Drawn(3).sample(0, i), config()) for i in range(3)]
    batch = feeding.collate(made)
    assert batch.pictures.shape == (3, 3, 64, 64)
    np.testing.assert_array_equal(batch.pictures[1].permute(1, 2, 0), made[1].image)
    start = 0
    for i, part in enumerate(made):
        faces = batch.targets.faces[i].numpy()
        for row in np.flatnonzero(part.faces >= 0):
            np.testing.assert_array_equal(
                batch.targets.boxes[faces[row]], part.boxes[part.faces[row]]
            )
        np.testing.assert_array_equal(faces < 0, part.faces < 0)
        assert (faces[faces >= 0] >= start).all()
        start += len(part.boxes)


def test_the_learning_rate_can_stay():
    steady = config(schedule="constant", lr=1.0, warmup=2)
    assert [loop.learning_rate(steady, step, 9) for step in (0, 1, 8)] == [0.5, 1.0, 1.0]


def rows(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_learns_to_find_drawn_faces_and_their_landmarks(tmp_path):
    settings = config(epochs=6, batch=8, lr=0.02)  # fewer leave it to rounding
    fit = loop.fit_detector(network(), Drawn(160), drawn(16), settings, tmp_path)
    assert fit.epoch == 6
    assert fit.best["ap"] > 0.5
    assert fit.best["kps_error"] < 0.25
    logged = rows(tmp_path)
    assert [row["epoch"] for row in logged] == [str(i) for i in range(1, 7)]
    assert float(logged[-1]["train_loss"]) < float(logged[0]["train_loss"]) / 2
    total = [float(logged[0][f"train_{part}"]) for part in ("scores", "boxes", "kps")]
    assert float(logged[0]["train_loss"]) == pytest.approx(
        total[0] + settings.box_weight * total[1] + settings.kps_weight * total[2], rel=1e-4
    )


def test_a_resumed_run_gives_the_same_to_the_bit(tmp_path):
    settings, data = config(epochs=3), {"sha256": "1"}
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir(), parted.mkdir()
    args = (Drawn(8), drawn(4), settings)
    loop.fit_detector(network(), *args, whole, facts=data)

    def stop(done, total, text):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.fit_detector(network(), *args, parted, facts=data, on_step=stop, workers=1)
    assert len(rows(parted)) == 2
    seen = Drawn(8)
    fit = loop.fit_detector(network(7), seen, drawn(4), settings, parted, facts=data, resume=True)
    assert {epoch for epoch, _ in seen.asked} == {2}
    assert fit.epoch == 3
    for name in ("last.safetensors", "best.safetensors"):
        one, other = (checkpoints.load(folder / name)[0] for folder in (whole, parted))
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert torch.equal(value, other[key]), key
    timed = ("seconds", "pictures_per_s")
    plain = [[v for k, v in row.items() if k not in timed] for row in rows(whole)]
    assert plain == [[v for k, v in row.items() if k not in timed] for row in rows(parted)]
    with pytest.raises(ConfigError, match=r"cannot resume .*lr = 0\.0015, now it is 0\.1"):
        loop.fit_detector(
            network(), *args[:2], config(epochs=3, lr=0.1), parted, facts=data, resume=True
        )
    with pytest.raises(
        ConfigError, match=r"its training data has changed .*; use the same data, --o"
    ):
        loop.fit_detector(network(), *args, parted, facts={"sha256": "2"}, resume=True)


@pytest.mark.parametrize("ema", [0.0, 0.9])  # without, validation changes the mode of the network
def test_statistics_that_are_frozen_stay_and_everything_else_learns(tmp_path, ema):
    def learnt(name, **given):
        (tmp_path / name).mkdir()
        args = (Drawn(16), drawn(4), config(ema=ema, **given), tmp_path / name)
        loop.fit_detector(network(), *args)
        tensors, _ = checkpoints.load(tmp_path / name / "last.safetensors")
        return checkpoints.select(tensors, "model")

    fresh, free = network().state_dict(), learnt("free")
    frozen = learnt("frozen", freeze_norm=True)
    norms = {key for key in fresh if key.rpartition(".")[2].startswith("running")}
    counters = {key for key in fresh if key.endswith("num_batches_tracked")}
    assert norms
    assert counters
    for key, value in fresh.items():
        assert torch.equal(frozen[key], value) == (key in norms | counters), key
        assert not torch.equal(free[key], value), key


@pytest.mark.parametrize(
    ("stride", "learning"),
    [
        (32, {"smooth.2", "down.1", "path.1", "heads.2"}),
        (16, {f"{part}.{i}" for part in ("smooth", "heads") for i in (1, 2)}
         | {f"{part}.{i}" for part in ("down", "path") for i in (0, 1)}),
    ],
)  # fmt: skip
def test_coarse_strides_can_learn_alone(tmp_path, stride, learning):
    """What the finer ones predict is the same to the bit."""
    settings = config(init=["x"], freeze_norm=True, learn_from=stride, ema=0.9)
    before, after = network(), network()
    before.to(memory_format=torch.channels_last)  # as training leaves a network
    loop.fit_detector(after, Drawn(16, size=128), drawn(4), settings, tmp_path)
    fresh = before.state_dict()
    changed = {
        ".".join(key.split(".")[:2])
        for key, value in after.state_dict().items()
        if not torch.equal(fresh[key], value)
    }
    assert changed == learning
    pictures = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        pairs = list(zip(before.eval()(pictures), after.eval()(pictures), strict=True))
    assert [torch.equal(*pair) for pair in pairs] == [own < stride for own in (8, 16, 32)]


def test_what_does_not_learn_counts_for_no_loss(tmp_path, monkeypatch):
    asked = []

    def spy(found, targets, weights):
        asked.append(targets.faces)
        return losses.detection_loss(found, targets, weights)

    monkeypatch.setattr(loop, "detection_loss", spy)
    settings = config(init=["x"], freeze_norm=True, learn_from=16, epochs=1)
    loop.fit_detector(network(), Drawn(16, size=128), drawn(4), settings, tmp_path)
    finest = 2 * 16 * 16
    assert all((faces[:, :finest] == IGNORED).all() for faces in asked)
    assert any((faces[:, finest:] >= 0).any() for faces in asked)


def test_some_steps_have_larger_and_fewer_pictures(tmp_path):
    """And an interrupted run sees the very steps that an undisturbed one sees."""
    sizes = []

    class Seen(Drawn):
        def sample(self, epoch, index):
            found = super().sample(epoch, index)
            sizes.append((epoch, index, len(found.image)))
            return found

    settings = config(epochs=2, close=0.5)
    near = Seen(16, seed=2, size=128)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir(), parted.mkdir()
    loop.fit_detector(network(), Seen(16), drawn(4), settings, whole, close=near)
    expected = sorted(sizes)
    steps = {(epoch, index // 4, size) for epoch, index, size in expected}
    assert len(steps) == 8  # two epochs of four steps, each of one size
    assert {size for _, _, size in steps} == {64, 128}
    for epoch, step, size in steps:
        asked = [i for e, i, s in expected if (e, i // 4, s) == (epoch, step, size)]
        assert asked == [4 * step + i for i in range(1 if size == 128 else 4)]

    def stop(done, total, text):
        if done == 6:
            raise KeyboardInterrupt

    args = (drawn(4), settings, parted)
    with pytest.raises(KeyboardInterrupt):
        loop.fit_detector(network(), Drawn(16), *args, close=near, on_step=stop)
    loop.fit_detector(network(7), Drawn(16), *args, close=near, resume=True)
    one, other = (checkpoints.load(folder / "last.safetensors")[0] for folder in (whole, parted))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_run_that_ends_before_tensorboard_has_its_epoch_writes_it_when_it_goes_on(
    tmp_path, monkeypatch
):
    written = []

    class Board:
        def __init__(self, folder):
            pass

        def write(self, row):
            if row["epoch"] == 1 and not resume:
                raise KeyboardInterrupt
            written.append(row["epoch"])

    monkeypatch.setattr(loop, "Board", Board)
    args = (Drawn(8), drawn(4), config(epochs=2), tmp_path)
    resume = False
    with pytest.raises(KeyboardInterrupt):
        loop.fit_detector(network(), *args)
    resume = True
    loop.fit_detector(network(), *args, resume=True)
    assert written == [1, 2]


def test_a_finished_run_composes_nothing_when_it_is_resumed(tmp_path, monkeypatch):
    settings = config(epochs=1)
    done = loop.fit_detector(network(), Drawn(8), drawn(4), settings, tmp_path)
    monkeypatch.setattr(loop, "batches", None)
    again = loop.fit_detector(network(), Drawn(8), drawn(4), settings, tmp_path, resume=True)
    assert repr(again.facts()) == repr(done.facts())  # there are NaNs among them


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    class Broken(Drawn):
        def sample(self, epoch, index):
            found = super().sample(epoch, index)
            far = np.full_like(found.kps, 1e30)
            return Sample(found.image, found.boxes, far, found.ignore)

    with pytest.raises(ModelError, match="loss of epoch 1 is not a number: lower --lr"):
        loop.fit_detector(
            network(), Broken(8), drawn(4), config(clip=0.0, kps_weight=1e30), tmp_path
        )


def test_scores_of_nothing():
    frame = np.zeros((64, 64, 3), np.uint8)
    kps = np.zeros((1, 5, 2), np.float32)
    one = Sample(frame, np.float32([[0, 0, 20, 20]]), kps, np.array([False]))
    none = Sample(frame, np.zeros((0, 4), np.float32), kps[:0], np.zeros(0, bool))
    found = Found(none.boxes, np.zeros(0, np.float32), none.kps)
    missed, nothing = repr(score([(one, found)])), repr(score([]))  # there are NaNs among them
    assert missed == "DetectionScores(ap=0.0, recall=0.0, kps_error=nan, faces=1)"
    assert nothing == "DetectionScores(ap=nan, recall=nan, kps_error=nan, faces=0)"
    assert repr(score([(none, found)])) == nothing


def test_scores_count_duplicates_as_false_and_ignored_regions_not_at_all():
    boxes = np.float32([[0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60]])
    kps = np.zeros((3, 5, 2), np.float32)
    kps[:, 1, 0] = 10  # the eyes are 10 apart
    sample = Sample(np.zeros((64, 64, 3), np.uint8), boxes, kps, np.array([False, False, True]))
    seen = Found(
        np.float32([[0, 0, 20, 20], [1, 0, 21, 20], [0, 40, 20, 61], [50, 50, 60, 60]]),
        np.float32([0.9, 0.8, 0.7, 0.3]),
        np.stack([kps[0] + np.float32([0, 1]), *kps, kps[0]])[:4],
    )
    got = score([(sample, seen)])
    # Of two faces one is found, first in the order: precision 1 at recall 1/2.
    assert (got.ap, got.recall, got.faces) == (0.5, 0.5, 2)
    assert got.kps_error == pytest.approx(0.1)


def test_the_exported_file_runs_as_scrfd(tmp_path, monkeypatch):
    monkeypatch.setattr(looks, "CLOSER_BELOW", 0)
    settings = config(epochs=4, lr=0.01, size=96)
    net = network()
    loop.fit_detector(net, Drawn(96, size=96), drawn(8, size=96), settings, tmp_path)
    path = tmp_path / "drawn.onnx"
    card = card_facts("drawn", licence="ours", source="squares", about={"epochs": 4})
    assert export_detector(net, path, card) < 1e-4
    facts = facts_of(path, path.read_bytes())
    assert (facts["kind"], facts["runner"], facts["licence"]) == ("detector", "scrfd", "ours")
    session = make_session(path, Runtime("cpu"))
    noise = np.random.default_rng(0).normal(size=(3, 3, 64, 160)).astype(np.float32)
    together = run_session(session, {"images": noise}, str(path), list(OUTPUTS))
    for i in range(3):  # a picture's result does not depend on the others
        alone = run_session(session, {"images": noise[i : i + 1]}, str(path), list(OUTPUTS))
        for both, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(both[i], one[0], rtol=1e-3, atol=1e-4)
    # The runner finds what torch finds, in a picture that is not square.
    detector = zoo.open_detector(str(path), Runtime("cpu"), DetectorOptions(160, 0.3))
    image = np.concatenate([draw(96, 5)[0], draw(96, 6)[0][:, :64]], 1)
    (ours,) = detector([Frame(image, "drawn", 0, None)])
    with torch.inference_mode():
        pixels = torch.from_numpy(image[None]).permute(0, 3, 1, 2)
        said = predictions(net(prepare(pixels)), anchors(96, 160))
    logits, boxes, kps = (part[0].numpy() for part in said)
    scores = 1 / (1 + np.exp(-logits))
    assert len(ours) > 0
    assert ours.det_scores[0] == pytest.approx(scores.max(), abs=1e-3)
    for face in range(len(ours)):
        row = int(np.abs(boxes - ours.boxes[face]).sum(1).argmin())
        np.testing.assert_allclose(scores[row], ours.det_scores[face], atol=1e-3)
        np.testing.assert_allclose(boxes[row], ours.boxes[face], atol=0.05)
        np.testing.assert_allclose(kps[row].reshape(5, 2), ours.kps[face], atol=0.05)


def test_a_file_that_is_not_the_network_is_not_written(tmp_path, monkeypatch):
    other = export.fold(network(3))
    monkeypatch.setattr(export, "fold", lambda _: other)
    with pytest.raises(ModelError, match=r"differs from the trained one by .* was not written"):
        export_detector(network(), tmp_path / "x.onnx", card_facts("x"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"size": 100}, "size must be a multiple of 32, got 100"),
        ({"widths": [8, 8]}, "widths must be four numbers"),
        ({"depths": [1, 1, 1, 0]}, "depths must be four numbers from 1 to 100"),
        ({"depths": [1, 1, 1, 101]}, "depths must be four numbers from 1 to 100"),
        ({"widths": [8, 8, 8, 4097]}, "widths must be four numbers from 1 to 4096"),
        ({"epoch": 3}, "unknown key 'epoch'; did you mean 'epochs'?"),
        ({"lr": 0}, "lr must be from 1e-09 to 10"),
        ({"least": 2}, "least must be from 7 to 1024, got 2"),
        ({"name": "a/b"}, "name becomes a file's name"),
        ({"schedule": "steps"}, "schedule must be one of cosine, constant"),
        ({"learn_from": 24}, "learn_from must be 0, 16 or 32, got 24"),
        ({"learn_from": 32, "freeze_norm": True}, "it needs init=... and freeze_norm=true"),
        ({"learn_from": 32, "init": ["a"]}, "it needs init=... and freeze_norm=true"),
        (
            {"learn_from": 32, "init": ["a"], "freeze_norm": True, "mimic": 1, "teacher": "b"},
            "say mimic: 0",
        ),
    ],
)
def test_configurations_are_checked(given, line):
    with pytest.raises(ConfigError, match=line.replace("?", r"\?")):
        make_detection_config(given)


def test_a_configuration_survives_yaml(tmp_path):
    from blurgate.training.settings import read_config

    settings = config(data=["a"], name="b")
    path = tmp_path / "c.yaml"
    path.write_text(settings.to_yaml(), encoding="utf-8")
    assert make_detection_config(read_config(str(path), DetectionConfig)) == settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of drawn pictures with annotations, and one of pictures without faces."""
    root = tmp_path_factory.mktemp("pictures")
    faces = {}
    for i in range(24):
        image, boxes, kps = draw(120, i)
        cv2.imwrite(str(root / f"{i}.png"), image)
        pairs = zip(boxes.tolist(), kps.tolist(), strict=True)
        faces[f"{i}.png"] = [{"box": box, "kps": points} for box, points in pairs]
    (root / "annotations.json").write_text(json.dumps(faces), encoding="utf-8")
    empty = root / "empty"
    empty.mkdir()
    cv2.imwrite(str(empty / "0.png"), np.full((90, 90, 3), 90, np.uint8))
    return root


def test_pictures_are_parted_by_their_names(folder):
    training, val = parts([str(folder)], 0.25)
    names = {picture.name for picture in training}
    assert len(training) + len(val) == 24
    assert names.isdisjoint(picture.name for picture in val)
    again, _ = parts([str(folder)], 0.25)
    assert [picture.name for picture in again] == [picture.name for picture in training]
    more, _ = parts([str(folder)], 0.1)  # a smaller share moves none the other way
    assert names <= {picture.name for picture in more}
    with pytest.raises(ConfigError, match="no pictures for validation"):
        parts([str(folder)], 1e-9)


def test_a_folder_may_say_what_is_for_validation(tmp_path, monkeypatch):
    for part, count in (("train", 3), ("val", 2)):
        place = tmp_path / part
        place.mkdir()
        for i in range(count):
            cv2.imwrite(str(place / f"{i}.png"), draw(64, i)[0])
        rows = {f"{i}.png": [[1, 1, 30, 30]] for i in range(count)}
        (place / "annotations.json").write_text(json.dumps(rows), encoding="utf-8")
    training, val = parts([str(tmp_path)], 0.5)
    assert (len(training), len(val)) == (3, 2)
    # A part of it can be given again, and stays where it is.
    rows = {"1.png": [[1, 1, 30, 30]]}
    again = tmp_path / "train" / "hard.json"
    again.write_text(json.dumps(rows), encoding="utf-8")
    training, val = parts([str(tmp_path), str(again), str(tmp_path / "train")], 0.9)
    assert [picture.name[0] for picture in training] == list("0121012")
    assert len(val) == 2
    monkeypatch.chdir(tmp_path / "train")  # whatever it is called
    training, val = parts([str(tmp_path), "hard.json", "."], 0.9)
    assert (len(training), len(val)) == (7, 2)


def test_a_folder_with_nothing_but_a_training_part_is_for_training(folder, tmp_path):
    """As `make_detection_data.py --val 0` leaves one."""
    place = tmp_path / "more"
    shutil.copytree(folder, place / "train")
    training, val = parts([str(place), str(folder)], 0.25)
    alone, same = parts([str(folder)], 0.25)
    assert len(training) == 24 + len(alone)
    assert [picture.name for picture in val] == [picture.name for picture in same]
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "train").mkdir()  # a folder of pictures, not a part
    assert len(parts([str(tmp_path / "other")], 0.25)[0]) == len(alone)


def test_wider_face_brings_its_own_validation(tmp_path):
    split = tmp_path / "wider_face_split"
    split.mkdir()
    for part, count in (("train", 4), ("val", 2)):
        images = tmp_path / f"WIDER_{part}" / "images" / "0--Parade"
        images.mkdir(parents=True)
        text = ""
        for i in range(count):
            cv2.imwrite(str(images / f"{part}{i}.jpg"), draw(64, i)[0])
            text += f"0--Parade/{part}{i}.jpg\n1\n1 1 30 30 0 0 0 0 0 0\n"
        (split / f"wider_face_{part}_bbx_gt.txt").write_text(text, encoding="utf-8")
    training, val = parts([str(tmp_path)], 0.5)
    assert [len(training), len(val)] == [4, 2]
    (tmp_path / "WIDER_val").rename(tmp_path / "elsewhere")  # its text is there all the same
    training, val = parts([str(tmp_path)], 0.5)
    assert len(training) + len(val) == 4


SHORT = (
    "--epochs", 1, "--batch", 4, "--workers", 2, "--device", "cpu",
    "--set", "size=96", "--set", "pictures=8", "--set", "val_pictures=4", "--set", "val=0.3",
    "--set", "warmup=1",
    *(word for key, value in TINY.items() for word in ("--set", f"{key}={value}")),
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_pictures_for_the_score(monkeypatch):
    monkeypatch.setattr("blurgate.training.detection.train.CALIBRATION_PICTURES", 64)


def test_the_command_leaves_a_detector_that_can_be_used(run, folder, tmp_path):
    out = tmp_path / "run"
    args = ("train", "--detector", "scrfd", "--data", folder, "--background", folder / "empty")
    ran = run(*args, "--out", out, *SHORT, "--set", "licence=ours")
    assert ran.code == 0, ran.err
    assert "try: blurgate filter VIDEO --detector" in ran.err
    assert {p.name for p in out.iterdir()} >= {
        "scrfd.onnx", "scrfd.json", "scrfd.md", "config.yaml", "log.csv",
        "best.safetensors", "last.safetensors",
    }  # fmt: skip
    card = json.loads((out / "scrfd.json").read_text())
    assert card["licence"] == "ours"
    assert card["about"]["data"]["background"] == 1
    assert card["about"]["torch_against_onnxruntime"] < 1e-4
    assert "| licence | ours |" in (out / "scrfd.md").read_text()
    zoo.open_detector(str(out / "scrfd.onnx"), Runtime("cpu"), DetectorOptions())
    before = (out / "scrfd.onnx").read_bytes()

    ran = run("train", "--out", out, "--resume", "--device", "cpu")  # it is over
    assert ran.code == 0, ran.err
    assert (out / "scrfd.onnx").read_bytes() == before
    ran = run(*args, "--out", out, *SHORT)
    assert ran.code == 2
    assert "not empty: use --resume to continue it, --overwrite" in ran.err
    with locked(out / LOCK):  # as another run does
        ran = run(*args, "--out", out, *SHORT, "--overwrite")
    assert (ran.code, f"another run is writing to {out}" in ran.err) == (2, True), ran.err
    assert (out / "scrfd.onnx").read_bytes() == before

    assert "begun_with" not in card["about"]
    init = ("--set", f"init={out / 'last.safetensors'}")
    assert run(*args, "--out", tmp_path / "second", *SHORT, *init).code == 0
    card = json.loads((tmp_path / "second" / "scrfd.json").read_text())
    assert card["about"]["begun_with"] == "run"
    assert "| begun with | run |" in (tmp_path / "second" / "scrfd.md").read_text()
    init = ("--set", f"init={out / 'scrfd.onnx'}")  # the exported file will do, too
    assert run(*args, "--out", tmp_path / "third", *SHORT, *init).code == 0
    card = json.loads((tmp_path / "third" / "scrfd.json").read_text())
    assert card["about"]["begun_with"] == "scrfd.onnx"


def test_faces_without_landmarks_leave_a_card_that_is_json(run, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "boxes")
    file = tmp_path / "boxes" / "annotations.json"
    rows = json.loads(file.read_text())
    boxes = {name: [face["box"] for face in faces] for name, faces in rows.items()}
    file.write_text(json.dumps(boxes))
    out = tmp_path / "run"
    ran = run("train", "--detector", "scrfd", "--data", file.parent, "--out", out, *SHORT)
    assert ran.code == 0, ran.err
    assert "landmark error not measured; try:" in ran.err
    held = onnx.load(out / "scrfd.onnx").metadata_props
    for text in ((out / "scrfd.json").read_text(), *(entry.value for entry in held)):
        assert "NaN" not in text
    found = json.loads((out / "scrfd.json").read_text())["about"]["validation"]
    assert (found["kps_error"], 0 <= found["ap"] <= 1, found["faces"] > 0) == (None, True, True)
    assert "landmark error not measured; " in (out / "scrfd.md").read_text()


def test_a_detector_that_cannot_begin_leaves_no_folder(run, folder, tmp_path):
    args = ("train", "--detector", "scrfd", "--data", folder, "--out", tmp_path / "run", *SHORT)
    ran = run(*args, "--set", f"init={tmp_path / 'nosuch'}")
    assert ran.code == 5, ran.err
    assert "nosuch" in ran.err
    ran = run(*args, "--set", f"init=[scrfd_blurgate, {tmp_path / 'nosuch'}]")
    assert ran.code == 2, ran.err
    assert "exported models and earlier runs" in ran.err
    assert not (tmp_path / "run").exists()


def test_the_command_asks_a_teacher(run, folder, tmp_path):
    args = ("train", "--detector", "scrfd", "--data", folder, "--background", folder / "empty")
    args += SHORT
    taught = run(*args, "--out", tmp_path / "taught", "--set", "teacher=scrfd_blurgate")
    assert taught.code == 0, taught.err
    card = json.loads((tmp_path / "taught" / "scrfd.json").read_text())
    assert card["about"]["data"]["teacher"].startswith("scrfd_blurgate@")
    assert "| teacher | scrfd_blurgate@" in (tmp_path / "taught" / "scrfd.md").read_text()
    log = (tmp_path / "taught" / "log.csv").read_text().splitlines()
    assert float(log[1].split(",")[log[0].split(",").index("train_mimic")]) == 0
    seen = ("--set", "teacher=scrfd_blurgate", "--set", "mimic=2")
    mimic = run(*args, "--out", tmp_path / "mimic", *seen)
    assert mimic.code == 0, mimic.err
    log = (tmp_path / "mimic" / "log.csv").read_text().splitlines()
    assert 0.1 < float(log[1].split(",")[log[0].split(",").index("train_mimic")]) <= 1
    assert "mimic 2.0" in (tmp_path / "mimic" / "scrfd.md").read_text()
    wrong = run(*args, "--out", tmp_path / "wrong", "--set", "teacher=scrfd_blurgat")
    assert wrong.code == 2, wrong.err
    assert "scrfd_blurgate" in wrong.err
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--detector", "scrfd"], "there is nothing to train on: give --data DIR"),
        (["--detector", "scrfb", "--data", "."], "scrfd"),
        (["--detector", "scrfd", "--data", ".", "--faces", "."], "--faces belongs to"),
        (["--detector", "scrfd", "--data", ".", "--head", "bins20"], "--head belongs to"),
        *(
            (["--detector", "scrfd", "--data", ".", name], f"{name} belongs to the training of")
            for name in ("--viz", "--kinds", "--int8")
        ),
        (["--background", "."], "--background belongs to --detector"),
        (["--detector", "scrfd", "--data", ".", "--set", "mimic=1"], "mimic needs a teacher"),
        (["--detector", "scrfd", "--data", "."], "annotations"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(run, tmp_path, monkeypatch, args, line):
    (tmp_path / "none").mkdir()
    monkeypatch.chdir(tmp_path / "none")
    ran = run("train", "--out", tmp_path / "run", *args)
    assert ran.code == (3 if line == "annotations" else 2), ran.err
    assert line in ran.err
    assert "Traceback" not in ran.err


def test_a_run_begins_with_the_weights_of_another(tmp_path):
    first, fresh = network(1), network(2)
    checkpoints.save(tmp_path / "best.safetensors", first.state_dict(), {})
    runs.begin_with(fresh, [str(tmp_path)])
    assert torch.equal(fresh.stem[0].weight, first.stem[0].weight)
    averaged, plain = network(3), network(4)
    tensors = {f"model.{name}": value for name, value in plain.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in averaged.state_dict().items()}
    checkpoints.save(tmp_path / "last.safetensors", tensors, {})
    runs.begin_with(fresh, [str(tmp_path / "last.safetensors")])
    assert torch.equal(fresh.stem[0].weight, averaged.stem[0].weight)
    runs.begin_with(fresh, [str(tmp_path), str(tmp_path / "last.safetensors")])
    before = [first.state_dict(), averaged.state_dict()]
    for name, value in fresh.state_dict().items():
        assert value.dtype == before[0][name].dtype
        torch.testing.assert_close(
            value, (before[0][name] + before[1][name]) / 2, check_dtype=False
        )
    with pytest.raises(ConfigError, match="does not fit the network: give it the shape"):
        runs.begin_with(network(stem=4), [str(tmp_path)])
    (tmp_path / "best.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match="is not a checkpoint of blurgate train"):
        runs.begin_with(fresh, [str(tmp_path)])
