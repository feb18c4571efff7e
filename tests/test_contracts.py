"""Every built-in plugin through the contract that other people's plugins have to keep."""

from __future__ import annotations

import csv
import json

import pytest

from blurgate.host import BUILTIN, Host
from blurgate.interfaces import ModelFile, ModelInfo
from blurgate.testing import checks

HOST = Host(outside=False)
TORCH = 'it needs torch: pip install "blurgate[train]"'
EXPORTED = {"mobilenetv2_0.25", "squeezenet1_1", "yolov5n_xx", "edgenext_xx_small", "resnet18"}
"""One of each architecture; EfficientNet-Lite0 is made of MobileNetV2's blocks."""


def names(kind):
    return [entry.name for entry in HOST.registry(kind)]


def every(kind, wanted=None, **facts):
    found = [check for name in wanted or names(kind) for check in checks(kind, name, **facts)]
    return pytest.mark.parametrize("check", found, ids=str)


@every("scorer", [name for name in names("scorer") if name != "onnx"])
def test_scorers(check):
    check()


def read_csv(path):
    kinds = {"name": str, "n": int, "x": float}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: kinds[key](value) if value else None for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_parquet(path):
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


READERS = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet}


@pytest.mark.parametrize(
    "check",
    [c for name in names("sink") for c in checks("sink", name, read=READERS[name])],
    ids=str,
)
def test_sinks(check):
    if check.plugin == "parquet":
        pytest.importorskip("pyarrow")
    check()


@every("backbone")
def test_backbones(check, one_thread):
    if check.name == "exports-to-onnx" and check.plugin not in EXPORTED:
        pytest.skip("another backbone of the same blocks is exported")
    check()


@every("loss")
def test_losses(check):
    check()


@every("synthesizer")
def test_synthesizers(check):
    check()


@pytest.mark.parametrize(
    "check",
    [c for module in BUILTIN["command"] for c in checks("command", module)],
    ids=lambda check: f"{check.plugin.rpartition('.')[2]}-{check.name}",
)
def test_commands(check):
    check()


def weights(shared, name):
    return ModelFile(shared / "data" / "weights" / name, ModelInfo(name, "0" * 64))


@pytest.mark.shared
def test_the_detector(shared):
    data = pytest.importorskip("insightface.data", reason="it has a photo with six faces")
    facts = {
        "model": weights(shared, "scrfd_500m_bnkps.onnx"),
        "pictures": [data.get_image("t1")[::2, ::2].copy()],
    }
    for check in checks("detector", "scrfd", **facts):
        check()


@pytest.mark.shared
def test_the_embedder(shared):
    for check in checks("embedder", "arcface", model=weights(shared, "arcface.onnx")):
        check()
