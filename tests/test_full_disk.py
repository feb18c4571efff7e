"""A disk that is full, for real: a small tmpfs, which only root on Linux may mount.

Every command must say it in one line, leave what it has written valid, and go on with --resume once
there is room, to what an undisturbed run gives.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.host import get_host

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
FILTER = ("--detector", "marker", "--model", "laplacian", "--workers", "2", "--quiet")
SYNTH = ("--embedder", "tiny", "--blur", "gaussian", "--workers", "2", "--val", "0.2", "--quiet")
TRAIN = ("--plugin", "tiny", "--epochs", "2", "--batch", "8", "--workers", "1", "--device", "cpu")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux may mount a tmpfs"
)


def mount(*options):
    return subprocess.run(["mount", *map(str, options)], capture_output=True, text=True, check=True)


@pytest.fixture
def disk(tmp_path):
    """Mount a disk of so many KB at tmp_path/disk; called again it changes the size or the mode."""
    place = tmp_path / "disk"
    mounted = []

    def resize(kilobytes, mode="rw"):
        place.mkdir(exist_ok=True)
        options = f"size={kilobytes}k,{mode}"
        try:
            if mounted:
                mount("-o", f"remount,{options}", place)
            else:
                mount("-t", "tmpfs", "-o", options, "blurgate-test", place)
                mounted.append(place)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a tmpfs cannot be mounted here: {error}")
        return place

    yield resize
    for path in mounted:
        subprocess.run(["umount", path], check=True)


@pytest.fixture(scope="module")
def content(load):
    """Digests of the files of a result, without what may differ; of scripts/check_faults.py."""
    return load(ROOT / "scripts/check_faults.py").content


@pytest.fixture
def tiny(load, monkeypatch):
    """The module of the embedder `tiny`."""
    monkeypatch.setattr(cv2, "setNumThreads", lambda n: None)  # it is the whole process's
    module = load(DATA / "tiny_embedder.py")
    get_host().add(module, "tiny-plugin")
    yield module
    get_host().remove("tiny-plugin")


def said_so(ran):
    """Check what a command says when the disk is full."""
    assert ran.code == 5, (ran.code, ran.err)
    (line,) = ran.err.splitlines()
    assert line.startswith("blurgate: error: ")
    assert "No space left on device" in line
    assert "make room" in line
    assert "--resume" in line


def faces(marker, folder, count):
    folder.mkdir()
    for i in range(count):
        image = np.full((160, 260, 3), 60, np.uint8)
        marker.draw(image, 10, 20, 100, sharp=i % 3 > 0, seed=i)
        cv2.imwrite(str(folder / f"{i:02d}.png"), image)


# 4 KB: no table; 8: no picture; 60: in the middle of pictures; None: for want of the last page.
@pytest.mark.parametrize("kilobytes", [4, 8, 60, None])
def test_filter(disk, run, marker, content, tmp_path, monkeypatch, kilobytes):
    faces(marker, tmp_path / "in", 12)
    monkeypatch.chdir(tmp_path)
    command = ("filter", "in", *FILTER, "--threshold", "0.4", "--keep-rejected", "--out")
    if kilobytes is None:
        assert run(*command, disk(9999) / "o").code == 0
        facts = os.statvfs("disk")
        kilobytes = (facts.f_blocks - facts.f_bfree) * facts.f_frsize // 1024 - 4
        shutil.rmtree("disk/o")
    out = disk(kilobytes) / "o"
    said_so(run(*command, out))
    names = {path.name for path in out.rglob("*")}
    assert not [name for name in names if name.endswith(".tmp")]
    for path in out.rglob("*.png"):
        assert cv2.imread(str(path)) is not None, f"{path.name} is half a picture"
    if (out / "faces.csv").exists():
        text = (out / "faces.csv").read_text()
        assert text in {"", text.rstrip("\n") + "\n"}
        assert all(len(row) == 15 for row in csv.reader(text.splitlines()))
    disk(9999)
    assert run(*command, out, "--resume").code == 0
    assert run(*command, "whole").code == 0
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize("kilobytes", [4, 8])
@pytest.mark.parametrize("option", ["--csv", "--jsonl", "--parquet"])
def test_score(disk, run, marker, tmp_path, monkeypatch, kilobytes, option):
    if option == "--parquet":
        pytest.importorskip("pyarrow")
    faces(marker, tmp_path / "in", 1)
    names = [f"in/{i:03d}.png" for i in range(150)]
    for name in names:
        (tmp_path / name).exists() or (tmp_path / name).hardlink_to(tmp_path / "in/00.png")
    monkeypatch.chdir(tmp_path)
    command = ("score", "in", *FILTER, option)
    out = disk(kilobytes) / f"o.{option[2:]}"
    said_so(run(*command, out))
    if option == "--csv" and out.exists():
        text = out.read_text()
        assert all(len(row) == 10 for row in csv.reader(text.splitlines()))
    disk(9999)
    assert run(*command, out, "--resume").code == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    whole = tmp_path / f"whole.{option[2:]}"
    assert run(*command, whole).code == 0
    assert out.read_bytes() == whole.read_bytes()


def test_addresses(disk, run, marker, content, tmp_path, monkeypatch):
    """There is no room at the address, then none to take down what is at one."""
    pytest.importorskip("fsspec")
    faces(marker, tmp_path / "in", 12)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLURGATE_WORK_DIR", str(tmp_path / "work"))
    place = disk(60)
    command = ("filter", "in", *FILTER, "--threshold", "0.4", "--shard", "1/1", "--out")
    there = (place / "out").as_uri()
    ran = run(*command, there)
    assert ran.code == 5, ran.err
    assert "No space left on device; what was done is kept, so mend it and run" in ran.err
    disk(9999)
    assert run(*command, there, "--resume").code == 0
    assert run(*command, "whole").code == 0
    assert content(place / "out") == content(tmp_path / "whole")
    (tmp_path / "away").mkdir()
    shutil.move(place / "out", tmp_path / "away/out")
    disk(8)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    said_so(run("merge", (tmp_path / "away/out").as_uri(), "--out", "joined"))
    assert (list(place.iterdir()), (tmp_path / "joined").exists()) == ([], False)


def test_annotated_and_cut_videos(disk, run, marker, load, content, tmp_path, monkeypatch):
    faults = load(ROOT / "scripts/check_faults.py")
    (tmp_path / "in").mkdir()
    faults.clip(tmp_path, {"marker_plugin": marker})
    monkeypatch.chdir(tmp_path)
    command = ("filter", "in", *FILTER, "--threshold", "0.4", "--crops", "none")
    command = (*command, "--annotate", "--cut", "--out")
    out = disk(48) / "o"
    said_so(run(*command, out))
    assert not list(out.rglob("*.tmp")) + list(out.rglob("*.mp4"))
    disk(9999)
    assert run(*command, out, "--resume").code == 0
    assert run(*command, "whole").code == 0
    assert content(out).keys() == content(tmp_path / "whole").keys()
    assert len(list(out.rglob("*.mp4"))) == 2


def crops(tiny, folder, count):
    for i in range(count):
        path = folder / f"p{i // 2}/{i % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), tiny.draw(112, i))


@pytest.mark.parametrize("kilobytes", [4, 300, 700])
def test_synth(disk, run, tiny, content, tmp_path, monkeypatch, kilobytes):
    crops(tiny, tmp_path / "in", 40)
    monkeypatch.chdir(tmp_path)
    out = disk(kilobytes) / "o"
    said_so(run("synth", "in", *SYNTH, "--out", out))
    assert not list(out.rglob("*.tmp"))
    assert not list(out.glob("label_*/label/*"))
    disk(9999)
    assert run("synth", "in", *SYNTH, "--out", out, "--resume").code == 0
    assert run("synth", "in", *SYNTH, "--out", "whole").code == 0
    assert content(out) == content(tmp_path / "whole")


@pytest.fixture(scope="module")
def trained(load, tmp_path_factory):
    """A dataset, and what training on it gives; the plugins stay registered."""
    for needed in ("torch", "safetensors", "lightning_fabric", "onnxscript"):
        pytest.importorskip(needed)
    from blurgate.training.faces import FaceReader, list_faces
    from blurgate.training.labels import Labeller
    from blurgate.training.making import Recipe
    from blurgate.training.synth import run_synth

    tiny, backbone = (load(DATA / f"tiny_{name}.py") for name in ("embedder", "backbone"))
    place = tmp_path_factory.mktemp("train")
    crops(tiny, place / "in", 16)
    get_host().add(backbone, "tiny-backbone")
    run_synth(
        list_faces([str(place / "in")], val=0.2), Recipe(("gaussian",)), place / "set",
        reader=FaceReader(112), labeller=Labeller(tiny.TinyEmbedder()),
    )  # fmt: skip
    yield place
    get_host().remove("tiny-backbone")


# 8 KB: no checkpoint at all; 48: one of two.
@pytest.mark.parametrize("kilobytes", [8, 48])
def test_train(disk, run, trained, content, monkeypatch, kilobytes):
    monkeypatch.chdir(trained)
    command = ("train", "--data", "set", *TRAIN, "--quiet", "--out")
    if not Path("whole").exists():
        assert run(*command, "whole").code == 0
    out = disk(kilobytes) / "o"
    said_so(run(*command, out))
    assert not list(out.rglob("*.tmp"))
    assert not list(out.rglob("*.onnx"))
    disk(9999)
    assert run(*command, out, "--resume").code == 0
    assert content(out) == content(trained / "whole")


def test_a_disk_that_is_read_only(disk, run, marker, tiny, tmp_path, monkeypatch):
    faces(marker, tmp_path / "in", 2)
    crops(tiny, tmp_path / "faces", 2)
    monkeypatch.chdir(tmp_path)
    disk(64)
    place = disk(64, "ro")
    for command, out in (
        (("filter", "in", *FILTER, "--threshold", "0.4", "--out"), place / "o"),
        (("score", "in", *FILTER, "--csv"), place / "o.csv"),
        (("synth", "faces", *SYNTH[:6], "--out"), place / "o"),
    ):
        ran = run(*command, out)
        assert (ran.code, len(ran.err.splitlines())) == (5, 1), ran.err
        assert "Read-only file system" in ran.err
        assert str(out) in ran.err
