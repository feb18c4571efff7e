"""Other people's distributions: installed by pip, found, and used by name for every kind."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
COOKBOOK = ROOT / "docs" / "cookbook"
EXAMPLE = ROOT / "examples" / "plugin"
MADE = {
    "backbone": "plain-cnn",
    "command": "count",
    "detector": "whole-picture",
    "embedder": "thumbnail",
    "loss": "log-cosh",
    "scorer": "gradient",
    "sink": "tsv",
    "synthesizer": "box",
}
PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "cookbook-plugins"
version = "2.3"

[project.entry-points.blurgate]
{points}

[tool.setuptools]
py-modules = {modules}
"""


def pip_install(site, *sources):
    pip = [sys.executable, "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, *offline, *map(str, sources)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Environment in which the cookbook and the example distribution are installed."""
    for package in ("pip", "setuptools"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"this environment has no {package}")
    folder = tmp_path_factory.mktemp("outside")
    book = folder / "book"
    book.mkdir()
    modules = []
    for page in sorted(COOKBOOK.glob("*.md")):
        if page.stem == "backbone":
            continue  # that page is the example distribution
        text = page.read_text(encoding="utf-8")
        name, code = re.search(r"```python\n# (\w+)\.py\n(.*?)```", text, re.DOTALL).groups()
        (book / f"{name}.py").write_text(code, encoding="utf-8")
        modules.append(name)
    points = "\n".join(f'{name.replace("_", "-")} = "{name}"' for name in modules)
    (book / "pyproject.toml").write_text(PYPROJECT.format(points=points, modules=modules))
    copy = folder / "plain_cnn"  # pip builds in the folder
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__*"))
    pip_install(folder / "site", book, copy)
    found = {**os.environ, "PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1"}
    del found["BLURGATE_DISABLED_PLUGINS"]
    return {**found, "BLURGATE_HOME": str(folder / "models")}


@pytest.fixture
def blurgate(environment, tmp_path):
    """Run `blurgate ARGUMENTS...` with the plugins installed; gives what it printed."""

    def run(*arguments, **more):
        command = [sys.executable, "-P", "-m", "blurgate", *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**environment, **more},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def draw_faces(folder, people):
    for person in range(people):
        for i in range(2):
            rng = np.random.default_rng([person, i])
            coarse = rng.integers(0, 256, (12, 12, 3), np.uint8)
            image = cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_NEAREST)
            path = folder / f"p{person}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)


def test_every_kind_is_listed_with_where_it_comes_from(blurgate):
    report = json.loads(blurgate("plugins", "--json"))
    assert report["broken"] == []
    outside = {row["kind"]: row for row in report["plugins"] if row["distribution"] != "blurgate"}
    assert {kind: row["name"] for kind, row in outside.items()} == MADE
    for kind, row in outside.items():
        own = kind == "backbone"
        assert row["distribution"] == ("blurgate-plain-cnn" if own else "cookbook-plugins")
        assert row["version"] == ("0.1.0" if own else "2.3")
        assert Path(row["file"]).name == f"{row['module']}.py"
    table = blurgate("plugins", "--verbose")
    assert re.search(
        r"backbone +plain-cnn +blurgate-plain-cnn +0\.1\.0 +blurgate_plain_cnn ", table
    )
    off = blurgate("plugins", "--json", BLURGATE_DISABLED_PLUGINS="plain-cnn,tsv-sink")
    assert {row["plugin"] for row in json.loads(off)["disabled"]} == {"plain-cnn", "tsv-sink"}
    assert "plain-cnn" not in {row["name"] for row in json.loads(off)["plugins"]}


def test_detector_scorer_sink_and_command(blurgate, tmp_path):
    draw_faces(tmp_path / "portraits", 2)
    soft = cv2.GaussianBlur(cv2.imread(str(tmp_path / "portraits/p0/0.png")), (0, 0), 12)
    cv2.imwrite(str(tmp_path / "portraits/soft.png"), soft)
    names = ("--detector", "whole-picture", "--model", "gradient", "--table", "tsv", "--quiet")
    blurgate("filter", tmp_path / "portraits", "--out", tmp_path / "out", *names)
    with (tmp_path / "out" / "faces.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 5
    wanted = {Path(row["source"]).name == "soft.png": row["decision"] for row in rows}
    assert wanted == {True: "reject", False: "keep"}
    blurgate("filter", tmp_path / "portraits", "--out", tmp_path / "two", *names[:4])
    assert blurgate("count", tmp_path / "two" / "faces.csv").split() == (
        ["keep", "4", "review", "0", "reject", "1"]
    )


@pytest.mark.slow
@pytest.mark.timeout(400)  # five commands that start torch
def test_a_third_partys_backbone_is_trained_exported_measured_and_used(blurgate, tmp_path):
    for package in ("torch", "lightning_fabric", "safetensors", "yaml", "onnx", "onnxscript"):
        pytest.importorskip(package, reason='it needs: pip install "blurgate[train]"')
    pytest.importorskip("onnxruntime", reason='it needs: pip install "blurgate[cpu]"')
    draw_faces(tmp_path / "faces", 8)
    trainset, run = tmp_path / "trainset", tmp_path / "run"
    synth = ("--blur", "box", "--embedder", "thumbnail", "--val", 0.25, "--out", trainset)
    blurgate("synth", tmp_path / "faces", *synth, "--per-image", 2, "--workers", 1)
    labels = trainset / "label_box" / "label" / "data_label.csv"
    with labels.open(newline="", encoding="utf-8") as file:
        assert {row["embedder"] for row in csv.DictReader(file)} == {"thumbnail"}
    train = ("--plugin", "plain-cnn", "--loss", "log-cosh", "--data", trainset, "--out", run)
    short = ("--epochs", 2, "--batch", 8, "--workers", 1, "--device", "cpu", "--quiet")
    blurgate("train", *train, *short)
    model = run / "plain-cnn.onnx"
    card = json.loads((run / "plain-cnn.json").read_text(encoding="utf-8"))
    assert (card["kind"], card["name"]) == ("scorer", "plain-cnn")
    blurgate(
        *("filter", tmp_path / "faces", "--out", tmp_path / "out", "--keep-rejected", "--quiet"),
        *("--detector", "whole-picture", "--model", model),
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["model"]["name"] == "plain-cnn"
    assert summary["totals"]["faces"] == 16
    quick = ("--batch", 1, "--threads", 1, "--rounds", 1, "--no-torch", "--json", "--quiet")
    measured = json.loads(blurgate("bench", model, "--data", trainset, *quick))
    assert [row["name"] for row in measured["models"]] == ["plain-cnn"]


@pytest.mark.slow
def test_the_examples_own_tests_pass(environment, tmp_path):
    for package in ("torch", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason='it needs: pip install "blurgate[train,cpu]"')
    shutil.copy(EXAMPLE / "test_blurgate_plain_cnn.py", tmp_path)
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^1\d passed in", ran.stdout, re.MULTILINE), ran.stdout
