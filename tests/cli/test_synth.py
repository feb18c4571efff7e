"""`blurgate synth` end to end, on pictures that the tests draw."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("tiny_plugin")


@pytest.fixture
def synth(run, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cv2, "setNumThreads", lambda n: None)  # it is the whole process's

    def run_synth(*arguments):
        return run("synth", *arguments, "--embedder", "tiny")

    return run_synth


@pytest.fixture
def crops(tiny, tmp_path):
    folder = tmp_path / "in"
    for i in range(8):
        path = folder / f"p{i // 2}" / f"{i % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), tiny.draw(112, i))
    return folder


def table(folder, method):
    with (folder / f"label_{method}/label/data_label.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_ready_crops_become_labelled_pictures(synth, crops, tiny, tmp_path):
    options = ("--per-image", 3, "--val", 0.25, "--seed", 4)
    ran = synth("in", "--out", "o", *options)
    assert (ran.code, ran.out) == (0, "")
    counted = "8 pictures of 4 people, 1 for validation: 8 faces, 0 skipped; 24 blurred pictures"
    assert counted in ran.err
    rows = table(tmp_path / "o", "random")
    assert len(rows) == 24
    assert sum(row["split"] == "val" for row in rows) == 6
    for row in rows:
        a, b = (
            tiny.embed_one(cv2.imread(str(tmp_path / "o" / row[k]))) for k in ("clean_file", "file")
        )
        assert float(row["label"]) == pytest.approx(1 - a @ b, abs=2e-6)
    again = synth(
        "in", "--out", "o2", "--per-image", 3, "--val", 0.25, "--seed", 4, "--workers", 3, "--quiet"
    )
    assert (again.code, again.err) == (0, "")
    assert files(tmp_path / "o") == files(tmp_path / "o2")


def test_the_last_line_tells_who_the_paths_were_taken_for(synth, crops):
    folders = synth("in/p0", "in/p1", "--out", "o", "--per-image", 1)  # as the shell expands in/*
    assert "4 pictures of 4 people: 4 faces" in folders.err
    around = synth("in", "--out", "o2", "--per-image", 1, "--identity", "folder")
    assert "8 pictures of 4 people: 8 faces" in around.err


def test_one_seed_decides_the_pictures_and_another_who_is_put_aside(synth, crops, tmp_path):
    def made(name, *options):
        assert synth("in", "--out", name, "--val", 0.5, *options).code == 0
        rows = table(tmp_path / name, "random")
        parts = {row["identity"]: row["split"] for row in rows}
        return parts, [row["parameters"] for row in rows]

    first, second, apart, other = (
        made("a", "--seed", 1),
        made("b", "--seed", 2, "--val-seed", 1),
        made("c", "--seed", 1, "--val-seed", 1),
        made("d", "--seed", 1, "--val-seed", 3),
    )
    assert first == apart
    assert first[0] == second[0]
    assert not set(first[1]) & set(second[1])
    assert first[1] == other[1]
    assert first[0] != other[0]


def test_every_option_has_its_effect(synth, crops, tmp_path):
    options = ("--blur", "gaussian", "--blur", "lowres", "--iterative", 2, "--no-noise")
    options += ("--no-compression", "--gamma", "--even", "--identity", "file", "--size", 112)
    assert synth("in/p0", "--out", "o", *options).code == 0
    facts = json.loads((tmp_path / "o" / "dataset.json").read_text())
    assert list(facts["methods"]) == ["gaussian", "lowres"]
    assert set(facts["even"]) == {"gaussian", "lowres"}
    assert (facts["iterative"], facts["light"], facts["size"]) == (2, "srgb", 112)
    assert (facts["noise"], facts["compression"], facts["detector"]) == (False, False, None)
    assert facts["split"]["identities"] == 2
    for row in table(tmp_path / "o", "gaussian"):
        params = json.loads(row["parameters"])
        assert len(params["blur"]["steps"]) == 2
        assert (params["light"], params["photons"], params["codec"]) == ("srgb", None, None)


def test_photos_are_aligned_when_asked(synth, marker, tmp_path):
    (tmp_path / "in").mkdir()
    image = np.full((300, 500, 3), 60, np.uint8)
    cv2.imwrite("in/nobody.png", image)
    marker.draw(image, 20, 30, 120, sharp=True, seed=0)
    marker.draw(image, 220, 40, 200, sharp=True, seed=1)
    cv2.imwrite("in/two.png", image)
    ran = synth("in", "--align", "--detector", "marker", "--out", "o", "--blur", "linear")
    assert ran.code == 4
    assert "nobody.png shows no face" in ran.err
    assert "1 faces, 1 skipped (1 no_face)" in ran.err
    (row,) = table(tmp_path / "o", "linear")
    assert row["index"] == "1"
    # The larger of the two, and only what is within its border.
    clean = cv2.imread(str(tmp_path / "o" / row["clean_file"])).astype(float)
    inside = image[65:215, 245:395]
    wanted = cv2.resize(inside, (112, 112), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(clean.ravel(), wanted.ravel())[0, 1] > 0.9
    facts = json.loads((tmp_path / "o" / "dataset.json").read_text())
    assert facts["detector"] == {"name": "marker", "sha256": ""}
    assert facts["skipped"] == [{"file": "in/nobody.png", "reason": "no_face"}]
    # Without --align they are no crops.
    ran = synth("in", "--out", "o2")
    assert ran.code == 3
    assert "in/two.png is 500x300 and not a square face crop" in ran.err
    assert "--align" in ran.err


def test_exit_codes(synth, run, crops, tmp_path):
    (tmp_path / "empty").mkdir()
    (crops / "p0" / "bad.jpg").write_bytes(b"no picture")
    for arguments, code, message in (
        (("empty", "--out", "o"), 3, "holds no pictures"),
        (("nowhere", "--out", "o"), 3, "nowhere"),
        (("in/p0/bad.jpg", "--out", "o1"), 3, "bad.jpg"),
        (("in", "--out", "o2"), 4, "bad.jpg"),
        (("in", "--out", "o3", "--blur", "linera"), 2, "did you mean 'linear'"),
        (("in", "--out", "o3", "--resume", "--overwrite"), 2, "not both"),
        (("in", "--out", "o3", "--detector", "marker"), 2, "goes with --align"),
        (("in", "--out", "o3", "--val", 1), 2, "--val is a share"),
        (("in", "--out", "o3", "--device", "tpu"), 2, "unknown device 'tpu'"),
        (("in", "--out", "in"), 2, "choose another --out"),
        (("in", "--out", "o2"), 2, "use --resume to continue it, --overwrite to begin anew"),
    ):
        ran = synth(*arguments)
        assert (ran.code, message in ran.err) == (code, True), (arguments, ran)
        assert "Traceback" not in ran.err
    assert not (tmp_path / "o3").exists()
    assert not (tmp_path / "o").exists()
    assert synth("in", "--out", "o2", "--overwrite", "--seed", 1).code == 4
    ran = synth("in", "--out", "o2", "--resume", "--seed", 1)
    assert (ran.code, "o2 is complete" in ran.err) == (4, True)
    ran = run("synth", "in", "--out", "o3", "--embedder", "nobody")
    assert (ran.code, "no embedder is called 'nobody'" in ran.err) == (2, True)


def test_an_embedder_for_another_size_is_refused_before_anything_is_written(run, crops, tmp_path):
    onnx = pytest.importorskip("onnx")
    info = [
        onnx.helper.make_tensor_value_info(name, 1, shape)
        for name, shape in (("x", ["n", 3, 160, 160]), ("y", ["n", 3]))
    ]
    node = onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    graph = onnx.helper.make_graph([node], "g", [info[0]], [info[1]])
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, tmp_path / "facenet.onnx")
    ran = run("synth", crops, "--out", tmp_path / "o", "--embedder", tmp_path / "facenet.onnx")
    assert (ran.code, "it takes crops of 160x160" in ran.err) == (5, True)
    assert not (tmp_path / "o").exists()


def test_a_full_disk_is_one_line_with_the_way_out(synth, crops, monkeypatch):
    def full(path, picture):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("blurgate.training.layout.write_picture", full)
        ran = synth("in", "--out", "o")
    assert ran.code == 5
    (line,) = ran.err.splitlines()
    assert "No space left on device; what o holds is kept" in line
    assert "--resume" in line
    assert synth("in", "--out", "o", "--resume").code == 0


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_folder_that_cannot_be_made_is_no_full_disk(synth, crops):
    ran = synth("in", "--aligned", "--out", "/proc/z")  # not even root can
    assert ran.code == 5
    assert ran.err == "blurgate: error: [Errno 2] No such file or directory: '/proc/z'\n"


def test_paths_on_standard_input(synth, crops, tmp_path, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("in/p1/0.png\nin/p0/1.png\n"))
    assert synth("-", "--out", "o", "--blur", "linear").code == 0
    assert len(table(tmp_path / "o", "linear")) == 2


def test_figures(synth, crops, tmp_path):
    pytest.importorskip("matplotlib")
    assert synth("in", "--out", "o", "--blur", "linear", "--plot").code == 0
    for name in ("labels.png", "labels_linear.png"):
        assert cv2.imread(str(tmp_path / "o" / name)) is not None


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_continued_to_the_same_bytes(synth, crops, installed, tmp_path, how):
    environment = installed("tiny_embedder")
    arguments = ["in", "--per-image", "40", "--even", "--blur", "lowres"]
    assert synth(*arguments, "--out", "whole").code == 0
    command = [sys.executable, "-m", "blurgate", "synth", *arguments, "--out", "o"]
    command += ["--embedder", "tiny", "--resume", "--workers", "2"]
    pipe = subprocess.PIPE
    running = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=pipe, text=True)
    journal = tmp_path / "o" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and running.poll() is None:
        if journal.is_file() and len(list((tmp_path / "o" / "blur_lowres").glob("*"))) > 100:
            break
        time.sleep(0.01)
    running.send_signal(how)
    _, err = running.communicate(timeout=60)
    assert running.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 130), err
    assert journal.is_file(), "it was over before it could be stopped"
    again = subprocess.run(
        command, cwd=tmp_path, env=environment, stderr=pipe, text=True, timeout=100, check=False
    )
    assert again.returncode == 0, again.stderr
    assert files(tmp_path / "o") == files(tmp_path / "whole")


@pytest.mark.shared
def test_photos_with_real_models(run, shared, tmp_path):
    weights = shared / "data" / "weights"
    photos = sorted((shared / "data" / "faces_in_frame").glob("*.jpg"))[:12]
    ran = run(
        "synth", *photos, shared / "data" / "scenes" / "12003.jpg", "--align", "--out",
        tmp_path / "o", "--detector", weights / "scrfd_2.5g_bnkps.onnx",
        "--embedder", weights / "arcface.onnx", "--blur", "gaussian", "--per-image", 4,
    )  # fmt: skip
    assert ran.code == 4
    assert "12003.jpg shows no face" in ran.err
    rows = table(tmp_path / "o", "gaussian")
    assert len(rows) == 48
    assert len({row["identity"] for row in rows}) < 12  # names with numbers
    sigma = [json.loads(row["parameters"])["blur"]["sigma_px"] for row in rows]
    label = [float(row["label"]) for row in rows]
    rank = np.corrcoef(np.argsort(np.argsort(sigma)), np.argsort(np.argsort(label)))[0, 1]
    assert rank > 0.9
