"""`blurgate train` end to end, with a backbone and an embedder that the tests bring."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

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
import yaml

from blurgate import zoo
from blurgate.cards import facts_of
from blurgate.host import get_host
from blurgate.interfaces import Runtime
from blurgate.locking import LOCK, locked
from blurgate.training import checkpoints, loop
from blurgate.training.faces import FaceReader, list_faces
from blurgate.training.labels import Labeller
from blurgate.training.making import Recipe
from blurgate.training.synth import run_synth

DATA = Path(__file__).parents[1] / "data"
SHORT = ("--epochs", 3, "--batch", 8, "--workers", 1, "--device", "cpu")


@pytest.fixture(autouse=True, scope="module")
def threads():
    """The command sets the threads of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def plugins(load):
    """The backbone `tiny` and the embedder `tiny`."""
    found, host = {}, get_host()
    for name in ("tiny_backbone", "tiny_embedder"):
        found[name] = load(DATA / f"{name}.py")
        host.add(found[name], f"{name}-plugin")
    try:
        yield found
    finally:
        for name in found:
            host.remove(f"{name}-plugin")


@pytest.fixture(scope="module")
def faces(plugins, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    for i in range(20):
        path = folder / f"p{i // 2}" / f"{i % 2}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), plugins["tiny_embedder"].draw(112, i))
    return folder


@pytest.fixture(scope="module")
def trainset(plugins, faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    run_synth(
        list_faces([str(faces)], val=0.2),
        Recipe(("gaussian", "linear"), per_image=2),
        folder,
        reader=FaceReader(112),
        labeller=Labeller(plugins["tiny_embedder"].TinyEmbedder()),
    )
    return folder


@pytest.fixture
def train(run):
    return lambda *arguments: run("train", *arguments)


def test_a_folder_becomes_a_model_that_scores(train, run, trainset, tmp_path):
    out = tmp_path / "run"
    ran = train("--plugin", "tiny", "--data", trainset, "--out", out, *SHORT)
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == [
        "best.safetensors",
        "config.yaml",
        "last.safetensors",
        "log.csv",
        "tiny.json",
        "tiny.md",
        "tiny.onnx",
    ]
    card = json.loads((out / "tiny.json").read_text())
    about = card["about"]
    assert (card["kind"], card["name"], card["threshold"]) == ("scorer", "tiny", 0.4)
    # 10 people of 2 pictures, blurred 4 times; 2 people are put aside.
    assert (about["data"]["train"], about["data"]["val"]) == (64, 16)
    assert (about["data"]["identities"], about["data"]["identities_val"]) == (8, 2)
    assert about["data"]["embedder"] == {"name": "tiny", "sha256": ""}
    assert about["bytes"] == (out / "tiny.onnx").stat().st_size
    assert about["torch_against_onnxruntime"] <= 1e-4
    assert about["latency_ms"]["batch 1"] > 0
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    best = min(float(row["val_mae"]) for row in rows)
    assert about["validation"]["mae"] == pytest.approx(best, abs=1e-5)
    page = (out / "tiny.md").read_text()
    assert f"{best:.4f} on 16 pictures" in page
    assert "blurred by gaussian, linear" in page
    assert "tiny.onnx: 0.0" in ran.err

    # What the command line gives is what the validation measured.
    with (trainset / "label_gaussian/label/data_label.csv").open() as file:
        val = [row for row in csv.DictReader(file) if row["split"] == "val"]
    with (trainset / "label_linear/label/data_label.csv").open() as file:
        val += [row for row in csv.DictReader(file) if row["split"] == "val"]
    pictures = np.stack([cv2.imread(str(trainset / row["file"])) for row in val])
    degrees = zoo.open_scorer(str(out / "tiny.onnx"), Runtime("cpu"))(pictures)
    mae = np.abs(degrees - [float(row["label"]) for row in val]).mean()
    assert mae == pytest.approx(about["validation"]["mae"], abs=1e-5)
    scored = run("score", trainset / val[0]["file"], "--aligned", "--model", out / "tiny.onnx")
    assert scored.code == 0, scored.err
    (row,) = csv.DictReader(scored.out.splitlines())
    assert float(row["blur_degree"]) == pytest.approx(degrees[0], abs=1e-5)


def test_an_interrupted_run_is_resumed_without_any_option(train, trainset, tmp_path, monkeypatch):
    options = ("--plugin", "tiny", "--data", trainset, "--set", "ema=0.9", *SHORT)
    assert train("--out", tmp_path / "whole", *options).code == 0
    close = loop._Run._close_epoch

    def interrupted(self, *arguments):
        if self.state.epoch == 1:
            raise KeyboardInterrupt
        close(self, *arguments)

    monkeypatch.setattr(loop._Run, "_close_epoch", interrupted)
    assert train("--out", tmp_path / "parts", *options).code == 130
    monkeypatch.setattr(loop._Run, "_close_epoch", close)
    assert not (tmp_path / "parts" / "tiny.onnx").exists()
    ran = train("--out", tmp_path / "parts", "--resume", "--workers", 1, "--device", "cpu")
    assert ran.code == 0, ran.err
    for name in ("last.safetensors", "best.safetensors"):
        whole, parts = (checkpoints.load(tmp_path / part / name)[0] for part in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[key], parts[key]) for key in whole)

    ran = train("--out", tmp_path / "parts", "--resume", "--lr", 0.5)
    assert (ran.code, ran.out) == (2, "")
    assert "it was begun with lr = 0.001, now it is 0.5" in ran.err


@pytest.mark.parametrize("words", [(), ("--resume",), ("--overwrite",)])
def test_two_runs_do_not_share_a_folder(train, trainset, tmp_path, words):
    out = tmp_path / "run"
    command = ("--plugin", "tiny", "--data", trainset, *SHORT[2:], "--epochs", 1, "--out", out)
    if words:
        assert train(*command).code == 0
    out.mkdir(exist_ok=True)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with locked(out / LOCK):  # as the other run does
        ran = train(*command, *words)
        found = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
    assert f"another run is writing to {out}" in ran.err
    assert found == {**before, out / LOCK: b""}
    (out / LOCK).touch()  # of a run that was killed
    assert train(*command, *words).code == 0
    assert not (out / LOCK).exists()


def test_a_run_is_not_resumed_with_other_faces(train, faces, tmp_path):
    shutil.copytree(faces, tmp_path / "in")
    out = tmp_path / "run"
    options = ("--plugin", "tiny", "--faces", tmp_path / "in", "--embedder", "tiny")
    options += ("--set", "size=112", *SHORT[2:], "--out", out)
    assert train(*options, "--epochs", 1).code == 0
    shutil.copy(tmp_path / "in/p0/0.png", tmp_path / "in/p0/2.png")
    ran = train("--resume", "--out", out, "--device", "cpu")
    assert ran.code == 2
    assert ran.err == (
        f"blurgate: error: cannot resume {out}: its training data has changed since it was begun; "
        "use the same data, --overwrite, or another --out\n"
    )


def test_training_begins_with_the_weights_of_an_earlier_run(train, trainset, tmp_path):
    options = ("--plugin", "tiny", "--data", trainset, *SHORT)
    assert train("--out", tmp_path / "first", *options).code == 0
    still = (*options, "--lr", 1e-12, "--set", "weight_decay=0", "--set", "seed=9")
    init = ("--set", f"init={tmp_path / 'first'}")
    exported = ("--set", f"init={tmp_path / 'first' / 'tiny.onnx'}")
    for name, begin in (("second", init), ("exported", exported)):
        ran = train("--out", tmp_path / name, *still, *begin)
        assert ran.code == 0, ran.err
    first, second = (
        checkpoints.load(tmp_path / run / "best.safetensors")[0] for run in ("first", "second")
    )
    about = [
        json.loads((tmp_path / run / "tiny.json").read_text())["about"]
        for run in ("first", "second", "exported")
    ]
    assert [one.get("begun_with") for one in about] == [None, "first", "tiny.onnx"]
    # Nothing was learnt: it scores as the first run's model does, but for the statistics of
    # batches, which were forgotten in the export and measured on the same pictures.
    maes = [one["validation"]["mae"] for one in about]
    assert maes[2] == pytest.approx(maes[0], abs=2e-3)
    ran = train("--out", tmp_path / "exported", "--resume", "--workers", 1, "--device", "cpu")
    assert ran.code == 0, ran.err
    assert "| begun with | first |" in (tmp_path / "second" / "tiny.md").read_text()
    learnt = [key for key in first if not key.endswith(("running_mean", "running_var", "tracked"))]
    assert learnt
    assert all(torch.allclose(first[key], second[key], atol=1e-6) for key in learnt)
    ran = train("--out", tmp_path / "third", *options, "--set", "hidden=[3]", *init)
    assert (ran.code, ran.out) == (2, "")
    assert "does not fit the network: give it the shape that it had in that run" in ran.err
    both = f"init=[{tmp_path / 'first'}, {tmp_path / 'first' / 'tiny.onnx'}]"
    ran = train("--out", tmp_path / "both", *still, "--set", both)
    assert (ran.code, ran.out) == (2, "")
    assert "exported models and earlier runs" in ran.err


def test_it_is_said_if_those_who_are_put_aside_have_been_learnt_from(train, faces, tmp_path):
    options = ("--plugin", "tiny", "--faces", faces, "--embedder", "tiny", "--set", "size=112")
    options += ("--epochs", 1, *SHORT[2:])
    assert train("--out", tmp_path / "first", *options).code == 0
    begin = ("--set", f"init={tmp_path / 'first'}")
    ran = train("--out", tmp_path / "same", *options, *begin, "--quiet")
    assert (ran.code, ran.err) == (0, "")
    ran = train("--out", tmp_path / "other", *options, *begin, "--quiet", "--seed", 7)
    assert ran.code == 0
    assert ran.err.startswith(f"blurgate: {tmp_path / 'first'} has learnt from ")
    assert "(seed 0, now 7); put the same people aside" in ran.err
    assert ran.err.count("\n") == 1


def test_faces_are_blurred_on_the_fly(train, faces, tmp_path):
    out = tmp_path / "run"
    given = {"synthesizer": "gaussian", "size": 112, "per_face": 2, "patience": 5}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(given))
    ran = train(
        *("--config", tmp_path / "mine.yaml", "--faces", faces, "--embedder", "tiny"),
        *("--plugin", "tiniest", "--head", "bins20", "--loss", "cmse", "--out", out),
        *("--epochs", 1, "--set", "backbone_options.features=24", *SHORT[2:]),
    )
    assert ran.code == 0, ran.err
    about = json.loads((out / "tiny.json").read_text())["about"]
    assert about["data"]["kind"] == "faces"
    # what a backbone is made with reaches it: 8 and 24 channels of 4 x 4, a norm, and 20 bins
    assert about["backbone_options"] == {"features": 24}
    parameters = 8 * 3 * 16 + 2 * 8 + 24 * 8 * 16 + 24 + (24 + 1) * 20
    assert about["parameters"] == parameters
    assert (about["data"]["train"], about["data"]["val"]) == (16, 4)
    assert (about["training"]["per_face"], about["training"]["fresh"]) == (2, 0)
    page = (out / "tiny.md").read_text()
    assert "| training data | 16 faces, " in page
    assert "| validation data | 4 faces, " in page
    written = yaml.safe_load((out / "config.yaml").read_text())
    assert written["backbone"] == "tiny"
    assert (written["head"], written["loss"], written["per_face"]) == ("bins20", "cmse", 2)
    crop = cv2.imread(str(faces / "p0" / "0.png"))[None]
    (degree,) = zoo.open_scorer(str(out / "tiny.onnx"), Runtime("cpu"))(crop)
    assert 0.025 <= degree <= 0.975


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "there is nothing to train on: give --data DIR or --faces PATH"),
        (("--data", "set", "--faces", "set"), 2, "the command line: train either on a folder"),
        (("--data", "none"), 3, "none holds no dataset of blurgate synth"),
        (("--data", "set", "--plugin", "resnet81"), 2, "no backbone is called 'resnet81'; did"),
        (("--data", "set", "--head", "bins20"), 2, "needs a regression head: use --head"),
        (("--data", "set", "--set", "emaa=1"), 2, "unknown key 'emaa'; did you mean 'ema'?"),
        (("--data", "set", "--set", "backbone_options.width=2"), 2, "argument 'width'"),
        (("--data", "set", "--set", "ema=1", "--set", "ema.x=1"), 2, "ema.x: ema is 1.0"),
        (("--data", "set", "--config", "orginal"), 2, "no preset is called 'orginal'; did you"),
        (("--data", "set", "--epochs", "0"), 2, "epochs must be at least 1, got 0"),
        (("--data", "set", "--device", "gpu"), 2, "unknown device 'gpu'; use auto, cpu, cuda"),
        (("--resume", "--overwrite"), 2, "use --resume or --overwrite, not both"),
    ],
)
def test_wrong_usage_is_one_line(train, trainset, tmp_path, monkeypatch, options, code, message):
    monkeypatch.chdir(trainset.parent)
    ran = train("--plugin", "tiny", "--out", tmp_path / "run", *options)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("blurgate: error: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert not (tmp_path / "run").exists()  # the corrected command finds it free


def test_kinds_without_a_folder_are_refused_before_any_work(train, faces, tmp_path):
    out = tmp_path / "run"
    ran = train(
        *("--plugin", "tiny", "--faces", faces, "--embedder", "tiny", "--kinds", "--out", out),
        *("--set", "size=112", "--epochs", 1, *SHORT[2:]),
    )
    assert ran.code == 2
    assert "--kinds learns from a folder of blurgate synth: use --data" in ran.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("backbone", "recipe", "message"),
    [
        ("resnet18", Recipe(("linear",)), "a backbone with an nn.Sequential of at least 5 layers"),
        ("mobilenetv2", Recipe(("linear",), iterative=2), "no pictures of known kinds of blur"),
    ],
)
def test_kinds_that_cannot_be_learnt_are_refused_before_any_work(
    train, plugins, faces, tmp_path, backbone, recipe, message
):
    run_synth(
        list_faces([str(faces)], val=0.2),
        recipe,
        tmp_path / "set",
        reader=FaceReader(112),
        labeller=Labeller(plugins["tiny_embedder"].TinyEmbedder()),
    )
    out = tmp_path / "run"
    ran = train("--plugin", backbone, "--data", tmp_path / "set", "--kinds", "--out", out, *SHORT)
    assert ran.code == 2
    assert message in ran.err
    assert not out.exists()


def test_kinds_of_which_there_are_no_pictures_are_named_and_none_is_exported(
    train, plugins, faces, tmp_path
):
    run_synth(
        list_faces([str(faces)], val=0.2),
        Recipe(("defocus",)),
        tmp_path / "set",
        reader=FaceReader(112),
        labeller=Labeller(plugins["tiny_embedder"].TinyEmbedder()),
    )
    out = tmp_path / "run"
    ran = train("--data", tmp_path / "set", "--kinds", "--out", out, *SHORT, "--epochs", 1)
    assert ran.code == 0, ran.err
    (line,) = [line for line in ran.err.splitlines() if line.startswith("kind of blur: ")]
    assert "not exported: training or validation has no pictures of " in line
    assert line.endswith("motion, lowres")
    card = json.loads((out / "mobilenetv2_0.25.json").read_text())
    assert "kinds" not in card["output"]
    assert card["about"]["kinds"]["missing"][-2:] == ["motion", "lowres"]
    assert "; not exported: no pictures of " in (out / "mobilenetv2_0.25.md").read_text()


def test_overwriting_leaves_nothing_of_the_earlier_run(train, trainset, tmp_path):
    options = ("--plugin", "tiny", "--data", trainset, "--out", tmp_path, *SHORT)
    assert train(*options, "--set", "name=first").code == 0
    assert "use --resume to continue it, --overwrite to begin anew" in train(*options).err
    assert train(*options, "--set", "name=second", "--overwrite", "--epochs", 1).code == 0
    assert not list(tmp_path.glob("first.*"))
    assert json.loads((tmp_path / "second.json").read_text())["about"]["epochs_done"] == 1


def test_overwriting_with_data_that_cannot_be_read_leaves_the_earlier_run(
    train, trainset, tmp_path
):
    options = ("--plugin", "tiny", "--out", tmp_path, *SHORT)
    assert train(*options, "--data", trainset).code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {"config.yaml", "last.safetensors", "tiny.onnx"} <= before.keys()
    ran = train(*options, "--data", "nosuch", "--overwrite")
    assert (ran.code, "nosuch holds no dataset" in ran.err) == (3, True)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before


def test_a_folder_in_use_is_left_alone(train, trainset, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    ran = train("--plugin", "tiny", "--data", trainset, "--out", tmp_path, *SHORT)
    assert ran.code == 2
    assert "is not empty: choose another --out" in ran.err
    for option in ("--overwrite", "--resume"):
        assert train("--plugin", "tiny", "--data", trainset, "--out", tmp_path, option).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    ran = train("--plugin", "tiny", "--data", "nosuch", "--out", tmp_path / "mine.txt/o", *SHORT)
    assert (ran.code, "mine.txt is a file; choose another --out" in ran.err) == (2, True)


@pytest.mark.parametrize(
    "text", ["name: ../model\n", "backbone: tiny\nepochs: 1\n", "- 1\n", "name: \xff\n"]
)
def test_what_others_call_config_is_no_earlier_run(train, trainset, tmp_path, text):
    out = tmp_path / "project"
    out.mkdir()
    (out / "config.yaml").write_bytes(text.encode("latin-1"))
    (out / "log.csv").write_text("mine")
    (tmp_path / "model.onnx").write_text("mine")
    ran = train("--plugin", "tiny", "--data", trainset, "--out", out, *SHORT, "--overwrite")
    assert ran.code == 2
    assert "is not empty: choose another --out" in ran.err
    assert (out / "config.yaml").read_bytes() == text.encode("latin-1")
    assert (out / "log.csv").read_text() == (tmp_path / "model.onnx").read_text() == "mine"


def test_data_without_validation_is_refused(train, plugins, faces, tmp_path):
    run_synth(
        list_faces([str(faces)]),
        Recipe(("gaussian",)),
        tmp_path / "set",
        reader=FaceReader(112),
        labeller=Labeller(plugins["tiny_embedder"].TinyEmbedder()),
    )
    ran = train("--plugin", "tiny", "--data", tmp_path / "set", "--out", tmp_path / "run")
    assert ran.code == 2
    assert "no validation pictures; make them with blurgate synth --val 0.2" in ran.err


@pytest.mark.parametrize("package", ["torch", "lightning_fabric", "onnxscript"])
def test_a_missing_package_is_named_before_any_work(train, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    ran = train("--data", "set", "--out", tmp_path / "run")
    assert ran.code == 5
    assert f"training needs {package}, which is not installed; run: pip install" in ran.err
    assert '"blurgate[train]"' in ran.err
    assert not (tmp_path / "run").exists()


def test_viz_draws_every_epoch_for_a_folder_and_on_the_fly(train, trainset, faces, tmp_path):
    pytest.importorskip("matplotlib")
    options = ("--plugin", "tiny", "--embedder", "tiny", "--viz", *SHORT)
    for name, source in (("folder", ("--data", trainset)), ("live", ("--faces", faces))):
        out = tmp_path / name
        ran = train(*source, "--out", out, *options)
        assert ran.code == 0, ran.err
        drawn = sorted(path.name for path in (out / "viz").iterdir())
        assert drawn == ["epoch_001.png", "epoch_002.png", "epoch_003.png"]
    # The curves change nothing about the result.
    plain = ("--plugin", "tiny", "--embedder", "tiny", "--data", trainset, *SHORT)
    assert train("--out", tmp_path / "plain", *plain).code == 0
    one, other = (
        checkpoints.load(tmp_path / name / "best.safetensors")[0] for name in ("folder", "plain")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_an_8_bit_twin_is_written_with_what_it_loses(train, trainset, tmp_path):
    out = tmp_path / "run"
    ran = train("--plugin", "tiny", "--data", trainset, "--int8", "--out", out, *SHORT)
    assert ran.code == 0, ran.err
    assert "tiny.int8.onnx: 0.0" in ran.err
    rows = []
    for method in ("gaussian", "linear"):
        with (trainset / f"label_{method}/label/data_label.csv").open() as file:
            rows += [row for row in csv.DictReader(file) if row["split"] == "val"]
    pictures = np.stack([cv2.imread(str(trainset / row["file"])) for row in rows])
    true = np.array([float(row["label"]) for row in rows])
    errors = {}
    for name in ("tiny.onnx", "tiny.int8.onnx"):
        degrees = zoo.open_scorer(str(out / name), Runtime("cpu"))(pictures)
        errors[name] = np.abs(degrees - true).mean()
    card = facts_of(out / "tiny.int8.onnx", (out / "tiny.int8.onnx").read_bytes())
    assert card["name"] == "tiny.int8"
    stated = card["about"]["validation"]["mae"]
    assert stated == pytest.approx(errors["tiny.int8.onnx"], abs=1e-5)
    lost = errors["tiny.int8.onnx"] - errors["tiny.onnx"]
    assert card["about"]["int8"]["mae_loss"] == pytest.approx(lost, abs=1e-5)
    assert card["about"]["int8"]["pictures"] == 64  # 16 faces, 2 methods, 2 pictures of each
    page = (out / "tiny.int8.md").read_text()
    assert "ranges from 64 training pictures" in page
    assert f"| validation MAE | {stated:.4f} on 16 pictures" in page
    assert f"validation MAE {lost:+.4f} against the model" in page
    assert "torch against onnxruntime" not in page
    assert lost != 0  # it is another network
    graph = onnx.load(out / "tiny.int8.onnx").graph
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    # Products of eight and seven bits add up in 16 bits without overflow on any processor.
    assert weights
    assert max(int(np.abs(values.astype(int)).max()) for values in weights) <= 64
