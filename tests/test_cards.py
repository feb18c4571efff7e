from __future__ import annotations

import json
import math
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from blurgate.cards import (
    Card,
    InputCard,
    OutputCard,
    facts_of,
    read_card,
)
from blurgate.catalogue import get_manifest
from blurgate.cli.columns import size_text
from blurgate.errors import WeightsError


def identity(**metadata: str) -> bytes:
    """An ONNX file as the onnx package writes it, with a weight to step over."""
    node = helper.make_node("Add", ["x", "w"], ["y"])
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", floats, ["n", 300])],
        [helper.make_tensor_value_info("y", floats, ["n", 300])],
        [helper.make_tensor("w", floats, [300], np.zeros(300, np.float32))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


FULL = {
    "kind": "scorer",
    "runner": "onnx",
    "name": "fqa",
    "threshold": 0.4,
    "licence": "MIT",
    "source": "https://example.org",
    "input": {"size": [96, 112], "color": "bgr", "mean": [1, 2, 3], "std": 2},
    "output": {
        "type": "bins",
        "reduce": "none",
        "tensor": "q",
        "range": [10, 110],
        "centres": [0.1, 0.9],
    },
    "about": {"epochs": 3, "anything": [1, {"x": None}]},
}


def test_every_key_is_read():
    card = read_card(FULL, "card.json")
    assert (card.kind, card.runner, card.name, card.threshold) == ("scorer", "onnx", "fqa", 0.4)
    assert (card.licence, card.source) == ("MIT", "https://example.org")
    assert card.input.size == (96, 112)
    assert card.input.color == "bgr"
    assert card.input.mean == (1.0, 2.0, 3.0)
    assert card.input.std == (2.0, 2.0, 2.0)
    assert card.output is not None
    assert card.output.type == "bins"
    assert card.output.tensor == "q"
    assert card.output.range == (10.0, 110.0)
    assert card.output.centres == (0.1, 0.9)
    assert card.about == {"epochs": 3, "anything": [1, {"x": None}]}


def test_what_is_not_said_has_the_documented_default():
    card = read_card({}, "card.json")
    assert card.kind is None
    assert card.threshold is None
    assert card.output is None
    assert card.input.size == (112, 112)
    assert card.input.color == "rgb"
    assert card.input.mean == card.input.std == (127.5, 127.5, 127.5)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"treshold": 0.4},
            r"m\.json: the card has an unknown key 'treshold'; did you mean 'thresh",
        ),
        ({"input": {"colour": "rgb"}}, r"unknown key 'input\.colour'; did you mean 'color'\?"),
        (
            {"output": {"type": "degree", "centers": []}},
            r"'output\.centers'; did you mean 'centres'",
        ),
        ({"qqq": 1}, r"unknown key 'qqq'; known: kind, runner, name, threshold"),
        ({"kind": "score"}, r'kind must be one of detector, scorer, embedder, not "score"'),
        ({"kind": ["scorer"]}, r"kind must be one of"),
        ({"threshold": 1.5}, r"threshold must be a number in \[0, 1\], not 1\.5"),
        ({"threshold": math.nan}, r"threshold must be a number in \[0, 1\], not NaN"),
        ({"threshold": True}, r"threshold must be a number in \[0, 1\], not true"),
        ({"threshold": "0.4"}, r'threshold must be a number in \[0, 1\], not "0\.4"'),
        ({"name": 3}, r"name must be a text, not 3"),
        ({"input": []}, r"input must be an object, not \[\]"),
        ({"input": {"size": [112]}}, r"input\.size must be 2 numbers in \[1, 4096\], not \[112\]"),
        ({"input": {"size": [0, 112]}}, r"input\.size must be 2 numbers"),
        ({"input": {"color": "grey"}}, r"input\.color must be one of rgb, bgr"),
        ({"input": {"mean": [1, 2]}}, r"input\.mean must be 3 numbers in .*, not \[1, 2\]"),
        ({"input": {"mean": math.inf}}, r"input\.mean must be 3 numbers in .*, not \[Infinity"),
        ({"input": {"size": [112.5, 112]}}, r"input\.size must be two whole numbers, not \[112\.5"),
        (
            {"input": {"std": 0}},
            r"input\.std must be 3 numbers in \[1e-06, 1e\+06\], not \[0, 0",
        ),
        ({"input": {"mean": 1e308}}, r"input\.mean must be 3 numbers in \[-1e\+06, 1e\+06\]"),
        ({"output": {}}, r"output\.type must be one of degree, quality, bins, embedding, not null"),
        (
            {"output": {"type": "degree", "reduce": "sum"}},
            r"output\.reduce must be one of mean, none",
        ),
        ({"output": {"type": "degree", "range": [1, 1]}}, r"range must be two different numbers"),
        ({"output": {"type": "bins", "centres": [2]}}, r"centres must be some numbers in \[0, 1\]"),
    ],
)
def test_a_wrong_card_is_refused_with_the_place_and_the_way_out(facts, message):
    with pytest.raises(WeightsError, match=message) as caught:
        read_card(facts, "m.json")
    assert caught.value.path == "m.json"
    assert caught.value.exit_code == 5


def test_the_card_beside_the_file_wins_over_the_metadata(tmp_path: Path):
    path = tmp_path / "net_2.5g.onnx"
    data = identity(blurgate='{"kind": "scorer", "threshold": 0.2}')
    path.write_bytes(data)
    assert facts_of(path, data) == {"kind": "scorer", "threshold": 0.2}
    (tmp_path / "net_2.5g.json").write_text('{"threshold": 0.7, "name": "mine"}')
    assert facts_of(path, data) == {"kind": "scorer", "threshold": 0.7, "name": "mine"}


def test_a_byte_order_mark_is_no_part_of_a_card(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"threshold": 0.7}', encoding="utf-8-sig")
    assert facts_of(tmp_path / "a.onnx", b"not onnx") == {"threshold": 0.7}


def test_a_file_without_cards_has_no_facts(tmp_path: Path):
    assert facts_of(tmp_path / "a.onnx", b"not onnx") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"the card in .*a\.json is not JSON"),
        ("[" * 100_000, r"is not JSON"),
        ("[1]", r"the card in .*a\.json is not a JSON object"),
        ('{"tresh": 1}', r"a\.json: the card has an unknown key 'tresh'"),
    ],
)
def test_a_damaged_card_beside_the_file_is_named(tmp_path: Path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(WeightsError, match=message):
        facts_of(tmp_path / "a.onnx", b"")


def test_a_card_that_is_not_text_is_named(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightsError, match=r"cannot read the card .*a\.json"):
        facts_of(tmp_path / "a.onnx", b"")


def test_damaged_metadata_is_named():
    with pytest.raises(WeightsError, match=r"the card in net\.onnx is not JSON"):
        facts_of(Path("net.onnx"), identity(blurgate="no"))
    assert facts_of(Path("net.onnx"), identity(other="no")) == {}
    assert facts_of(Path("net.onnx"), identity(blurgate=json.dumps(FULL))) == FULL


DOCS = Path(__file__).resolve().parents[1] / "docs" / "models.md"


def test_the_documented_card_is_a_card():
    text = DOCS.read_text(encoding="utf-8")
    example = json.loads(text.partition("```json\n")[2].partition("```")[0])
    card = read_card(example, "docs")
    assert card.kind == "scorer"
    assert card.output is not None


def test_every_key_is_documented():
    text = DOCS.read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([a-z.]+)`", row)}
    keys = {entry.name for entry in fields(Card)} - {"input", "output"}
    keys |= {f"input.{entry.name}" for entry in fields(InputCard)}
    keys |= {f"output.{entry.name}" for entry in fields(OutputCard)}
    assert keys <= documented
    kinds = {"degree", "quality", "bins", "embedding"}
    assert {name for name in documented if "." in name} <= keys
    assert kinds <= documented


def test_the_documented_models_are_the_manifests():
    text = DOCS.read_text(encoding="utf-8")
    manifest = get_manifest()
    for kind, names in manifest.defaults.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {kind} |")]
        assert re.findall(r"`([^`]+)`", row) == list(names)
    for pack in manifest.packs:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{pack.name}` |")]
        assert size_text(pack.bytes) in row
