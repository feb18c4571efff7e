"""`blurgate bench`."""

import json
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate import benching, timing, zoo
from blurgate.benching import Subject, measure
from blurgate.training.faces import FaceReader, list_faces
from blurgate.training.labels import Labeller
from blurgate.training.making import Recipe
from blurgate.training.synth import run_synth

MODELS = Path(__file__).parents[2] / "models_zoo"


def test_every_other_call_counts_and_gives_the_median_and_the_fastest(monkeypatch):
    seen, now = [], 7.0

    def slow(crops):
        nonlocal now
        seen.append(len(crops))
        # Calls that do not count are slow, as they are in caches that something else has filled; of
        # those that count, two are outliers.
        nth = seen.count(len(crops))
        now += 0.5 if nth % 2 else {4: 0.7, 6: 0.01}.get(nth, 0.02 * len(crops))

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    (taken,) = measure([Subject("slow", 0, {}, {("numpy", 1): slow})], [1, 4], rounds=5)
    assert seen == [1, 1, 4, 4] * 5
    assert taken["numpy", 1, 1] == pytest.approx((20, 10))
    assert taken["numpy", 1, 4] == pytest.approx((80, 10))


def test_times_are_of_the_wall_clock():
    def asleep(crops):
        time.sleep(0.1)

    (taken,) = measure([Subject("asleep", 0, {}, {("numpy", 1): asleep})], [1], rounds=1)
    assert min(taken["numpy", 1, 1]) >= 99


def test_models_are_timed_in_turns():
    order = []
    subjects = [
        Subject(name, 0, {}, {("numpy", 1): lambda crops, name=name: order.append(name)})
        for name in ("a", "b")
    ]
    done = []
    measure(subjects, [1], rounds=2, on_round=done.append)
    assert done == [1, 2]
    assert order == ["a", "a", "b", "b"] * 2


def test_a_scorer_without_weights_is_measured_on_a_folder(run, tiny, tmp_path):
    for i in range(8):
        path = tmp_path / "in" / f"p{i}" / "a.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), tiny.draw(112, i))
    run_synth(
        list_faces([str(tmp_path / "in")], val=0.5),
        Recipe(("gaussian",), per_image=3),
        tmp_path / "set",
        reader=FaceReader(112),
        labeller=Labeller(tiny.TinyEmbedder()),
    )
    options = ("--rounds", 2, "--batch", 1, "--batch", 2, "--no-torch")
    ran = run("bench", "laplacian", "--data", tmp_path / "set", *options, "--json")
    assert ran.code == 0, ran.err
    (row,) = json.loads(ran.out)["models"]
    assert (row["name"], row["bytes"], row["parameters"]) == ("laplacian", 0, None)
    assert [(e["engine"], e["threads"], e["batch"]) for e in row["ms"]] == [
        ("numpy", 1, 1),
        ("numpy", 1, 2),
    ]
    assert all(entry["ms"] >= entry["fastest_ms"] > 0 for entry in row["ms"])

    # The same errors by hand.
    from blurgate import blur_degree
    from blurgate.training.dataset import Dataset

    part = Dataset(tmp_path / "set", split="val")
    assert len(part) == 12
    degrees = blur_degree(part.pictures(range(12)), model="laplacian")
    assert row["mae"] == pytest.approx(np.abs(degrees - part.labels).mean(), abs=1e-6)

    plain = run("bench", "laplacian", *options)
    head, line = plain.out.splitlines()
    assert head.split() == [
        *("MODEL", "MB", "PARAMETERS", "MAE", "SPEARMAN", "ENGINE", "THREADS"),
        *("MS", "AT", "1", "MS", "AT", "2"),
    ]
    assert line.split()[:7] == ["laplacian", "-", "-", "-", "-", "numpy", "1"]

    empty = shutil.copytree(tmp_path / "set", tmp_path / "empty")
    table = empty / "label_gaussian/label/data_label.csv"
    table.write_text(table.read_text().replace(",val,", ",train,"))
    ran = run("bench", "laplacian", "--data", empty, *options)
    assert ran.code == 2
    assert "has no validation pictures; make it with blurgate synth --val" in ran.err


def test_models_of_one_name_are_told_apart_by_what_was_given(run, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    box = Path(zoo.resolve("scorer", "squeezenet1_1").path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(box, f"{folder}/m.onnx")
    options = ("--rounds", 1, "--batch", 1, "--threads", 1, "--no-torch")
    models = ("a/m.onnx", "laplacian", "b/m.onnx")
    ran = run("bench", *models, *options)
    assert ran.code == 0, ran.err
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == list(models)
    ran = run("bench", *models, *options, "--json")
    rows = json.loads(ran.out)["models"]
    assert rows[0]["name"] == rows[2]["name"]
    assert [row["path"] for row in rows] == ["a/m.onnx", None, "b/m.onnx"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("laplacien",), 2, "no scorer is called 'laplacien'; did you mean 'laplacian'"),
        (("none.onnx",), 5, "the scorer file none.onnx does not exist"),
        (("laplacian", "--data", "none"), 3, "none holds no dataset of blurgate synth"),
        (("laplacian", "--batch", "0"), 2, "--batch"),
        (("--backbone", "resnet81"), 2, "no backbone is called 'resnet81'"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, monkeypatch, options, code, message):
    if "--backbone" in options:
        pytest.importorskip("torch")
        pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    ran = run("bench", *options, "--rounds", 1)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_patterns_that_the_shell_left_are_resolved(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.onnx", "a.onnx", "[ab].onnx"):
        shutil.copy(MODELS / "mobilenetv2_0.25.onnx", name)
    given = []
    monkeypatch.setattr(benching, "open_subject", lambda name, *rest: given.append(name) or 1 / 0)
    for pattern in ("[ab].onnx", "?.onnx", "c*.onnx"):
        assert run("bench", pattern).code == 1
    assert given == ["[ab].onnx", "a.onnx", "c*.onnx"]


def test_an_untrained_backbone_is_timed_in_both_engines(run):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    before = torch.get_num_threads()
    try:
        ran = run(
            *("bench", "--backbone", "mobilenetv2", "--json"),
            *("--rounds", 1, "--batch", 1, "--threads", 1),
        )
    finally:
        torch.set_num_threads(before)
    assert ran.code == 0, ran.err
    (row,) = json.loads(ran.out)["models"]
    assert (row["name"], row["parameters"]) == ("mobilenetv2_0.25", 239_393)
    assert row["mae"] is None
    assert 800_000 < row["bytes"] < 1_100_000
    assert {entry["engine"] for entry in row["ms"]} == {"onnxruntime", "torch"}


@pytest.mark.parametrize(
    ("about", "cells"),
    [
        ({"validation": 0.03}, ["-", "-", "-"]),
        ({"validation": {"mae": "0.03", "spearman": 0.5}}, ["-", "-", "0.5000"]),
        ({"validation": {"mae": 10**400}, "parameters": True}, ["-", "-", "-"]),
        ({"parameters": "1.2 M"}, ["-", "-", "-"]),
        ({"parameters": 12000, "validation": {"mae": 0.03}}, ["12,000", "0.0300", "-"]),
    ],
)
def test_about_may_hold_anything(run, tmp_path, monkeypatch, about, cells):
    monkeypatch.chdir(tmp_path)
    shutil.copy(MODELS / "mobilenetv2_0.25.onnx", "mine.onnx")
    card = {
        "kind": "scorer", "name": "mine", "threshold": 0.4, "output": {"type": "degree"},
        "about": about,
    }  # fmt: skip
    Path("mine.json").write_text(json.dumps(card))
    options = ("--rounds", 1, "--batch", 1, "--threads", 1, "--no-torch")
    ran = run("bench", "mine.onnx", *options)
    assert ran.code == 0, ran.err
    line = ran.out.splitlines()[1].split()
    assert [line[0], *line[2:5]] == ["mine", *cells]


def test_the_card_of_a_trained_model_tells_its_errors_and_its_network(monkeypatch):
    pytest.importorskip("torch")
    from blurgate.training.bench import torch_calls

    about = {"backbone": "squeezenet1_1", "training": {"head": "bins20"}}
    calls = torch_calls(about, [1, 2])
    assert set(calls) == {("torch", 1), ("torch", 2)}
    crops = np.zeros((3, 112, 112, 3), np.uint8)
    assert tuple(calls["torch", 1](crops).shape) == (3,)
    # A backbone of a plugin that is not here cannot be timed in torch; that is no error.
    assert torch_calls({"backbone": "somebody's"}, [1]) == {}
    # And `about` may hold anything.
    odd = {"backbone": "squeezenet1_1", "training": "50 epochs", "backbone_options": "none"}
    assert set(torch_calls(odd, [1])) == {("torch", 1)}
    assert torch_calls({"backbone": ["ours"], "training": {"head": 3}}, [1]) == {}


def test_an_8_bit_twin_has_no_time_in_torch():
    pytest.importorskip("torch", reason='it needs: pip install "blurgate[train]"')
    pytest.importorskip("lightning_fabric", reason='it needs: pip install "blurgate[train]"')
    from blurgate.training.bench import torch_calls

    about = {"backbone": "mobilenetv2_0.25", "parameters": 239393}
    assert set(torch_calls(about, [1])) == {("torch", 1)}
    assert torch_calls({**about, "int8": {"mae_loss": 0.0005}}, [1]) == {}
